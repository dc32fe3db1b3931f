"""The searcher of programs: right answers, from any number of threads, while another process changes the index."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.features.extractor import Extractor, ImageInput, Images
from shitu_cli.index import searcher as module
from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.searcher import FollowedIndex, Searcher
from shitu_cli.index.store import BuildOptions, FeatureTable, IndexManifest, Match
from shitu_cli.index.vectors import VectorIndex
from tests.index.made import vectors


class Network(Extractor):
    """Stands for an extractor: an image is the text of the number of its vector."""

    fingerprint = "m"

    def __init__(self) -> None:
        self.path, self.features = Path("inference"), vectors(100)

    def extract(self, images: Images, *, normalize: bool = True) -> np.ndarray:
        return self.features[[int(str(image)) for image in images]]

    def batches(
        self, images: Sequence[ImageInput], *, start: int = 0, stop: int | None = None, normalize: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict[int, str]]]:
        for first in range(0, len(images), 2):
            part = {n: str(images[n]) for n in range(first, min(first + 2, len(images)))}
            readable = [n for n, text in part.items() if text.isdigit()]
            unreadable = {n: f"{text}: no number" for n, text in part.items() if not text.isdigit()}
            yield np.asarray(readable, np.int64), self.extract([part[n] for n in readable]), unreadable


@pytest.fixture
def searcher(tmp_path: Path) -> Searcher:
    save(tmp_path / "i", 0)
    return Searcher(Network(), tmp_path / "i", threshold=0.9)


def save(folder: Path, generation: int, model: str = "m", model_path: str = "") -> None:
    labels = [f"{n} of {generation}" for n in range(100)]
    table = FeatureTable(vectors(100), labels, [f"{generation}/{n}.jpg" for n in range(100)])
    save_index(VectorIndex.build(table, BuildOptions(model=model, model_path=model_path)), folder)


def test_answers(searcher: Searcher) -> None:
    known, other = searcher.search(["3", "7"], top=2)
    assert known.label == "3 of 0" and other.label == "7 of 0" and len(known.neighbours) == 2
    assert known.neighbours[0].path == "0/3.jpg" and known.verdict.voters == 5 and known.verdict.agreeing == 1
    unknown = searcher.search_features(vectors(1, seed=77))[0]
    assert unknown.label is None and len(unknown.neighbours) == 5
    assert searcher.manifest.count == 100 and searcher.search([]) == []


def test_impossible_values_are_refused(searcher: Searcher, tmp_path: Path) -> None:
    for threshold in (5.0, float("nan"), "0.5", True):
        with pytest.raises(UsageError, match=r"^threshold=.*: expected a number from -1 to 1$"):
            Searcher(Network(), tmp_path / "i", threshold=threshold)  # type: ignore[arg-type]
    for voters in (0, True, 2.0):
        with pytest.raises(UsageError, match=r"^voters=.*: expected a whole number of at least 1$"):
            Searcher(Network(), tmp_path / "i", voters=voters)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="detector=3: expected a path, or a Detector"):
        Searcher(Network(), tmp_path / "i", detector=3)  # type: ignore[arg-type]
    for top in (-1, "3", True):
        with pytest.raises(UsageError, match=r"^top=.*: expected a whole number of at least 0$"):
            searcher.search(["3"], top=top)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"expected vectors as rows of an array \[N, "):
        searcher.search_features(vectors(1)[0])


def test_answers_as_values_for_programs(searcher: Searcher) -> None:
    known, unknown = searcher.search_features(np.concatenate([vectors(100)[3:4], vectors(1, seed=77)]), top=1)
    values = known.to_json()
    assert values["answer"]["label"] == values["answer"]["nearest"] == "3 of 0" and not values["answer"]["unknown"]
    assert values["answer"]["score"] == values["matches"][0]["score"] == 1.0 and len(values["matches"]) == 1
    assert unknown.is_unknown and unknown.to_json()["answer"]["label"] is None
    assert unknown.verdict.nearest == unknown.neighbours[0].label and unknown.verdict.score < 0.9
    assert json.loads(json.dumps(values)) == values


def test_images_that_cannot_be_read_have_errors_of_their_own(searcher: Searcher) -> None:
    answers = searcher.search_readable(["3", "x", "7", "y", "z"], top=1)
    assert [getattr(answer, "label", None) for answer in answers] == ["3 of 0", None, "7 of 0", None, None]
    assert [str(answer) for answer in answers if isinstance(answer, DataError)] == [f"{n}: no number" for n in "xyz"]


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


@pytest.mark.parametrize(
    ("model_path", "says"),
    [
        ("", "i was built with another model or preprocessing than inference, so"),
        ("output/best_model", "another model or preprocessing (output/best_model) than inference, so"),
        ("inference", "another model or preprocessing: inference has changed since, so"),
    ],
)
def test_an_index_of_another_model_is_refused_with_both_names(model_path: str, says: str, tmp_path: Path) -> None:
    save(tmp_path / "i", 0, "another", model_path)
    with pytest.raises(DataError) as caught:
        Searcher(Network(), tmp_path / "i")
    assert says in caught.value.message and caught.value.hint == "build it again: shitu index build"


def test_a_change_of_the_directory_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "i", 0)
    monkeypatch.chdir(tmp_path)
    searcher = Searcher(Network(), "i")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert searcher.search(["7"])[0].label == "7 of 0"


def test_an_unchanged_index_is_read_once(tmp_path: Path) -> None:
    save(tmp_path / "i", 0)
    followed = FollowedIndex(tmp_path / "i")
    assert followed.current() is followed.current()
    with pytest.raises(UsageError, match="no index"):
        FollowedIndex(tmp_path / "none").current()


def test_while_one_thread_reads_a_new_generation_others_answer_from_the_former(
    searcher: Searcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> VectorIndex:
        reads.set()
        assert go_on.wait(20)
        return load_index(folder)

    monkeypatch.setattr(module, "load_index", slow)
    save(tmp_path / "i", 1)
    reader = threading.Thread(target=searcher.refresh)
    reader.start()
    assert reads.wait(20)
    assert searcher.search(["3"])[0].label == "3 of 0"
    go_on.set()
    reader.join()
    assert searcher.search(["3"])[0].label == "3 of 1"


def test_an_index_in_milvus_is_searched_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.build(FeatureTable(vectors(100), ["a"] * 100, [""] * 100), BuildOptions(model="m"))

    class Server:
        busy = False

        def manifest(self) -> IndexManifest:
            return index.manifest

        def search(self, features: np.ndarray, top: int) -> list[list[Match]]:
            assert not self.busy
            self.busy = True
            time.sleep(0.001)
            self.busy = False
            return index.search(features, top)

    monkeypatch.setattr(module, "open_address", lambda address, collection: Server())
    searcher = Searcher(Network(), "milvus:http://host:19530")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: searcher.search([str(n)])[0].neighbours[0].id, range(50)))
    assert answers == list(range(50))


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
