"""The index in Milvus, on its embedded edition: the same answers as the directory, and nothing of others touched."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, EnvironmentProblem, ShituError, UsageError
from shitu_cli.index import open_address, open_index
from shitu_cli.index.milvus import MilvusStore
from shitu_cli.index.milvus_collection import VectorCollection
from shitu_cli.index.store import BuildOptions, FeatureTable, Store
from shitu_cli.reporting import SilentReporter
from tests.index.made import gallery, vectors

pymilvus = pytest.importorskip("pymilvus", reason="milvus is an extra")
pytest.importorskip("milvus_lite", reason="the embedded edition is needed")

SILENT = SilentReporter()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"milvus:{tmp_path / 'g.db'}"


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """An index of 120 vectors."""
    opened = open_address(address)
    opened.build(gallery(120), BuildOptions(model="m", model_path="inference"), SILENT)
    yield opened
    opened.close()


def collections(store: Store) -> list[str]:
    assert isinstance(store, MilvusStore)
    with store._connection() as client:
        return client.list_collections()


def test_the_same_answers_as_the_directory(store: Store, tmp_path: Path) -> None:
    files = open_index(tmp_path / "index")
    files.build(gallery(120), BuildOptions(), SILENT)
    more = FeatureTable(vectors(3, seed=7), ["new", "a\"b\\c'\n", "红 色"], ["p/0.jpg", "q\t1", "q{2}"])
    for step in range(3):
        if step == 1:
            for one in (store, files):
                one.add(more, SILENT)
        if step == 2:
            for one in (store, files):
                found = one.find(["q\t1", "p/5.jpg", "none"], ["class 3", "a\"b\\c'\n", "红 色", "nobody"], ())
                one.remove([item.id for item in found], SILENT)
        for top, threshold in ((1, None), (5, 0.3), (500, None)):
            mine, theirs = (one.search(vectors(9, seed=5), top, threshold) for one in (store, files))
            for row, expected in zip(mine, theirs, strict=True):
                assert [(m.label, m.path) for m in row] == [(m.label, m.path) for m in expected]
                assert np.allclose([m.score for m in row], [m.score for m in expected], atol=1e-5)
        kept = [[(item.label, item.path) for item in one.items()] for one in (store, files)]
        assert kept[0] == kept[1] and len(kept[0]) == store.manifest().count == files.manifest().count
    assert store.manifest().count == 122 - len([n for n in range(120) if n % 7 == 3 or n == 5]) - 2


def test_a_new_process_finds_everything(store: Store, address: str) -> None:
    before, items = store.manifest(), list(store.items())
    assert (before.model, before.model_path, before.size, before.count) == ("m", "inference", 24, 120)
    store.close()
    again = open_address(address)
    assert again.manifest() == before and list(again.items()) == items
    again.add(FeatureTable(vectors(1, seed=1), ["late"], ["late"]), SILENT)  # no number is given twice
    assert len({item.id for item in again.items()}) == 121
    again.close()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_kinds_are_tuned(kind: str, address: str) -> None:
    store = open_address(address)
    store.build(gallery(400), BuildOptions(kind, recall=0.95), SILENT)
    manifest = store.manifest()
    assert manifest.kind == kind and manifest.recall is not None and manifest.recall >= 0.95 and manifest.search
    if kind == "hnsw":  # more than the effort it was tuned to
        assert len(store.search(vectors(2, seed=4), 100)[0]) == 100
    store.close()


def test_a_build_replaces_and_leaves_nothing_behind(store: Store) -> None:
    first = collections(store)
    store.build(gallery(30, size=8), BuildOptions(), SILENT)
    assert store.manifest().count == 30 and store.manifest().size == 8
    assert len(collections(store)) == 1 and collections(store) != first


def test_a_build_that_fails_keeps_the_index_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = collections(store)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VectorCollection, "make_ready", interrupted)
        store.build(gallery(30), BuildOptions(), SILENT)
    assert collections(store) == names and store.manifest().count == 120
    bad = gallery(9000)
    bad.features[8999] = np.inf
    with pytest.raises(DataError, match="vector 9000 is not finite"):
        store.build(bad, BuildOptions(), SILENT)
    assert collections(store) == names
    # What a killed build leaves goes with the next one.
    with store._connection() as client:  # type: ignore[attr-defined]
        VectorCollection.create(client, "shitu_deadbeef", "shitu", store.manifest())
        VectorCollection.create(client, "shitu_too_1", "shitu_too", store.manifest())
    store.build(gallery(30), BuildOptions(), SILENT)
    assert len(collections(store)) == 2 and "shitu_too_1" in collections(store)


def test_collections_of_others_stay_as_they_are(store: Store, address: str) -> None:
    with store._connection() as client:  # type: ignore[attr-defined]
        client.create_collection("theirs", dimension=4)
        client.create_collection("shitu_x", dimension=4)
        client.insert("theirs", [{"id": 1, "vector": [1, 0, 0, 0]}])
    theirs = open_address(address, "theirs")
    for use in (
        lambda: theirs.check(BuildOptions()),
        lambda: theirs.build(gallery(5), BuildOptions(), SILENT),
        theirs.manifest,
        lambda: theirs.add(gallery(5), SILENT),
        lambda: theirs.remove([1], SILENT),
        lambda: theirs.search(vectors(1)),
    ):
        with pytest.raises(UsageError, match="`shitu index build` did not create it") as caught:
            use()
        assert caught.value.hint == "--collection another_name"
    store.build(gallery(5), BuildOptions(), SILENT)
    with store._connection() as client:  # type: ignore[attr-defined]
        assert {"theirs", "shitu_x"} <= set(client.list_collections())
        assert client.query("theirs", filter="", output_fields=["count(*)"])[0]["count(*)"] == 1


def test_two_indexes_live_in_one_file(store: Store, address: str) -> None:
    other = open_address(address, "other")
    other.build(gallery(9), BuildOptions(), SILENT)
    assert (other.manifest().count, store.manifest().count) == (9, 120)


def test_what_cannot_be_added_leaves_the_index_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu_cli.index.milvus_collection.REQUEST_BYTES", 4 * 24)  # of one vector
    bad = gallery(5)
    bad.features[4] = 0
    with pytest.raises(DataError, match="vector 5 is all zeros"):
        store.add(bad, SILENT)
    assert store.manifest().count == 120


def test_wrong_input(store: Store) -> None:
    for use in (lambda: store.search(vectors(1, size=25)), lambda: store.add(gallery(2, size=25), SILENT)):
        with pytest.raises(DataError, match="25 values, the index 24"):
            use()
    with pytest.raises(UsageError, match="--kind binary: an index in Milvus is flat, hnsw, ivf"):
        store.check(BuildOptions("binary"))
    with pytest.raises(UsageError, match="not in the index: id 987654321"):
        store.remove([987654321, next(store.items()).id], SILENT)
    with pytest.raises(UsageError, match="id '7': expected a whole number"):
        store.find(ids=["7"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="vector 1 is all zeros"):
        store.search(np.zeros((1, 24), np.float32))
    assert [item.path for item in store.find("p/3.jpg")] == ["p/3.jpg"]
    with pytest.raises(UsageError, match="empty"):
        store.remove([item.id for item in store.items()], SILENT)
    with pytest.raises(UsageError, match="at most 16,384"):
        store.search(vectors(1), 20_000)
    with pytest.raises(EnvironmentProblem, match=r"collection shitu: .*(length|70000|65535)"):
        store.add(FeatureTable(vectors(1), ["x" * 70_000], ["p"]), SILENT)
    assert store.manifest().count == 120


@pytest.mark.parametrize(
    ("text", "collection", "says"),
    [
        ("redis:x", "shitu", "expected milvus:"),
        ("milvus:", "shitu", "expected milvus:"),
        ("milvus:somewhere", "shitu", "host:port"),
        ("milvus:ftp://host:1", "shitu", "host:port"),
        ("milvus:http://me:secret@host:19530", "shitu", "no password in the address"),
        ("milvus:g.db", "a b", "--collection a b"),
        ("milvus:g.db", "1a", "--collection 1a"),
    ],
)
def test_addresses_that_no_store_has(text: str, collection: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        open_address(text, collection)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("text", ["http://host:19530", "https://host", "https://host:443/db", "host-1.example:19530"])
def test_addresses_of_servers(text: str) -> None:
    store = MilvusStore(text, "shitu")
    assert store.file is None and store.address.startswith("http") and store.address.endswith(text)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_MILVUS_TOKEN", "me:secret")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store = open_address(f"milvus:127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(EnvironmentProblem, match=r"Fail connecting to server") as caught:
            store.manifest()
    assert "SHITU_MILVUS_TOKEN" in str(caught.value.hint) and "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (
            "[Errno 28] Error writing bytes. Detail: [errno 28] No space left on device",
            "free some space on the disk of",
        ),
        ("[Errno 13] Permission denied: '/x/g.db'", "may you write to"),
        ("[Errno 30] Read-only file system: '/x/g.db'", "may you write to"),
        ("already opened by another process", "only one process at a time"),
    ],
)
def test_what_is_in_the_way_of_a_file(message: str, hint: str, tmp_path: Path) -> None:
    store = MilvusStore(str(tmp_path / "g.db"), "shitu")
    with pytest.raises(EnvironmentProblem) as caught, store._connection(make=True):
        raise pymilvus.MilvusException(message=message)
    assert str(caught.value.hint).startswith(hint)
    store.close()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="--store milvus needs pymilvus") as caught:
        open_address(address).manifest()
    assert caught.value.hint == "pip install 'pymilvus[milvus-lite]' milvus-lite"


def test_files_that_are_not_there_or_not_its_own(tmp_path: Path) -> None:
    def use(name: str, make: bool) -> ShituError:
        store = open_address(f"milvus:{tmp_path / name}")
        with pytest.raises(UsageError) as caught:
            store.check(BuildOptions()) if make else store.manifest()
        return caught.value

    assert "no such file" in use("g.db", make=False).message and not (tmp_path / "g.db").exists()
    assert "no directory" in use("no/g.db", make=True).message
    (tmp_path / "mine.db").mkdir()
    (tmp_path / "mine.db/x").write_text("x")
    assert "was left unchanged" in use("mine.db", make=True).message
    assert [p.name for p in (tmp_path / "mine.db").iterdir()] == ["x"]


def test_a_file_that_another_process_has(store: Store, address: str) -> None:
    program = (
        "import sys; from pathlib import Path; from shitu_cli.errors import ShituError\n"
        "from shitu_cli.index import open_address\n"
        "try: open_address(sys.argv[1]).manifest()\n"
        "except ShituError as error: sys.exit(f'{type(error).__name__}: {error.message}; {error.hint}')"
    )
    done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("EnvironmentProblem: milvus:") and "only one process at a time" in done.stderr
    assert store.manifest().count == 120
