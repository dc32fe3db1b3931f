"""What passes the check of a faiss file never harms the process that searches it."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.index.faiss_file import check_faiss
from shitu_cli.index.files import save_index
from shitu_cli.index.store import KINDS
from tests.index.made import make, vectors
from tests.mutations import at_least, mutations

MEMORY = 8 << 30  # address space of a process that uses mutated files: an allocation without bound ends there
USE = """
import sys
from pathlib import Path
import numpy as np
from shitu_cli.errors import ShituError
from shitu_cli.index.files import load_index
from shitu_cli.index.store import FeatureTable
from tests.index.made import vectors
used = 0
for name in sys.argv[1:]:
    try:
        index = load_index(Path(name))
        queries = vectors(3, index.manifest.size, seed=9)
        index.search(queries, 5)
        index.add(FeatureTable(queries, ["new"] * 3, ["p/0.jpg", "x", "y"]))
        index.search(queries, 5)
        index.remove([min(index.labels)])
        index.search(queries, 5)
    except ShituError:
        continue
    used += 1
print(used)
"""


def write(folder: Path, factory: str, metric: int = faiss.METRIC_INNER_PRODUCT, count: int = 80) -> bytes:
    """`vector.index` with a map of ids; its bytes."""
    x = vectors(max(count, 80))
    index = faiss.IndexIDMap2(faiss.index_factory(24, factory, metric))
    index.train(x)
    index.add_with_ids(x[:count], np.arange(count)[::-1] * 3)
    faiss.write_index(index, str(folder / "vector.index"))
    return (folder / "vector.index").read_bytes()


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "HNSW8", "IVF2,Flat", "IVF60,Flat"])
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
@pytest.mark.parametrize("count", [0, 1, 80])
def test_what_faiss_writes_passes(factory: str, metric: int, count: int, tmp_path: Path) -> None:
    data = write(tmp_path, factory, metric, count)
    content = check_faiss(tmp_path / "vector.index")
    kind = "hnsw" if "HNSW" in factory else "ivf" if "IVF" in factory else "flat"
    assert (content.kind, content.size, content.count, content.metric) == (kind, 24, count, metric)
    assert content.ids is not None and content.ids.tolist() == [3 * n for n in range(count)][::-1]
    assert content.end == len(data)
    (tmp_path / "vector.index").write_bytes(data + b"what faiss does not read")
    assert check_faiss(tmp_path / "vector.index").end == len(data)


def test_an_index_without_ids_passes(tmp_path: Path) -> None:
    flat = faiss.IndexFlatL2(24)
    flat.add(vectors(7))
    faiss.write_index(flat, str(tmp_path / "vector.index"))
    content = check_faiss(tmp_path / "vector.index")
    assert (content.kind, content.count, content.ids) == ("flat", 7, None)


def number(at: int, value: int, layout: str = "<i") -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(layout, changed, at if at >= 0 else len(data) + at, value)
        return bytes(changed)

    return change


# In a file of 80 vectors of 24 values: the map's header takes 37 bytes, the inner header as many.
FORGED = {
    "empty": ("Flat", lambda data: b""),
    "no faiss file": ("Flat", lambda data: b"\x00" * 100),
    "another class of faiss": ("Flat", lambda data: b"IxPQ" + data[4:]),
    "cut off": ("Flat", lambda data: data[:-9]),
    "size 0": ("Flat", number(4, 0)),
    "size negative": ("Flat", number(4, -24)),
    "size huge": ("Flat", number(4, 2**31 - 1)),
    "count huge": ("Flat", number(8, 2**62, "<q")),
    "count negative": ("Flat", number(8, -1, "<q")),
    "not trained": ("Flat", number(32, 0, "<B")),
    "metric of another kind": ("Flat", number(33, 23)),
    "vectors of another count than the ids": ("Flat", number(37 + 8, 79, "<q")),
    "a map of a map": ("Flat", lambda data: data[:37] + data),
    "values without bound": ("Flat", number(74, 2**61, "<Q")),
    "an id twice": ("Flat", number(-8, 3, "<q")),
    "an id below 0": ("Flat", number(-8, -1, "<q")),
    "levels without end": ("HNSW8", number(74, 2**60, "<Q")),
    "lists without end": ("IVF2,Flat", number(74, 2**60, "<Q")),
    "no lists": ("IVF2,Flat", number(74, 0, "<Q")),
    "probing 0": ("IVF2,Flat", number(82, 0, "<Q")),
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_files_are_refused(what: str, tmp_path: Path) -> None:
    factory, forge = FORGED[what]
    (tmp_path / "vector.index").write_bytes(forge(write(tmp_path, factory)))
    with pytest.raises(DataError, match=r"vector\.index is damaged"):
        check_faiss(tmp_path / "vector.index")


def test_a_graph_that_leads_out_of_itself_is_refused(tmp_path: Path) -> None:
    """Each of these lets faiss read beyond its memory."""
    whole = faiss.index_factory(24, "HNSW8", faiss.METRIC_INNER_PRODUCT)
    faiss.omp_set_num_threads(1)
    whole.add(vectors(400))
    levels = faiss.vector_to_array(whole.hnsw.levels)
    low, high = int(np.flatnonzero(levels == 1)[0]), int(np.flatnonzero(levels > 1)[0])
    upper = int(faiss.vector_to_array(whole.hnsw.offsets)[high]) + 16  # its neighbours on level 1

    def forged(**changes: Callable[[np.ndarray], object]) -> Path:
        graph = faiss.clone_index(whole)
        for name, change in changes.items():
            if name in ("entry_point", "max_level", "efSearch", "efConstruction"):
                setattr(graph.hnsw, name, change(np.asarray(getattr(graph.hnsw, name))))
            else:
                values = faiss.vector_to_array(getattr(graph.hnsw, name))
                change(values)
                faiss.copy_array_to_vector(values, getattr(graph.hnsw, name))
        faiss.write_index(graph, str(tmp_path / "vector.index"))
        return tmp_path / "vector.index"

    def put(at: int, value: int) -> Callable[[np.ndarray], object]:
        return lambda values: values.__setitem__(at, value)

    check_faiss(forged())
    for changes in (
        {"neighbors": put(0, 400)},
        {"neighbors": put(5, -2)},
        {"neighbors": put(upper, low)},
        {"offsets": put(1, 10**9)},
        {"offsets": put(0, 1)},
        {"levels": put(low, 0)},
        {"levels": put(low, 60)},
        {"levels": put(low, 2)},
        {"entry_point": lambda value: 400},
        {"entry_point": lambda value: -1},
        {"entry_point": lambda value: low},
        {"max_level": lambda value: 9},
        {"efSearch": lambda value: 2**30},
        {"efConstruction": lambda value: 0},
    ):
        with pytest.raises(DataError, match=r"its graph"):
            check_faiss(forged(**changes))


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_no_bytes_get_through_with_another_error(kind: str, tmp_path: Path) -> None:
    save_index(make(60, kind), tmp_path / "i")
    passed = 0
    for data in mutations((tmp_path / "i/vector.index").read_bytes(), at_least(250)):
        (tmp_path / "vector.index").write_bytes(data)
        try:
            passed += check_faiss(tmp_path / "vector.index").count == 60
        except DataError as error:
            assert "shitu index build" in str(error.hint)
    assert passed


def test_what_gets_through_can_be_used(tmp_path: Path) -> None:
    """In a process of its own: a forged file must not end it, nor let it take memory without bound."""
    folders = []
    for kind in KINDS:
        save_index(make(60, kind), tmp_path / kind)
        files = {file.name: file.read_bytes() for file in (tmp_path / kind).iterdir()}
        for number, data in enumerate(mutations(files["vector.index"], 25, seed=1)):
            folder = tmp_path / f"{kind}-{number}"
            folder.mkdir()
            for name, content in {**files, "vector.index": data}.items():
                (folder / name).write_bytes(content)
            folders.append(str(folder))
    done = subprocess.run(
        [sys.executable, "-c", USE, *folders],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > len(folders) // 10
