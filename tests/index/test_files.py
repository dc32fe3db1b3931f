"""The index as a directory: whole, replaced in one step, readable by others; damage is named."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
import yaml

from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.index import files
from shitu_cli.index.files import FileStore, export_index, load_index, save_index
from shitu_cli.index.store import KINDS, BuildOptions, FeatureTable, Item
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.reporting import SilentReporter
from tests.index.made import gallery, make, vectors


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_answers_the_same(kind: str, tmp_path: Path) -> None:
    made = make(200, kind)
    save_index(made, tmp_path / "i")
    loaded, queries = load_index(tmp_path / "i"), vectors(5, seed=3)
    assert loaded.manifest == made.manifest
    assert loaded.search(queries, 3) == made.search(queries, 3) == make(200, kind).search(queries, 3)
    loaded.remove([3])
    loaded.add(FeatureTable(queries, ["new"] * 5, list("abcde")))
    assert loaded.search(queries, 1)[0][0].label == "new"


def test_a_directory_may_have_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"w\xff")
    index = make(20)
    save_index(index, folder)
    assert load_index(folder).search(vectors(2), 3) == index.search(vectors(2), 3)


def test_the_store_changes_its_directory(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "i")
    store.build(gallery(50), BuildOptions(model="m"), SilentReporter())
    store.add(FeatureTable(vectors(1, seed=1), ["new"], ["p/0.jpg"]), SilentReporter())
    assert store.find(["p/0.jpg", "p/3.jpg"], ["nobody"], [7, 999]) == [
        Item(3, "class 3", "p/3.jpg"),
        Item(7, "class 0", "p/7.jpg"),
        Item(50, "new", "p/0.jpg"),
    ]
    store.remove([3], SilentReporter())
    again = FileStore(tmp_path / "i")
    assert again.manifest().count == 49 and again.manifest().model == "m"
    assert not again.find(["p/3.jpg"], (), ())


def test_what_a_program_names_wrongly(tmp_path: Path) -> None:
    """A text is one name, not its letters; what is no id or not there is said instead of being passed over."""
    store = FileStore(tmp_path / "i")
    store.build(gallery(20), BuildOptions(), SilentReporter())
    assert store.find("p/3.jpg") == store.find(paths=["p/3.jpg"]) == store.find(ids=3) == store.find(ids=np.array([3]))
    assert [item.id for item in store.find(labels="class 6")] == [6, 13] and store.find() == []
    for ids in (["3"], "3", [3.0], [-1], [True], None, [None], [1 << 63]):
        for use in (lambda ids: store.find(ids=ids), lambda ids: store.remove(ids, SilentReporter())):
            with pytest.raises(UsageError, match=r"^id .*: expected a whole number of at least 0$"):
                use(ids)
    with pytest.raises(UsageError, match=r"^not in the index: id 20, 77$"):
        store.remove([3, 77, 20], SilentReporter())
    with pytest.raises(UsageError, match=r"29 and 990 more$"):
        store.remove(range(1020), SilentReporter())
    assert FileStore(tmp_path / "i").manifest().count == 20


def test_wrong_places(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no index"):
        FileStore(tmp_path).manifest()
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        FileStore(tmp_path).check(BuildOptions())
    with pytest.raises(UsageError, match=r"mine\.txt"):
        save_index(make(10), tmp_path)
    with pytest.raises(UsageError, match=r"mine\.txt") as refused:
        export_index(make(10), tmp_path)
    assert refused.value.hint == "name a new directory"
    save_index(make(10), tmp_path / "i")
    with pytest.raises(UsageError, match="holds an index, which the export would replace"):
        export_index(make(10), tmp_path / "i")
    for _ in range(2):  # an export may be replaced
        export_index(make(10), tmp_path / "e")
    with pytest.raises(UsageError, match="is a file"):
        FileStore(tmp_path / "mine.txt").check(BuildOptions())
    assert (tmp_path / "mine.txt").read_text() == "x"
    for name in ("x" * 300, "x/" * 3000, "a\0b"):
        with pytest.raises(UsageError) as caught:
            FileStore(tmp_path / name)
        assert caught.value.hint == "name another directory for the index"


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        FileStore(tmp_path / "i").writing(),
        pytest.raises(EnvironmentProblem, match="another `shitu index`"),
        FileStore(tmp_path / "i").writing(),
    ):
        pass


def test_changes_from_several_stores_and_threads_all_stay(tmp_path: Path) -> None:
    """Stores that stay open, as in notebooks and services: none writes over what another one has added."""
    stores = [FileStore(tmp_path / "i"), FileStore(tmp_path / "i")]
    stores[0].build(gallery(20), BuildOptions(), SilentReporter())
    assert stores[1].manifest().count == 20

    def add(number: int) -> None:
        table = FeatureTable(vectors(1, seed=number), ["new"], [f"new/{number}.jpg"])
        stores[number % 2].add(table, SilentReporter())

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add, range(6)))
    assert len(FileStore(tmp_path / "i").find((), ["new"], ())) == 6


def test_what_a_refused_addition_has_begun_is_not_searched(tmp_path: Path) -> None:
    store, queries = FileStore(tmp_path / "i"), vectors(3, seed=5)
    store.build(gallery(20), BuildOptions(), SilentReporter())
    before = store.search(queries)
    with pytest.raises(DataError, match="not finite"):
        store.add(FeatureTable(np.full((1, 24), np.nan, np.float32), ["new"], ["p/0.jpg"]), SilentReporter())
    assert store.search(queries) == before and store.remove([3], SilentReporter()) is None
    assert FileStore(tmp_path / "i").manifest().count == 19


def test_damage_is_named(tmp_path: Path) -> None:
    save_index(make(50), tmp_path / "i")
    items = (tmp_path / "i/items.tsv").read_text()
    manifest = json.loads((tmp_path / "i/manifest.json").read_text())
    untied = {key: value for key, value in manifest.items() if key not in ("items_sha256", "generation")}

    def refused(name: str, content: str | bytes, says: str) -> None:
        file = tmp_path / "i" / name
        before = file.read_bytes()
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(DataError, match=says) as caught:
            load_index(tmp_path / "i")
        assert "shitu index build" in str(caught.value.hint)
        file.write_bytes(before)

    refused("items.tsv", items.rpartition("49\t")[0], "not the file that was written with the index")
    data = (tmp_path / "i/vector.index").read_bytes()
    refused("vector.index", data[: len(data) // 2], r"vector\.index is damaged")
    refused("vector.index", b"", r"vector\.index is damaged")
    refused("manifest.json", "[1]", "expected a JSON object")
    refused("manifest.json", json.dumps({**manifest, "format": 9}), "another version")
    # Indexes of earlier versions have no ties: what can be compared is compared.
    (tmp_path / "i/manifest.json").write_text(json.dumps(untied))
    (tmp_path / "i/vector.index").write_bytes(data.partition(b"\nshitu generation")[0])
    assert len(load_index(tmp_path / "i")) == 50
    refused("items.tsv", items.rpartition("49\t")[0], "50 vectors, but 49 items")
    refused("items.tsv", items.replace("49\t", "50\t"), "ids of its vectors and of its items differ")
    refused("items.tsv", items.replace("49\t", "48\t"), r"items\.tsv:50 is damaged")
    refused("items.tsv", items.replace("\tp/3.", " p/3."), r"items\.tsv:4 is damaged")
    refused("items.tsv", items.encode() + b"\xff\t\t", r"items\.tsv:51: byte 0xff is not UTF-8")
    for key, value in [
        ("kind", "hnsw"),
        ("size", 25),
        ("count", 49),
        ("next_id", 49),
        ("next_id", None),
        ("kind", "Flat"),
        ("kind", ["flat"]),
        ("size", 24.0),
        ("size", True),
        ("size", 10**30),
        ("search", {"efSearch": 0}),
        ("search", {"efSearch": 10**12}),
        ("search", {"nprobe": "1"}),
        ("search", {"exec": 1}),
        ("search", [1]),
        ("recall", 2.0),
        ("model", 3),
        ("model_path", None),
        ("wanted_recall", "high"),
    ]:
        refused("manifest.json", json.dumps({**untied, key: value}), r"manifest\.json")
    missing = {key: value for key, value in untied.items() if key != "model"}
    refused("manifest.json", json.dumps(missing), r"manifest\.json is damaged")


@pytest.mark.parametrize("names", [["vector.index"], ["items.tsv"], ["manifest.json"], ["items.tsv", "manifest.json"]])
def test_files_of_two_generations_are_never_one_index(names: list[str], tmp_path: Path) -> None:
    for generation in range(2):  # equal counts and ids
        table = gallery(50, seed=generation)._replace(labels=[f"build {generation}"] * 50)
        save_index(VectorIndex.build(table), tmp_path / str(generation))
    for name in names:
        shutil.copy(tmp_path / "1" / name, tmp_path / "0" / name)
    with pytest.raises(DataError, match=r"not the file that was written|not written together"):
        load_index(tmp_path / "0")


def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_index(make(50), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("step", ["check_faiss", "read_manifest", "read_items", "read_faiss"])
def test_an_index_that_is_replaced_while_it_is_read_is_read_again(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [gallery(50, seed=n)._replace(labels=[f"build {n}"] * 50) for n in range(2)]
    if step == "read_faiss":
        monkeypatch.setattr(files, "MOST_VALUES", 0)  # a small index is not read by faiss
    save_index(VectorIndex.build(table[0]), tmp_path / "i")
    real, calls = getattr(files, step), []

    def replaced_meanwhile(*args: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            save_index(VectorIndex.build(table[1]), tmp_path / "i")
        return real(*args)

    monkeypatch.setattr(files, step, replaced_meanwhile)
    index = load_index(tmp_path / "i")
    assert set(index.labels.values()) == {"build 1"} and len(calls) == 2
    assert index.search(table[1].features[:5], 1)[4][0].score > 0.9999


def test_what_another_program_changed_in_place_is_not_searched_by_our_labels(tmp_path: Path) -> None:
    save_index(make(50), tmp_path / "i")
    theirs = faiss.read_index(str(tmp_path / "i/vector.index"))
    theirs.remove_ids(np.asarray([3]))
    theirs.add_with_ids(vectors(1, seed=5), np.asarray([3]))
    faiss.write_index(theirs, str(tmp_path / "i/vector.index"))
    with pytest.raises(DataError, match="not written together") as caught:
        load_index(tmp_path / "i")
    assert caught.value.hint and "delete manifest.json and items.tsv" in caught.value.hint
    (tmp_path / "i/manifest.json").unlink()
    (tmp_path / "i/items.tsv").unlink()
    assert len(load_index(tmp_path / "i")) == 50


def test_labels_and_paths_of_any_text(tmp_path: Path) -> None:
    labels = ["a\tb", "c\\t\nd", "红 色", "\U0001f600: #x", "no", '"q" \'', "- {a}", "~" * 300 + " " + "x" * 300]
    paths = ["x\\y", "\t", "z\u2028w", "\\\\n", "", "a\rb", "\\", "\x85"]
    save_index(VectorIndex.build(FeatureTable(vectors(8), labels, paths)), tmp_path / "i")
    loaded = load_index(tmp_path / "i")
    assert list(loaded.labels.values()) == labels and list(loaded.paths.values()) == paths
    assert list(yaml.safe_load((tmp_path / "i/id_map.yaml").read_text("utf-8"))["id_map"].values()) == labels


def test_a_name_that_is_no_text_does_not_stop_it(tmp_path: Path) -> None:
    save_index(VectorIndex.build(FeatureTable(vectors(1), ["a\udcff"], ["b\udcff"])), tmp_path / "i")
    assert load_index(tmp_path / "i").labels == {0: "a\\xff"}
    assert yaml.safe_load((tmp_path / "i/id_map.yaml").read_text("utf-8"))["id_map"] == {0: "a\\xff"}


def test_other_programs_read_it(tmp_path: Path) -> None:
    changed = export_index(make(60), tmp_path / "out")
    assert changed[0] == "class 0"
    theirs = faiss.read_index(str(tmp_path / "out/vector.index"))
    with (tmp_path / "out/id_map.pkl").open("rb") as file:
        lookup = pickle.load(file)
    names = yaml.safe_load((tmp_path / "out/id_map.yaml").read_text())
    assert names["index_type"] == "Flat" and names["metric_type"] == "IP"
    assert theirs.ntotal == len(names["id_map"]) == 60
    found = int(theirs.search(vectors(60)[7:8], 1)[1][0, 0])
    assert lookup[found].split()[1] == names["id_map"][found] == "class_0" and found == 7


def test_saving_replaces_the_whole_directory(tmp_path: Path) -> None:
    save_index(make(30), tmp_path / "i")
    save_index(make(40), tmp_path / "i")
    assert json.loads((tmp_path / "i/manifest.json").read_text())["count"] == 40
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


def test_a_full_disk_keeps_the_index_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "i")
    store.build(gallery(50), BuildOptions(), SilentReporter())
    before = {p.name: p.read_bytes() for p in (tmp_path / "i").iterdir()}

    class Full(faiss.PyCallbackIOWriter):
        def __init__(self, write: object) -> None:
            def refuse(data: bytes) -> int:
                raise OSError(28, "No space left on device")

            super().__init__(refuse)

    monkeypatch.setattr(faiss, "PyCallbackIOWriter", Full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        store.add(FeatureTable(vectors(1, seed=1), ["new"], ["new"]), SilentReporter())
    assert {p.name: p.read_bytes() for p in (tmp_path / "i").iterdir()} == before
    assert store.manifest().count == 50
    assert sorted(p.name for p in tmp_path.iterdir()) == [".shitu", "i"]  # the lock, and no half-written index
