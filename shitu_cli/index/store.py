"""What an index holds and answers, wherever it is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.features.unit_length import lengths, normalized
from shitu_cli.reporting import Reporter

KINDS = ("flat", "hnsw", "ivf", "binary")

AGAIN = ("build it anew: ", Command("index build"))  # the hint for an index that cannot be used


@dataclass(frozen=True)
class Item:
    """One picture of the index; `path` is "" where another program did not keep it."""

    id: int
    label: str
    path: str


@dataclass(frozen=True)
class Match(Item):
    """One hit: cosine similarity (share of equal bits for binary indexes), best first."""

    score: float


@dataclass(frozen=True)
class IndexManifest:
    """`model` is the fingerprint of what made the features; `search` the parameters chosen for the target recall.

    `next_id` is None where a server numbers the items.
    """

    kind: str
    size: int
    model: str
    count: int
    next_id: int | None
    search: dict[str, int] = field(default_factory=dict)
    recall: float | None = None
    model_path: str = ""
    wanted_recall: float = 0.99


@dataclass(frozen=True)
class BuildOptions:
    """How an index is to be built; approximate kinds are tuned until they find `recall` of the true neighbours."""

    kind: str = "flat"
    recall: float = 0.99
    model: str = ""
    model_path: str = ""


class FeatureTable(NamedTuple):
    """Vectors float32 [N, D] of any length (an index brings them to unit length), with the label and path of each."""

    features: np.ndarray
    labels: Sequence[str]
    paths: Sequence[str]

    def checked(self, source: Path | None = None) -> FeatureTable:
        """The same; DataError, naming its source, when it is empty or its columns differ in length."""
        where = "" if source is None else f"{source}: "
        count = len(self.features)
        if not count == len(self.labels) == len(self.paths):
            raise DataError(f"{where}{count} vectors, but {len(self.labels)} labels, {len(self.paths)} paths")
        if count == 0:
            raise DataError(f"{where}there are no vectors to index")
        return self

    def distinct(self) -> FeatureTable:
        """The same with each path once, as it came last; items without a path are all kept."""
        last = {path: number for number, path in enumerate(self.paths) if path}
        kept = [number for number, path in enumerate(self.paths) if not path or last[path] == number]
        if len(kept) == len(self.paths):
            return self
        labels, paths = [self.labels[n] for n in kept], [self.paths[n] for n in kept]
        return FeatureTable(self.features[np.asarray(kept)], labels, paths)


class Store(Protocol):
    """One index.

    Each change is seen whole or not at all by those who search meanwhile, except where a store says otherwise.
    Raises UsageError when there is no index, DataError when it is damaged or the vectors have another size,
    EnvironmentProblem when a disk, a server or another writer is in the way.
    """

    place: str

    def manifest(self) -> IndexManifest:
        """What kind of index this is and what made it."""

    def writing(self) -> AbstractContextManager[None]:
        """Held while the index is changed: refuses a second writer where two could harm each other."""

    def check(self, options: BuildOptions) -> None:
        """Raise what `build` would raise for these options, before the features are computed."""

    def build(self, table: FeatureTable, options: BuildOptions, reporter: Reporter) -> None:
        """Index these, in place of what was there."""

    def add(self, table: FeatureTable, reporter: Reporter) -> int:
        """Index these besides; a path that is there already is replaced. How many were."""

    def find(self, paths: Collection[str], labels: Collection[str], ids: Collection[int]) -> list[Item]:
        """Items that have one of the paths, labels or ids."""

    def remove(self, ids: Sequence[int], reporter: Reporter) -> None:
        """Take these out; the others keep their ids. UsageError when none would be left."""

    def items(self) -> Iterator[Item]:
        """All items by rising id."""

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        """The best `top` matches of each vector, equal scores by rising id; those below `threshold` left out."""

    def close(self) -> None:
        """Let go of files and connections."""


def check_kind(kind: str) -> None:
    """UsageError for a kind that no index can be of."""
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: expected one of {', '.join(KINDS)}")


def unit_vectors(features: np.ndarray, first: int = 0) -> np.ndarray:
    """float32 [N, D] of length one; `first` is the number of the first row in messages.

    Raises DataError for vectors that are not finite.
    """
    vectors = np.ascontiguousarray(features, np.float32)
    finite = np.isfinite(found := lengths(vectors))
    if not finite.all():
        raise DataError(f"vector {first + int(np.argmin(finite)) + 1} is not finite")
    # What has unit length already keeps its bits, so that scores equal evaluation's.
    other = np.abs(found - 1) >= 1e-6
    if other.any():
        vectors = np.where(other[:, None], normalized(vectors), vectors)
    return vectors


def check_size(features: np.ndarray, manifest: IndexManifest) -> None:
    """DataError when vectors [N, D] do not fit the index."""
    if features.shape[1] != manifest.size:
        raise DataError(
            f"the vectors have {features.shape[1]} values, the index {manifest.size}",
            hint=["use the model that the index was built with, or build it anew: ", Command("index build")],
        )


def ranked(found: Sequence[Match], threshold: float | None) -> list[Match]:
    """Best first, equal scores by rising id, without those below `threshold`."""
    kept = [match for match in found if threshold is None or match.score >= threshold]
    return sorted(kept, key=lambda match: (-match.score, match.id))


def plain_text(text: str) -> str:
    """Valid UTF-8, whatever the file's name."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte, as JSON can hold them
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")
