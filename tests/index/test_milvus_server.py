"""The index on a real Milvus server: the answers of the directory, also while others add to it and replace it.

The package `milvus` carries the server's program. It is started below the test's own directory, with passwords on.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import EnvironmentProblem, ShituError, UsageError
from shitu_cli.index import open_address, open_index
from shitu_cli.index.store import BuildOptions, FeatureTable, Match, Store
from shitu_cli.reporting import SilentReporter
from tests.index.made import gallery, vectors

pytest.importorskip("pymilvus", reason="the client of Milvus is an extra")
milvus = pytest.importorskip("milvus", reason="the package milvus carries a server for Linux on x86-64")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SILENT = SilentReporter()
COUNT = 300
SEARCHES, SEARCHERS = 1000, 8
BATCHES, BATCH = 60, 3
ADD = """
import sys
from pathlib import Path
from shitu_cli.reporting import SilentReporter
from shitu_cli.index import open_address
from shitu_cli.index.store import FeatureTable
from tests.index.made import vectors
address, batches, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_address(address, "busy")
for n in range(batches):
    table = FeatureTable(vectors(size, seed=1000 + n), ["new"] * size, [f"new/{n}-{k}" for k in range(size)])
    store.add(table, SilentReporter())
    print(n, flush=True)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = milvus.MilvusServer(milvus.MilvusServerConfig(), wait_for_started=False)
    server.set_base_dir(str(tmp_path_factory.mktemp("milvus")))
    server.config.set("authorization_enabled", True)
    try:
        server.start()
        if not runs(server):
            pytest.skip("the Milvus server does not start here; perhaps another one has its ports")
        yield f"milvus:127.0.0.1:{server.listen_port}"
    finally:
        server.stop()


def runs(server: Any) -> bool:
    """Whether the server answers within two minutes; False as soon as its process ends."""
    for _ in range(120):
        if server.server_proc.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            health = urllib.request.urlopen(f"http://127.0.0.1:{server.webservice_port}/healthz", timeout=5)
            if b"OK" in health.read():
                return True
        time.sleep(1)
    return False


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_MILVUS_TOKEN", "root:Milvus")


def texts(rows: list[list[Match]]) -> list[list[tuple[str, str]]]:
    return [[(match.path, match.label) for match in row] for row in rows]


def recall_of(rows: list[list[Match]], expected: list[list[Match]]) -> float:
    pairs = list(zip(texts(rows), texts(expected), strict=True))
    return float(np.mean([len(set(row) & set(truth)) / len(truth) for row, truth in pairs]))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_the_same_answers_as_the_directory(kind: str, address: str, tmp_path: Path) -> None:
    server, files = open_address(address, f"same_{kind}"), open_index(tmp_path / "index")
    server.check(BuildOptions(kind))
    server.build(gallery(COUNT), BuildOptions(kind, model="m"), SILENT)
    files.build(gallery(COUNT), BuildOptions(), SILENT)
    known = server.manifest()
    assert (known.kind, known.count, known.model, known.size) == (kind, COUNT, "m", 24)
    queries = vectors(40, seed=5)

    def compare() -> None:
        mine, theirs = server.search(queries, 10), files.search(queries, 10)
        if kind == "flat":
            assert texts(mine) == texts(theirs)
            scores = [[[match.score for match in row] for row in rows] for rows in (mine, theirs)]
            assert np.allclose(*scores, atol=1e-5)
        else:
            assert known.recall is not None and known.recall >= 0.99
            assert recall_of(mine, theirs) >= 0.95
        items = [sorted((item.path, item.label) for item in store.items()) for store in (server, files)]
        assert items[0] == items[1] and server.manifest().count == len(items[0])

    compare()
    more = FeatureTable(vectors(4, seed=9), ["new", 'a"b\\c', "红 色", "new"], ["p/0.jpg", "q\t1", "q{2}", "q'3"])
    assert [store.add(more, SILENT) for store in (server, files)] == [1, 1]
    compare()
    for store in (server, files):
        items = store.find(["p/7.jpg", "q\t1", "none"], ["class 3", "nobody"], ())
        store.remove([item.id for item in items], SILENT)
    compare()
    server.close()


def in_threads(count: int, work: Callable[[int], None]) -> list[Exception]:
    """Run `work(number)` in so many threads; what they raised."""
    errors: list[Exception] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_parts_that_are_added_side_by_side_are_one_index(address: str, tmp_path: Path) -> None:
    """As machines do with the shards of one extraction; one of them is started twice."""
    whole = gallery(COUNT)
    bounds = np.linspace(0, COUNT, 6).astype(int)
    parts = [
        FeatureTable(whole.features[a:b], whole.labels[a:b], whole.paths[a:b]) for a, b in itertools.pairwise(bounds)
    ]
    server, files = open_address(address, "parts"), open_index(tmp_path / "index")
    server.build(parts[0], BuildOptions(model="m"), SILENT)

    def add(number: int) -> None:
        with contextlib.closing(open_address(address, "parts")) as store:
            store.add(parts[number + 1], SILENT)

    assert in_threads(4, add) == []
    add(2)
    files.build(whole, BuildOptions(), SILENT)
    queries = vectors(40, seed=5)
    assert server.manifest().count == COUNT and texts(server.search(queries, 10)) == texts(files.search(queries, 10))
    server.close()


def test_searches_while_another_process_adds(address: str) -> None:
    store = open_address(address, "busy")
    store.build(gallery(COUNT), BuildOptions(), SILENT)
    x = vectors(COUNT)
    arguments = [sys.executable, "-c", ADD, address, str(BATCHES), str(BATCH)]
    adding = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    during = []

    def search(number: int) -> None:
        own = open_address(address, "busy")
        for n in range(SEARCHES // SEARCHERS):
            row = (number + n * SEARCHERS) % COUNT
            best = own.search(x[row : row + 1], 3)[0]
            assert best[0].path == f"p/{row}.jpg" and best[0].label == f"class {row % 7}" and best[0].score > 0.9999
            assert len({match.path for match in best}) == 3
            if adding.poll() is None:
                during.append(row)
        own.close()

    errors = in_threads(SEARCHERS, search)
    assert adding.wait(300) == 0
    assert not errors and len(during) > SEARCHES // 10
    assert store.manifest().count == COUNT + BATCHES * BATCH
    for n in range(BATCHES):
        assert {row[0].path for row in store.search(vectors(BATCH, seed=1000 + n), 1)} == {
            f"new/{n}-{k}" for k in range(BATCH)
        }
    store.close()


def test_searches_while_the_index_is_replaced(address: str) -> None:
    """Each answer is of one of the builds, whole; none fails because a build drops what it replaces."""
    builder = open_address(address, "swapped")

    def build(generation: int) -> None:
        table = gallery(50, seed=generation)
        builder.build(table._replace(labels=[f"build {generation}"] * 50), BuildOptions(), SILENT)

    build(0)
    over = threading.Event()
    seen: set[str] = set()

    def search(number: int) -> None:
        own = open_address(address, "swapped")
        while not over.is_set():
            labels = {match.label for match in own.search(vectors(1), 50)[0]}
            assert len(labels) == 1 and own.manifest().count == 50
            seen.update(labels)
        own.close()

    def work(number: int) -> None:
        if number:
            return search(number)
        try:
            for generation in range(1, 4):
                build(generation)
        finally:
            over.set()

    assert not in_threads(3, work)
    assert len(seen) > 1
    builder.close()


def test_what_the_server_refuses(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Store = open_address(address, "refused")
    with pytest.raises(UsageError, match="no index in"):
        store.manifest()
    store.build(gallery(5), BuildOptions(), SILENT)
    with pytest.raises(ShituError) as caught:
        store.add(FeatureTable(vectors(1), ["x" * 70_000], ["p"]), SILENT)
    assert "TOKEN" not in str(caught.value.hint)
    store.close()
    monkeypatch.setenv("SHITU_MILVUS_TOKEN", "root:wrong")
    with pytest.raises(EnvironmentProblem) as problem:
        open_address(address, "refused").manifest()
    assert "SHITU_MILVUS_TOKEN" in str(problem.value.hint) and "wrong" not in problem.value.message
