"""The contents of an index and the protocol of its store, on disk or on a server."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from shitu_cli.config.arguments import COSINE, NATURAL, RECALL, require
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.features.unit_length import SHORTEST, lengths, normalized
from shitu_cli.reporting import Reporter, SilentReporter

Texts = str | Collection[str]  # a single one counts as a list of one

KINDS = ("flat", "hnsw", "ivf", "binary")

IDS_SHOWN = 10
MAX_SIZE = 65_536  # values of a vector
BLOCK = 8192  # vectors that are in memory at once: the features may be in a file larger than that
MAX_ID = 10**18 - 1  # of a vector: 18 digits, as the tables of an index hold them

AGAIN = ("build it again: ", Command("index build"))  # the hint for an index that cannot be used
EXTRACT = (Command("extract"), " writes such files")  # the hint for a file of features that cannot be used


@dataclass(frozen=True)
class Item:
    """One image of the index; `path` is "" if the index is from a program that does not store paths."""

    id: int
    label: str
    path: str


@dataclass(frozen=True)
class Match(Item):
    """An item that a search returned; `score` is the cosine similarity, in binary indexes the share of equal bits."""

    score: float


@dataclass(frozen=True)
class IndexManifest:
    """The properties of an index.

    `model` is the fingerprint of the model that computed the features, `search` the parameters chosen to reach
    `wanted_recall`, `recall` what they reached. `next_id` is None if a server numbers the items. `measured` is what
    an evaluation of the model says of thresholds (index/measured.py), None if nothing is known.
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
    measured: dict[str, Any] | None = None

    def fits(self, model: str) -> bool:
        """Return whether features of the model with this fingerprint may be compared with those of the index.

        Indexes of other programs do not say which model they belong to.
        """
        return self.model in ("", model)


def of_another_model(manifest: IndexManifest, place: str, other: object) -> DataError:
    """Return the error for an index whose vectors cannot be compared with those of `other`, a model or a file."""
    if os.path.abspath(str(other)) == os.path.abspath(manifest.model_path or os.devnull):
        why = f": {other} has changed since"
    else:
        why = f" ({manifest.model_path}) than {other}" if manifest.model_path else f" than {other}"
    return DataError(
        f"{place} was built with another model or preprocessing{why}, so their vectors cannot be compared",
        hint=AGAIN,
    )


@dataclass(frozen=True)
class BuildOptions:
    """How to build an index; approximate kinds are tuned until they find the share `recall` of the true neighbours.

    `measured` is what the index is to keep of the thresholds of its model.
    """

    kind: str = "flat"
    recall: float = 0.99
    model: str = ""
    model_path: str = ""
    measured: dict[str, Any] | None = None

    def manifest(self, size: int, *, count: int, next_id: int | None) -> IndexManifest:
        """Return the manifest of a new index of vectors of `size` values, in which nothing is measured yet."""
        return IndexManifest(
            self.kind, size, self.model, count, next_id, model_path=self.model_path, wanted_recall=self.recall
        )


class FeatureTable(NamedTuple):
    """Vectors float32 [N, D] of any length (an index normalises them), with the label and path of each."""

    features: np.ndarray
    labels: Sequence[str]
    paths: Sequence[str]

    def validate(self, source: Path | None = None) -> FeatureTable:
        """Return the table itself.

        Raises DataError naming `source` if it is empty, or its columns differ in length or are of other types.
        """
        where = "" if source is None else f"{source}: "
        if not isinstance(self.features, np.ndarray) or self.features.ndim != 2:
            raise DataError(f"{where}expected vectors as rows of an array [N, D]")
        count, size = self.features.shape
        if count and not 0 < size <= MAX_SIZE:
            raise DataError(f"{where}vectors of {size:,} values: an index takes 1 to {MAX_SIZE:,}")
        text = next((name for name in ("labels", "paths") if isinstance(getattr(self, name), (str, bytes))), None)
        if text is not None:
            raise DataError(f"{where}{text}: expected one for each vector, got a single text")
        if not count == len(self.labels) == len(self.paths):
            raise DataError(f"{where}{count} vectors, but {len(self.labels)} labels, {len(self.paths)} paths")
        if count == 0:
            raise DataError(f"{where}there are no vectors to index")
        for name, values in (("labels", self.labels), ("paths", self.paths)):
            other = next((value for value in values if not isinstance(value, str)), "")
            if not isinstance(other, str):
                raise DataError(f"{where}{name} must be text, got {other!r}", hint="convert them with str()")
        return self

    def distinct(self) -> FeatureTable:
        """Return the table with only the last row of each path; rows without a path all stay.

        Raises DataError for a vector that no index takes while its row is still known.
        """
        last = {path: number for number, path in enumerate(self.paths) if path}
        rows = [number for number, path in enumerate(self.paths) if not path or last[path] == number]
        if len(rows) == len(self.paths):
            return self
        labels, paths = [self.labels[n] for n in rows], [self.paths[n] for n in rows]
        return FeatureTable(unit_vectors(self.features[np.asarray(rows)], rows), labels, paths)


class Store(Protocol):
    """One index.

    A concurrent search sees each change whole or not at all, except if a store says otherwise. Methods raise
    UsageError if there is no index, DataError if it is damaged or the vectors have another size, EnvironmentProblem
    if a disk, a server or another writer prevents the operation.
    """

    place: str

    def manifest(self) -> IndexManifest:
        """Return the properties of the index."""

    def writing(self) -> AbstractContextManager[None]:
        """Return a context to hold while changing the index; refuses a second writer where two would conflict."""

    def check(self, options: BuildOptions) -> None:
        """Raise any error that `build` would raise for these options, before the features are computed."""

    def build(self, table: FeatureTable, options: BuildOptions, reporter: Reporter) -> None:
        """Replace the index by one of these vectors."""

    def add(self, table: FeatureTable, reporter: Reporter) -> int:
        """Add these vectors; return how many replaced one of the same path."""

    def find(self, paths: Texts = (), labels: Texts = (), ids: Collection[int] = ()) -> list[Item]:
        """Return the items that have one of the paths, labels or ids; none for those that are not there."""

    def remove(self, ids: Collection[int], reporter: Reporter) -> None:
        """Remove these items; the others keep their ids.

        Raises UsageError, and removes nothing, if one of them is not there or none would be left.
        """

    def items(self) -> Iterator[Item]:
        """Yield all items in order of id."""

    def label_count(self) -> int | None:
        """Return how many different labels there are; None if counting would read the whole index."""

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        """Return the best `top` matches of each vector [N, D], equal scores by id, without those below `threshold`."""

    def close(self) -> None:
        """Close files and connections."""


def check_options(options: BuildOptions) -> None:
    """Raise UsageError for an unknown kind of index, an impossible share of neighbours, or a model that is no text."""
    if options.kind not in KINDS:
        raise UsageError(f"--kind {options.kind}: expected one of {', '.join(KINDS)}")
    require(RECALL, recall=options.recall)
    if not (isinstance(options.model, str) and isinstance(options.model_path, str)):
        raise UsageError(
            "model and model_path of an index are texts", hint="model=extractor.fingerprint, model_path=str(path)"
        )


def new_ids(first: int, count: int) -> np.ndarray:
    """Return the ids int64 [count] from `first` on; DataError if an index cannot hold them."""
    if first + count - 1 > MAX_ID:
        raise DataError(f"the index has no ids left: the next one would be {first:,}", hint=AGAIN)
    return np.arange(first, first + count, dtype=np.int64)


def check_present(ids: Collection[int], there: Collection[int]) -> None:
    """Raise UsageError that names those ids that are not `there`."""
    if absent := sorted({*ids} - {*there}):
        more = f" and {len(absent) - IDS_SHOWN:,} more" if len(absent) > IDS_SHOWN else ""
        raise UsageError(f"not in the index: id {', '.join(map(str, absent[:IDS_SHOWN]))}{more}")


def leaves_nothing() -> UsageError:
    """Return the error for taking all vectors out of an index."""
    return UsageError("that would leave the index empty", hint=["build another in its place: ", Command("index build")])


def query_vectors(features: np.ndarray, manifest: IndexManifest, top: int, threshold: float | None) -> np.ndarray:
    """Return what is searched for as unit vectors [N, D].

    Raises DataError for vectors that cannot be compared with those of the index, UsageError for an
    impossible `top` or `threshold`.
    """
    require(NATURAL, top=top)
    require(COSINE, threshold=threshold)
    check_size(features, manifest)
    return unit_vectors(features)


def unit_vectors(features: np.ndarray, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Return vectors float32 [N, D] normalised to length one; `rows` are where they come from, counted from 0.

    Messages name a vector by its row, so that users find it in what they gave: without `rows` these are all of it.
    Raises DataError for vectors that are not finite, or so short that they have no direction.
    """
    if features.dtype.kind not in "fiub":
        raise DataError(f"vectors of type {features.dtype}: expected numbers")
    with np.errstate(over="ignore"):  # what is too large for float32 is not finite
        vectors = np.ascontiguousarray(features, np.float32)
    sizes, rows = lengths(vectors), range(len(vectors)) if rows is None else rows
    finite = np.isfinite(sizes)
    if not finite.all():
        raise DataError(
            f"vector {rows[int(np.argmin(finite))] + 1} is not finite",
            hint="compute the features again; a network gives such values after training at too high a learning rate",
        )
    if (short := sizes < SHORTEST).any():
        raise DataError(
            f"vector {rows[int(np.argmax(short))] + 1} is all zeros, so it is equally far from everything",
            hint="compute it again; rows of zeros may stand for images that could not be read",
        )
    # Rows that already have unit length keep their bits, so that scores equal those of evaluation.
    other = np.abs(sizes - 1) >= 1e-6
    if other.any():
        vectors = np.where(other[:, None], normalized(vectors), vectors)
    return vectors


def unit_blocks(
    features: np.ndarray, reporter: Reporter | None = None, what: str = "", *, size: int = BLOCK
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start, unit vectors from there), `size` at a time; `reporter` shows the progress of `what`.

    Raises the errors of `unit_vectors`.
    """
    with (reporter or SilentReporter()).progress(what, len(features), "vectors") as bar:
        for start in range(0, len(features), size):
            block = unit_vectors(features[start : start + size], range(start, len(features)))
            yield start, block
            bar.advance(len(block))


def check_vectors(features: np.ndarray) -> None:
    """Raise DataError for vectors that no index takes; called before something changes that would stay changed."""
    for _ in unit_blocks(features):
        pass


def check_size(features: np.ndarray, manifest: IndexManifest) -> None:
    """Raise DataError if vectors are not of the shape [N, D] with the size of the index."""
    if not isinstance(features, np.ndarray) or features.ndim != 2:
        got = f"one of shape {features.shape}" if isinstance(features, np.ndarray) else type(features).__name__
        raise DataError(f"expected vectors as rows of an array [N, {manifest.size}], got {got}")
    if features.shape[1] != manifest.size:
        raise DataError(
            f"the vectors have {features.shape[1]} values, the index {manifest.size}",
            hint=["use the model that the index was built with, or build it again: ", Command("index build")],
        )


def rank_matches(matches: Sequence[Match], threshold: float | None) -> list[Match]:
    """Return the matches best first, equal scores by id, without those below `threshold`."""
    near = [match for match in matches if threshold is None or match.score >= threshold]
    return sorted(near, key=lambda match: (-match.score, match.id))


def plain_text(text: str) -> str:
    """Return `text` as valid UTF-8: bytes that are not (as in names of files) become backslash escapes."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # lone surrogates that encode no byte, which JSON allows
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")
