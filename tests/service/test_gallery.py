"""Changes of the index: durable, together, consistent for those who search meanwhile, and never in each other's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.index import open_address
from shitu_cli.index.files import FileStore, load_index
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.reporting import SilentReporter
from shitu_cli.service import gallery as module
from shitu_cli.service.gallery import Addition, FileGallery, Removal
from shitu_cli.service.refusals import Refusal
from shitu_cli.service.shared_gallery import SharedGallery
from tests.index.made import gallery as table_of
from tests.index.made import vectors
from tests.service.conftest import Server, png

SILENT = SilentReporter()


def addition(count: int, generation: int, model: str = "m") -> Addition:
    labels = [f"of {generation}"] * count
    return Addition(
        FeatureTable(vectors(count, seed=generation), labels, [f"{generation}/{n}" for n in range(count)]), model, ""
    )


@pytest.fixture(params=["flat", "hnsw", "ivf", "binary"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    FileStore(tmp_path / "i").build(table_of(100), BuildOptions(request.param, model="m"), SILENT)
    return tmp_path / "i"


def test_a_view_stays_as_it_was(folder: Path) -> None:
    gallery = FileGallery(folder)
    before = gallery.latest()
    seen = before.search(vectors(3), 5)
    after, changed = gallery.change(addition(4, 1))
    assert [item.id for item in changed.items] == [100, 101, 102, 103] and changed.replaced == 0
    final, removed = gallery.change(Removal([0], ["of 1"]))
    assert [item.id for item in removed.items] == [0, 100, 101, 102, 103]
    assert (len(list(before.items())), len(list(after.items())), len(list(final.items()))) == (100, 104, 99)
    assert before.search(vectors(3), 5) == seen
    assert load_index(folder).manifest == final.manifest  # what was acknowledged is on the disk
    assert gallery.latest() is final  # and is not read again


def test_waiting_changes_are_written_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes, first = [], threading.Event()
    save = module.save_index

    def counting(index: Any, place: Path) -> None:
        first.wait(10)
        writes.append(len(index))
        save(index, place)

    monkeypatch.setattr(module, "save_index", counting)
    gallery, results = FileGallery(folder), {}

    def change(number: int) -> None:
        try:
            results[number] = gallery.change(addition(1, number) if number else Removal([12345]))[1].items[0].label
        except Refusal as refusal:
            results[number] = refusal.status

    threads = [threading.Thread(target=change, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    first.set()
    for thread in threads:
        thread.join()
    assert results == {0: 404, **{n: f"of {n}" for n in range(1, 20)}}  # one that fails harms no other
    assert len(writes) < 10 and writes[-1] == 119 == len(load_index(folder))


def test_a_vector_that_cannot_be_added_harms_no_change_that_is_written_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_saving, may_save, save = threading.Event(), threading.Event(), module.save_index

    def waiting(index: Any, place: Path) -> None:
        is_saving.set()
        may_save.wait(10)
        save(index, place)

    monkeypatch.setattr(module, "save_index", waiting)
    gallery, errors = FileGallery(folder), []
    bad = FeatureTable(np.stack([vectors(1)[0], np.zeros(24, np.float32)]), ["a", "b"], ["p/0.jpg", "p/1.jpg"])

    def change(addition: Addition) -> None:
        try:
            gallery.change(addition)
        except DataError as error:
            errors.append(error.message)

    threads = [threading.Thread(target=change, args=(one,)) for one in (addition(1, 1), Addition(bad, "m", ""))]
    threads.append(threading.Thread(target=change, args=(addition(1, 2),)))
    threads[0].start()
    is_saving.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(gallery._queue) < 2:
        time.sleep(0.01)
    may_save.set()
    for thread in threads:
        thread.join()
    assert len(errors) == 1 and errors[0].startswith("vector 2 is all zeros")
    assert {item.label for item in load_index(folder).items() if item.id >= 100} == {"of 1", "of 2"}
    assert len(load_index(folder)) == 102


@pytest.mark.parametrize("begins", ["with an index", "with nothing"])
def test_an_index_that_disappears_is_not_begun_anew(begins: str, tmp_path: Path) -> None:
    """Somebody may be copying it; the next photo made an index of that one alone in its place."""
    folder = tmp_path / "i"
    if begins == "with an index":
        FileStore(folder).build(table_of(20), BuildOptions(model="m"), SILENT)
    gallery = FileGallery(folder, create=True)
    assert (gallery.latest().manifest is None) == (begins == "with nothing")
    gallery.change(addition(2, 1))
    folder.rename(tmp_path / "elsewhere")
    for ask in (gallery.latest, lambda: gallery.change(addition(1, 2))):
        with pytest.raises(UsageError, match="no index in"):
            ask()
    (tmp_path / "elsewhere").rename(folder)
    assert len(gallery.change(addition(1, 2))[0].labels()) >= 2


def test_what_cannot_be_written_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FileStore(tmp_path / "i").build(table_of(10), BuildOptions(model="m"), SILENT)

    def full(index: Any, place: Path) -> None:
        raise EnvironmentProblem("no space left")

    gallery = FileGallery(tmp_path / "i")
    with monkeypatch.context() as broken:
        broken.setattr(module, "save_index", full)
        with pytest.raises(EnvironmentProblem, match="no space"):
            gallery.change(addition(1, 1))
    assert len(list(gallery.latest().items())) == 10
    assert gallery.change(addition(1, 2))[1].items[0].id == 10


def test_changes_of_another_process_are_kept(tmp_path: Path) -> None:
    FileStore(tmp_path / "i").build(table_of(10), BuildOptions(model="m"), SILENT)
    gallery = FileGallery(tmp_path / "i")
    gallery.latest()
    FileStore(tmp_path / "i").add(addition(2, 1).table, SILENT)  # as `shitu index add` does
    _, changed = gallery.change(addition(1, 2))
    assert changed.items[0].id == 12 and len(load_index(tmp_path / "i")) == 13
    FileStore(tmp_path / "i").build(table_of(10), BuildOptions(model="another"), SILENT)
    with pytest.raises(Refusal, match="another model"):
        gallery.change(addition(1, 3))
    assert len(load_index(tmp_path / "i")) == 10


def test_a_command_that_changes_the_index_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FileStore(tmp_path / "i").build(table_of(10), BuildOptions(model="m"), SILENT)
    gallery, done = FileGallery(tmp_path / "i"), threading.Event()
    with FileStore(tmp_path / "i").writing():
        thread = threading.Thread(target=lambda: (gallery.change(addition(1, 1)), done.set()))
        thread.start()
        assert not done.wait(0.2)
    thread.join()
    assert done.is_set() and len(load_index(tmp_path / "i")) == 11
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with FileStore(tmp_path / "i").writing(), pytest.raises(EnvironmentProblem, match="another `shitu index`"):
        gallery.change(addition(1, 2))


def test_too_many_changes_are_refused(tmp_path: Path) -> None:
    FileStore(tmp_path / "i").build(table_of(10), BuildOptions(model="m"), SILENT)
    with pytest.raises(Refusal) as caught:
        FileGallery(tmp_path / "i", most_waiting=0).change(addition(1, 1))
    assert caught.value.status == 429 and caught.value.retry_after


def test_searches_while_the_index_changes(make_server: Callable[..., Server]) -> None:
    """Every answer is right for the index before or after a change; nothing fails."""
    server = make_server()
    over, problems, answers = threading.Event(), [], [0]
    photos = [png(700, n) for n in range(20)]

    def ask() -> None:
        try:
            while not over.is_set():
                known, changing = server.search(png(3, 8), png(700, 99), top=30)["results"]
                assert known["answer"]["label"] == "thing 3"
                assert changing["answer"]["label"] in (None, "changing")
                ids = [match["id"] for match in known["matches"]]
                assert len(set(ids)) == len(ids) >= 15
                answers[0] += 1
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for photo in photos:
        item = server.add("changing", photo).json()["added"][0]
        found = server.search(photo)["results"][0]["matches"][0]
        assert found["id"] == item["id"]  # who was told of the change finds it
        if photo is not photos[-1]:
            assert server.client.post("/remove", json={"ids": [item["id"]]}).status_code == 200
    over.set()
    for thread in threads:
        thread.join()
    assert not problems and answers[0] > 0 and server.desk.count() == 16


def test_a_photo_that_is_added_again_while_it_is_removed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    item = server.add("first", png(800)).json()["added"][0]
    gallery: Any = server.desk.live.gallery
    change = gallery.change

    def with_another(asked: Addition | Removal) -> Any:
        result = change(asked)
        if isinstance(asked, Removal):  # between the removal and the deletion of its photo
            assert server.add("second", png(800)).status_code == 200
        return result

    monkeypatch.setattr(gallery, "change", with_another)
    assert server.client.post("/remove", json={"ids": [item["id"]]}).status_code == 200
    assert Path(item["path"]).read_bytes() == png(800)
    assert server.search(png(800))["results"][0]["answer"]["label"] == "second"


def test_a_photo_that_is_removed_while_it_is_added(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery: Any = server.desk.live.gallery
    change = gallery.change

    def with_removal(asked: Addition | Removal) -> Any:
        view, changed = change(asked)
        if isinstance(asked, Addition):  # between the addition and its answer
            assert server.client.post("/remove", json={"ids": [changed.items[0].id]}).status_code == 200
        return view, changed

    monkeypatch.setattr(gallery, "change", with_removal)
    assert server.add("first", png(800), png(801)).status_code == 200
    paths = [item["path"] for item in server.client.get("/items?label=first").json()["items"]]
    assert [Path(path).read_bytes() for path in paths] == [png(801)]
    assert len([*server.desk.photos.folder.iterdir()]) == 1


def test_photos_of_an_addition_that_fails_are_not_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.add("first", png(800)).status_code == 200

    def fail(change: Addition | Removal) -> Any:
        raise Refusal(429, "too many changes wait to be written", retry_after=2)

    monkeypatch.setattr(server.desk.live.gallery, "change", fail)
    assert server.add("second", png(800), png(801)).status_code == 429
    assert [file.read_bytes() for file in server.desk.photos.folder.iterdir()] == [png(800)]  # that of the first


def test_an_index_in_milvus(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    store = open_address(f"milvus:{tmp_path / 'gallery.db'}")
    store.build(table_of(20), BuildOptions(model="m"), SILENT)
    gallery = SharedGallery(store)
    try:
        view, changed = gallery.change(addition(2, 1))
        assert view.manifest.count == 22 and [item.label for item in changed.items] == ["of 1"] * 2
        assert view.search(vectors(2, seed=1), 1)[1][0].path == "1/1" and view.labels()["of 1"] == 2
        with pytest.raises(Refusal, match="not in the index"):
            gallery.change(Removal(labels=["nothing"]))
        assert gallery.change(Removal(labels=["of 1"]))[0].manifest.count == 20
        assert gallery.latest().item(changed.items[0].id) is None
    finally:
        store.close()
