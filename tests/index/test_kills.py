"""Real kills of real processes at random moments of changes: what is there afterwards is the old or the new, whole.

The processes are forks of one that has the modules loaded, so that hundreds of kills take seconds.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError, ShituError
from shitu_cli.features.feature_file import extract_to_file
from shitu_cli.features.resumable import Extraction
from shitu_cli.index.files import FileStore, load_index
from shitu_cli.index.sources import read_features
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import SilentReporter
from tests.index.made import vectors
from tests.kills import Fork, Warm, kills, moments

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
KILLS = kills(25)
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
    store = FileStore(Path(folder))
    with store.writing():
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
    """Which run the features are of; "no pair" where that is said instead."""
    try:
        (features, labels, _), model = read_features(out)
    except DataError as error:
        assert "does not belong to the vectors" in error.message
        return "no pair"
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
            except (ShituError, AssertionError, ValueError) as error:
                self.errors.append(error)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def writes(target: Path) -> bool:
    """Whether a new version of the target is being written beside it."""
    names = (target.name, target.with_suffix(".tsv").name)
    return any(path.suffix == ".tmp" and path.name[1:-13] in names for path in target.parent.iterdir())


def run(start_change: Callable[[], Fork], target: Path) -> tuple[float, float]:
    """Let a change end; how long it took, and how long of that it wrote."""
    start = begin = time.monotonic()
    process = start_change()
    while not writes(target) and not process.ends():
        begin = time.monotonic()
    process.succeeds()
    return time.monotonic() - start, time.monotonic() - begin


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that has this module loaded."""
    process = Warm(tmp_path_factory.mktemp("warm") / "log.txt", __name__)
    yield process
    process.close()


def kill_at_random(
    change: Callable[[Path], None], target: Path, before: Path, read: Callable[[Path], str], warm: Warm
) -> None:
    """Kill `change(target)` at random moments, each time beginning at a copy of what is in `before`.

    Half of the kills come at any time, half while the new version is written.
    """
    call = f"{__name__}:{change.__name__}"

    def restore() -> None:
        shutil.rmtree(target.parent, ignore_errors=True)
        shutil.copytree(before, target.parent)

    def start() -> Fork:
        return warm.start(call, str(target), folder=before)

    restore()
    old, whole, writing = read(target), 0.0, 0.0
    for _ in range(2):  # the first one starts the server
        restore()
        with Reader(lambda: read(target)):
            whole, writing = run(start, target)
    new = read(target)
    assert old != new
    rng, outcomes, killed = moments("index"), Counter[str](), 0
    for number in range(6 * KILLS):
        if number >= KILLS and killed > KILLS // 4:
            break  # on a machine that was slow when it was measured, many come too late
        restore()
        with Reader(lambda: read(target)) as reader:
            process = start()
            if number % 2:
                while not writes(target) and not process.ends():
                    pass
                time.sleep(rng.uniform(0, 0.7) * writing)
            else:
                time.sleep(rng.uniform(0, 0.7) * whole)
            if not process.ends():
                process.kill()
        assert not reader.errors, reader.errors[0]
        assert set(reader.seen) <= {old, new, "no pair"}
        killed += process.code != 0
        state = read(target)
        assert state in (old, new, "no pair"), f"kill {number}"
        outcomes[state] += 1
        if (number % 5 == 0 and state != new) or state == "no pair":  # what has been removed cannot be once more
            change(target)  # the next run works, and tidies up
            assert read(target) == new and not writes(target)
    print(f"{change.__name__}: {killed} of {outcomes.total()} ended by the kill; left {dict(outcomes)}")
    assert killed > KILLS // 4


@pytest.mark.parametrize("change", [build, add, remove], ids=["build", "add", "remove"])
def test_kills_of_an_index(change: Callable[[Path], None], tmp_path: Path, warm: Warm) -> None:
    build(tmp_path / "before/index", generation=0)
    kill_at_random(change, tmp_path / "now/index", tmp_path / "before", index_generation, warm)


def test_kills_of_extract(tmp_path: Path, warm: Warm) -> None:
    (tmp_path / "before").mkdir()
    extract(tmp_path / "before/f.npy", 0)
    kill_at_random(extract, tmp_path / "now/f.npy", tmp_path / "before", file_generation, warm)
