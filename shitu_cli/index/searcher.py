"""Search from a program: a model and an index that are opened once and shared by any number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shitu_cli.config.arguments import COSINE, COUNT, NATURAL, require
from shitu_cli.errors import DataError, UsageError
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Extractor, ImageInput, Images, listed
from shitu_cli.files import file_state
from shitu_cli.index import MILVUS, open_address
from shitu_cli.index.files import VECTORS, load_index
from shitu_cli.index.objects import answers_to
from shitu_cli.index.store import IndexManifest, Match, Store, of_another_model
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.index.verdict import VOTERS, Answer, judge

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config

__all__ = ["Answer", "FollowedIndex", "Searcher"]


class Searcher:
    """Finds what images show, by comparing them with an index.

        searcher = Searcher("inference", "index", threshold=0.6)
        answer = searcher.search("photo.jpg")[0]
        print(answer.label or "unknown", answer.verdict.confidence, answer.neighbours[0].path)

    Threads may share it: they read images side by side, and take turns only if an engine needs it. When another
    process changes the index, the next call uses the new one; each call answers from one complete generation.

    Args:
        model: An exported directory or file, or a checkpoint with its `config`; or an extractor that is open already.
        index: The directory of the index, or `milvus:http://host:19530`, or `milvus:gallery.db`.
        threshold: The lowest score (cosine) at which a neighbour counts; below it an image is unknown. None: never.
        voters: How many of the nearest neighbours vote for the label.
        detector: What finds the things in an image: an exported directory, a file, or a detector that is open already.
            Each of them is searched for like a separate image. None: the whole image is the one thing.
        collection: The name of an index in Milvus.
        config: The config of a checkpoint, or of a model exported by another program.
        threads: Compute threads of the model.

    Raises UsageError if there is no index or a value is impossible, DataError if the model or the index is damaged or
    they do not match.
    """

    def __init__(
        self,
        model: str | Path | Extractor = "inference",
        index: str | Path = "index",
        *,
        threshold: float | None = None,
        voters: int = VOTERS,
        detector: str | Path | Detector | None = None,
        collection: str = "shitu",
        config: Config | None = None,
        threads: int | None = None,
    ) -> None:
        require(COSINE, threshold=threshold)
        require(COUNT, voters=voters)
        if not isinstance(detector, str | Path | Detector | None):
            raise UsageError(f"detector={detector!r}: expected a path, or a Detector")
        self.place, self.threshold, self.voters = str(index), threshold, voters
        self.index: Index
        if str(index).startswith(MILVUS):
            self.index = _OneAtATime(open_address(str(index), collection))
        else:
            self.index = FollowedIndex(Path(os.path.abspath(index)))  # a notebook may change its directory
        self.extractor = model if isinstance(model, Extractor) else Extractor(model, config=config, threads=threads)
        self._check_model(self.index.manifest())
        self.detector = Detector(detector) if isinstance(detector, (str, Path)) else detector

    def search(self, images: Images, top: int = 5) -> list[Answer]:
        """Return an answer with the `top` neighbours for each image: a path, encoded bytes, a Pillow image or an array.

        A single image counts as a list of one. With a detector, `objects` of an answer are those to the things in the
        image. Raises DataError that names the first image that cannot be read.
        """
        if self.detector is None:
            return self.search_features(self.extractor.extract(images), top)
        answers = []
        for _, answer in self._answers(listed(images), top):
            if isinstance(answer, DataError):
                raise answer
            answers.append(answer)
        return answers

    def search_readable(self, images: Images, top: int = 5) -> list[Answer | DataError]:
        """Return for each image its answer, or the error that says why this one cannot be read."""
        answers = dict(self._answers(listed(images), top))
        return [answers[number] for number in range(len(answers))]

    def search_features(self, features: np.ndarray, top: int = 5) -> list[Answer]:
        """Return an answer for each row of the features float32 [N, D] of this model; all from one generation."""
        require(NATURAL, top=top)
        neighbours, manifest = self.index.search(features, max(top, self.voters))
        self._check_model(manifest)
        return [Answer(judge(matches, self.threshold, self.voters), matches[:top]) for matches in neighbours]

    def _answers(self, images: Sequence[ImageInput], top: int) -> Iterator[tuple[int, Answer | DataError]]:
        return answers_to(
            images,
            extractor=self.extractor,
            detector=self.detector,
            answer=lambda features: self.search_features(features, top),
        )

    @property
    def manifest(self) -> IndexManifest:
        """The manifest of the index as it is now."""
        manifest = self.index.manifest()
        self._check_model(manifest)
        return manifest

    def refresh(self) -> None:
        """Read a changed index now; until it is read, other threads answer from the previous one."""
        self.index.refresh()

    def _check_model(self, manifest: IndexManifest) -> None:
        if not manifest.fits(self.extractor.fingerprint):
            raise of_another_model(manifest, self.place, self.extractor.path)


class Index(Protocol):
    """What a searcher needs of an index; any number of threads may call it."""

    def manifest(self) -> IndexManifest:
        """Return the properties of the index as it is now."""

    def search(self, features: np.ndarray, top: int) -> tuple[list[list[Match]], IndexManifest]:
        """Return the best `top` matches of each vector [N, D], and the manifest of the generation that they are of."""

    def refresh(self) -> None:
        """Read the index if it has changed."""


class FollowedIndex:
    """The index in a directory as it is now: read again when another process has changed it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reading = threading.Lock()
        self._newest: tuple[VectorIndex, tuple[int, ...]] | None = None  # replaced whole, so that no lock is needed

    def current(self) -> VectorIndex:
        """Return the newest generation; it stays unchanged while it is used, whatever happens to the directory.

        The first thread that notices a change reads the new one; until it is read, others get the previous one.
        """
        newest = self._newest
        if newest is not None and (newest[1] == file_state(self.folder / VECTORS) or self._reading.locked()):
            return newest[0]
        self.refresh()
        assert self._newest is not None
        return self._newest[0]

    def refresh(self) -> None:
        """Read the index if it has changed; afterwards every thread gets this generation or a newer one."""
        with self._reading:
            state = file_state(self.folder / VECTORS)  # each change writes a new file
            if self._newest is None or state != self._newest[1]:
                self._newest = load_index(self.folder), state

    def manifest(self) -> IndexManifest:
        """Return the properties of the newest generation."""
        return self.current().manifest

    def search(self, features: np.ndarray, top: int) -> tuple[list[list[Match]], IndexManifest]:
        """Return the best `top` matches of each vector [N, D] in the newest generation, and its manifest."""
        index = self.current()
        return index.search(features, top), index.manifest


class _OneAtATime:
    """An index in Milvus, whose client one thread uses at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asking = threading.Lock()

    def manifest(self) -> IndexManifest:
        with self._asking:
            return self._store.manifest()

    def search(self, features: np.ndarray, top: int) -> tuple[list[list[Match]], IndexManifest]:
        with self._asking:
            matches = self._store.search(features, top)
            # Read afterwards: it is of the collection that was searched, or of a newer one, never of an older one.
            return matches, self._store.manifest()

    def refresh(self) -> None:
        """Do nothing: a server answers from what it holds."""
