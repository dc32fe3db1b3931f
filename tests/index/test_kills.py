"""Real kills of real processes at random moments of changes: what is there afterwards is the old or the new, whole.

The processes are forks of one that has the modules loaded, so that hundreds of kills take seconds.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import ShituError
from shitu_cli.features.feature_file import extract_to_file
from shitu_cli.features.resumable import Extraction
from shitu_cli.index.files import FileStore, load_index
from shitu_cli.index.sources import read_features
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import SilentReporter
from tests.index.made import vectors
from tests.kills import Fork, Warm, kill_at_random, kills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
COUNT, SIZE = 2000, 32
SILENT = SilentReporter()


def table(generation: int, count: int = COUNT) -> FeatureTable:
    labels = [f"generation {generation}"] * count
    return FeatureTable(vectors(count, SIZE, seed=generation), labels, [f"{n}.jpg" for n in range(count)])


def build(folder: Path | str, kind: str = "flat", generation: int = 1) -> None:
    store = FileStore(Path(folder))
    with store.writing():
        store.build(table(generation), BuildOptions(kind), SILENT)


def add(folder: Path | str) -> None:
    """Replace every item: what is there is of one generation only."""
    store = FileStore(Path(folder))
    with store.writing():
        store.add(table(1), SILENT)


def remove(folder: Path | str) -> None:
    """Remove the first half, if it is there: what was removed cannot be once more."""
    store = FileStore(Path(folder))
    with store.writing():
        if len(load_index(store.folder)) == COUNT:
            store.remove(range(COUNT // 2), SILENT)


class Network:
    """Stands for an extractor: the features of a generation, a batch at a time."""

    batch_size, feature_size = 32, SIZE

    def __init__(self, generation: int) -> None:
        self.features = vectors(COUNT, SIZE, seed=generation)
        self.fingerprint = f"model {generation}"
        self.engine = SimpleNamespace(description="none")

    def batches(
        self, images: Sequence[Any], *, start: int = 0, stop: int | None = None, normalize: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict[int, str]]]:
        for first in range(start, COUNT if stop is None else stop, self.batch_size):
            last = min(first + self.batch_size, COUNT if stop is None else stop)
            yield np.arange(first, last), self.features[first:last], {}


def extract(out: Path | str, generation: int = 1) -> None:
    files = ImageFiles([f"{n}.jpg" for n in range(COUNT)], [f"model {generation}"] * COUNT, [None] * COUNT)
    extract_to_file(Extraction(Network(generation), files), Path(out), SILENT)  # type: ignore[arg-type]


def index_generation(folder: Path) -> str:
    """Which generation the index is of, whole; assertion that its vectors and labels are of the same."""
    index = load_index(folder)
    labels = set(index.labels.values())
    assert len(labels) == 1
    generation = int(labels.pop().split()[1])
    rows = [0, COUNT // 2 + 1, COUNT - 1] if len(index) == COUNT else [COUNT // 2 + 1, COUNT - 1]
    for row, matches in zip(rows, index.search(vectors(COUNT, SIZE, seed=generation)[rows], 1), strict=True):
        assert matches[0].path == f"{row}.jpg" and matches[0].score > 0.9999
    return f"generation {generation} of {len(index)}"


def file_generation(out: Path) -> str:
    """Which run the features are of, all of them."""
    (features, labels, _), model = read_features(out)
    generation = int(model.split()[1])
    assert set(labels) == {model} and np.array_equal(features, vectors(COUNT, SIZE, seed=generation))
    return model


class Reader:
    """Reads again and again in a thread; what it saw, and what went wrong."""

    def __init__(self, read: Callable[[], str]) -> None:
        self.seen, self.errors = Counter[str](), list[BaseException]()
        self._read, self._over = read, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.seen[self._read()] += 1
            except (ShituError, AssertionError, LookupError, ValueError) as error:
                self.errors.append(error)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that has this module loaded."""
    process = Warm(tmp_path_factory.mktemp("warm") / "log.txt", __name__)
    yield process
    process.close()


def kill(
    change: Callable[[Path], None],
    target: Path,
    before: Path,
    read: Callable[[Path], str],
    states: dict[str, str],
    warm: Warm,
) -> None:
    """Kill `change(target)` again and again, while a reader looks on; `states` says what of that is old and new."""
    readers: list[Reader] = []

    def restore() -> None:
        shutil.rmtree(target.parent, ignore_errors=True)
        shutil.copytree(before, target.parent)

    def state() -> str:
        for reader in readers:
            assert not reader.errors, reader.errors[0]
        return states[read(target)]

    def reader() -> Reader:
        readers[:] = [Reader(lambda: states[read(target)])]
        return readers[0]

    def start(number: int | None) -> Fork:
        return warm.start(f"{__name__}:{change.__name__}", str(target), folder=target.parent, kill_before=number)

    kill_at_random(change.__name__, start, restore, state, trials=kills(25), meanwhile=reader)
    left, number = list[Path](), 0
    while not left:
        restore()
        number += 1
        assert start(number).ends(60)
        left = list(target.parent.glob(".*.tmp"))
    start(None).succeeds()
    assert not list(target.parent.glob(".*.tmp"))


@pytest.mark.parametrize("change", [build, add, remove], ids=["build", "add", "remove"])
def test_kills_of_an_index(change: Callable[[Path], None], tmp_path: Path, warm: Warm) -> None:
    build(tmp_path / "before/index", generation=0)
    new = f"generation 0 of {COUNT // 2}" if change is remove else f"generation 1 of {COUNT}"
    states = {f"generation 0 of {COUNT}": "old", new: "new"}
    kill(change, tmp_path / "now/index", tmp_path / "before", index_generation, states, warm)


def test_kills_of_extract(tmp_path: Path, warm: Warm) -> None:
    (tmp_path / "before").mkdir()
    extract(tmp_path / "before/f.npy", 0)
    states = {"model 0": "old", "model 1": "new"}
    kill(extract, tmp_path / "now/f.npy", tmp_path / "before", file_generation, states, warm)
