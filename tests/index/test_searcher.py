"""The searcher of programs: right answers, from any number of threads, while another process changes the index."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.index import searcher as module
from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.searcher import FollowedIndex, Searcher
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex
from tests.index.made import vectors


class Network:
    """Stands for an extractor: an image is the text of the number of its vector."""

    fingerprint, path = "m", Path("inference")

    def __init__(self, *args: object, **options: object) -> None:
        self.features = vectors(100)
        self.busy = False

    def extract(self, images: list[str]) -> np.ndarray:
        assert not self.busy  # engines are not made for several threads
        self.busy = True
        features = self.features[[int(image) for image in images]]
        self.busy = False
        return features


@pytest.fixture
def searcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Searcher]:
    monkeypatch.setattr(module, "Extractor", Network)
    save(tmp_path / "i", 0)
    yield Searcher(index=tmp_path / "i", threshold=0.9)


def save(folder: Path, generation: int, model: str = "m") -> None:
    labels = [f"{n} of {generation}" for n in range(100)]
    table = FeatureTable(vectors(100), labels, [f"{generation}/{n}.jpg" for n in range(100)])
    save_index(VectorIndex.build(table, BuildOptions(model=model)), folder)


def test_answers(searcher: Searcher) -> None:
    known, other = searcher.search(["3", "7"], top=2)
    assert known.label == "3 of 0" and other.label == "7 of 0" and len(known.neighbours) == 2
    assert known.neighbours[0].path == "0/3.jpg" and known.verdict.voters == 5 and known.verdict.agreeing == 1
    unknown = searcher.search_features(vectors(1, seed=77))[0]
    assert unknown.label is None and len(unknown.neighbours) == 5
    assert searcher.manifest.count == 100 and searcher.search([]) == []


def test_a_changed_index_is_followed(searcher: Searcher, tmp_path: Path) -> None:
    save(tmp_path / "i", 1)
    assert searcher.search(["3"])[0].label == "3 of 1"
    index = load_index(tmp_path / "i")
    index.remove([3])
    save_index(index, tmp_path / "i")
    assert searcher.search(["3"])[0].neighbours[0].path != "1/3.jpg" and searcher.manifest.count == 99
    save(tmp_path / "i", 2, model="another")
    with pytest.raises(DataError, match="built with another model"):
        searcher.search(["3"])
    save(tmp_path / "i", 3)
    assert searcher.search(["3"])[0].label == "3 of 3"


def test_an_unchanged_index_is_read_once(tmp_path: Path) -> None:
    save(tmp_path / "i", 0)
    followed = FollowedIndex(tmp_path / "i")
    assert followed.current() is followed.current()
    with pytest.raises(UsageError, match="no index"):
        FollowedIndex(tmp_path / "none").current()


def test_threads_see_whole_generations(searcher: Searcher, tmp_path: Path) -> None:
    over, errors, seen = threading.Event(), [], set()

    def ask(number: int) -> None:
        try:
            while not over.is_set():
                answers = searcher.search([str(number), str(number + 10)], top=100)
                generations = {m.label.split()[2] for answer in answers for m in answer.neighbours}
                paths = {m.path.split("/")[0] for answer in answers for m in answer.neighbours}
                assert len(generations) == 1 and paths == generations
                assert answers[0].label == f"{number} of {generations.pop()}"
                seen.update(paths)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(1, 25):
        save(tmp_path / "i", generation)
    over.set()
    for thread in threads:
        thread.join()
    assert not errors and len(seen) > 2
