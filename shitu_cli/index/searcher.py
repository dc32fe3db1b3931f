"""Search from a program: a model and an index that are opened once and shared by any number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shitu_cli.config.schema import Config
from shitu_cli.errors import Command, DataError
from shitu_cli.features.extractor import Extractor, ImageInput
from shitu_cli.index.files import VECTORS, load_index
from shitu_cli.index.store import IndexManifest, Match
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.index.verdict import VOTERS, Verdict, judge


@dataclass(frozen=True)
class Answer:
    """The verdict on one image and its nearest neighbours, best first."""

    verdict: Verdict
    neighbours: list[Match]

    @property
    def label(self) -> str | None:
        """The label, None where the image is unknown."""
        return self.verdict.label


class Searcher:
    """Finds what images show, by comparing them with an index.

        searcher = Searcher("inference", "index", threshold=0.6)
        answer = searcher.search("photo.jpg")[0]
        print(answer.label or "unknown", answer.verdict.confidence, answer.neighbours[0].path)

    Threads may share it. When another process changes the index, the next call uses the new one; each call answers
    from one complete generation.

    Args:
        model: An exported directory or file, or a checkpoint with its `config`.
        index: The directory of the index.
        threshold: The lowest score (cosine) at which a neighbour counts; below it an image is unknown. None: never.
        voters: How many of the nearest neighbours vote for the label.
        config: The config of a checkpoint, or of a model exported by another program.
        threads: Compute threads of the model.

    Raises UsageError if there is no index, DataError if the model or the index is damaged or they do not match.
    """

    def __init__(
        self,
        model: str | Path = "inference",
        index: str | Path = "index",
        *,
        threshold: float | None = None,
        voters: int = VOTERS,
        config: Config | None = None,
        threads: int | None = None,
    ) -> None:
        self.folder, self.threshold, self.voters = Path(index), threshold, voters
        self._followed = FollowedIndex(self.folder)
        self.extractor = Extractor(model, config=config, threads=threads)
        self._extracting = threading.Lock()
        self._index()

    def search(self, images: Iterable[ImageInput] | str | bytes | Path, top: int = 5) -> list[Answer]:
        """Return an answer with the `top` neighbours for each image: a path, encoded bytes, a Pillow image or an array.

        Raises DataError that names the first image that cannot be read.
        """
        with self._extracting:
            features = self.extractor.extract(images)
        return self.search_features(features, top)

    def search_features(self, features: np.ndarray, top: int = 5) -> list[Answer]:
        """Return an answer for each row of the features float32 [N, D] of this model."""
        results = self._index().search(features, max(top, self.voters))
        return [Answer(judge(matches, self.threshold, self.voters), matches[:top]) for matches in results]

    @property
    def manifest(self) -> IndexManifest:
        """The manifest of the index as it is now."""
        return self._index().manifest

    def _index(self) -> VectorIndex:
        index = self._followed.current()
        if index.manifest.model not in ("", self.extractor.fingerprint):
            raise DataError(
                f"{self.folder} was built with another model than {self.extractor.path}",
                hint=["build it again with this one: ", Command("index build")],
            )
        return index


class FollowedIndex:
    """The index in a directory as it is now: read again when another process has changed it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reading = threading.Lock()
        self._index: VectorIndex | None = None
        self._last_state: tuple[int, ...] = ()

    def current(self) -> VectorIndex:
        """Return the newest generation; it stays unchanged while it is used, whatever happens to the directory."""
        with self._reading:
            state = self._state()
            if self._index is None or state != self._last_state:
                self._index, self._last_state = load_index(self.folder), state
            return self._index

    def _state(self) -> tuple[int, ...]:
        """Return what differs between generations: each change writes new files."""
        try:
            state = os.stat(self.folder / VECTORS)
        except (OSError, ValueError):
            return ()
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
