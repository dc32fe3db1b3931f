"""Features and indexes of a few bytes that would fill the memory: each is refused by what it says of itself."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError
from shitu_cli.features.writing import check_out
from shitu_cli.index import foreign_yaml
from shitu_cli.index.foreign_yaml import read_yaml_map
from shitu_cli.inputs import MIB
from tests.command import shitu
from tests.index.made import vectors
from tests.mutations import cases


def _jsonl(folder: Path) -> Path:
    (folder / "f.jsonl").touch()
    os.truncate(folder / "f.jsonl", 20 * MIB)
    return folder / "f.jsonl"


def _second_line(folder: Path) -> Path:
    line = json.dumps({"path": "a", "label": "b", "feature": [1.0, 2.0]})
    (folder / "f.jsonl").write_text(f"{line}\n{' ' * 17 * MIB}{line}\n")
    return folder / "f.jsonl"


def _table(folder: Path) -> Path:
    np.save(folder / "f.npy", vectors(3))
    (folder / "f.tsv").write_text("path\tlabel\na.jpg\tx\n")
    os.truncate(folder / "f.tsv", 3 * MIB)
    return folder / "f.npy"


def _long_texts(folder: Path) -> Path:
    np.savez(folder / "f.npz", features=vectors(2), paths=np.asarray(["a", "b"]))
    header = b"{'descr': '<U999999999', 'fortran_order': False, 'shape': (2,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "f.npz", "a") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return folder / "f.npz"


def _parquet(folder: Path, **table: object) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    import pyarrow.parquet as parquet

    writing = {key: table.pop(key) for key in ("use_dictionary", "column_encoding") if key in table}
    parquet.write_table(pyarrow.table(table), folder / "f.parquet", **writing)
    return folder / "f.parquet"


def _equal_rows(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    count = 1_000_000
    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.zeros(count * 4, np.float32)), 4)
    text = pyarrow.array(["a"] * count)
    return _parquet(folder, path=text, label=text, feature=values)


def _equal_values(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    values = pyarrow.ListArray.from_arrays([0, 5_000_000, 10_000_000], np.ones(10_000_000, np.float32))
    return _parquet(folder, path=["a", "b"], label=["a", "b"], feature=values)


def _equal_texts(folder: Path) -> Path:
    return _parquet(folder, path=["p"] * 5000, label=["x" * 40_000] * 5000, feature=[[1.0, 2.0]] * 5000)


def _equal_beginnings(folder: Path) -> Path:
    encoding = {"path": "DELTA_BYTE_ARRAY", "label": "PLAIN", "feature.list.element": "PLAIN"}
    table = {"path": ["x" * 40_000] * 100, "label": ["x"] * 100, "feature": [[1.0, 2.0]] * 100}
    return _parquet(folder, **table, use_dictionary=False, column_encoding=encoding)


def _shard(folder: Path) -> Path:
    count = 10**7
    job = {"kind": "extract", "of": 1, "model": "m", "settings": "{}", "feature_size": 2, "engine": "e"}
    part = {"name": "images", "order": "o", "total": count, "start": 0, "stop": count, "skipped": {}}
    with zipfile.ZipFile(folder / "f.shard", "w") as archive:
        archive.writestr("shard.json", json.dumps({"format": 1, "number": 1, "job": job, "parts": [part]}))
        archive.writestr("images.f32", bytes(16))
        archive.writestr("images.tsv", "a\tb\nc\td\n")
    return folder / "f.shard"


def _flat_index(folder: Path, count: int = 10**7) -> Path:
    """A file of so many vectors of one value, all zero: it takes no room on the disk."""
    head = b"IxFI" + struct.pack("<iqqqBi", 1, count, 1 << 20, 1 << 20, 1, 0) + struct.pack("<Q", count)
    (folder / "vector.index").write_bytes(head)
    os.truncate(folder / "vector.index", len(head) + 4 * count)
    (folder / "id_map.yaml").write_text("id_map:\n  0: a\n  7: b\n")
    return folder / "vector.index"


def _many_values(folder: Path) -> Path:
    file = _flat_index(folder, 2)
    (folder / "id_map.yaml").write_text(f"id_map: [{'a,' * 2_000_000}a]")
    return file


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zeros for lines": (_jsonl, "f.jsonl:1: the line is too long: it may have at most 16 MiB"),
    "a long line": (_second_line, "f.jsonl:2: the line is too long"),
    "zeros for a table": (_table, "f.tsv:3: the line is too long: it may have at most 1 MiB"),
    "texts of a billion characters": (_long_texts, "holds values of numpy's type 'U999999999'"),
    "rows that are equal": (_equal_rows, "expands to many times its size, as no file of features does"),
    "values that are equal": (_equal_values, "expands to many times its size, as no file of features does"),
    "texts that are equal": (_equal_texts, "expands to many times its size, as no file of features does"),
    "texts that begin alike": (_equal_beginnings, "an encoding of Parquet that is not supported"),
    "a shard of nothing": (_shard, "its features are cut off"),
    "an index of nothing": (_flat_index, "9999998 vectors have no label, such as number 1"),
    "a map of too many values": (_many_values, "id_map.yaml:1: more than 1,000,000 values"),
}


LONGEST = "a map of too many values"  # a million values, each of which is parsed


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == LONGEST else name for name in BOMBS]
)
def test_small_files_of_much_are_refused(name: str, tmp_path: Path) -> None:
    make, says = BOMBS[name]
    file = make(tmp_path)
    tracemalloc.start()
    try:
        done = shitu("index", "build", "--features", str(file), "--index", "index", cwd=tmp_path, check=False)
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()
    assert done.returncode == 3 and says in done.stderr and not (tmp_path / "index").exists()


def test_a_table_of_items_has_no_endless_line(tmp_path: Path) -> None:
    shitu("index", "build", "--features", str(_features(tmp_path)), "--index", "index", cwd=tmp_path)
    with (tmp_path / "index/items.tsv").open("ab") as file:
        file.write(bytes(3 * MIB))
    done = shitu("index", "show", "--index", "index", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "items.tsv:4: the line is too long" in done.stderr


def test_a_table_that_is_not_ours_is_not_read_for_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "f.tsv").touch()
    os.truncate(tmp_path / "f.tsv", 64 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(Exception, match=r"f\.tsv exists and was not written by this command"):
            check_out(tmp_path / "f.npy")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_what_does_not_fit_into_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index whose file takes no room on the disk would be loaded until the machine stands still."""
    file = _flat_index(tmp_path, 25_000_000)
    (tmp_path / "id_map.yaml").write_text("id_map:\n" + "".join(f"  {n}: a\n" for n in range(100)))
    monkeypatch.setattr("shitu_cli.index.foreign._check_labelled", lambda *_: None)
    monkeypatch.setattr("shitu_cli.runtime.memory.available_memory", lambda: 100 * MIB)
    done = shitu("index", "build", "--features", str(file), "--index", "index", cwd=tmp_path, check=False)
    assert done.returncode == 5 and "not enough memory to read" in done.stderr


def _features(folder: Path) -> Path:
    np.save(folder / "f.npy", vectors(3))
    (folder / "f.tsv").write_text("path\tlabel\n" + "".join(f"{n}.jpg\tx\n" for n in range(3)))
    return folder / "f.npy"


LABELS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=120),
    st.sampled_from(["yes", "1_000", "2001-01-01", "~", "12:30", "a: b", "a #b", "- a", "*a", "'", '"', "0x1f", "="]),
)


@cases(300)
@given(labels=st.dictionaries(st.integers(0, 10**17), LABELS, min_size=1), options=st.sampled_from([{}, {"width": 20}]))
def test_maps_are_read_as_pyyaml_reads_them(
    labels: dict[int, str], options: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("map") / "id_map.yaml"
    for is_unicode in (False, True):
        map_ = {"id_map": labels, "index_type": "Flat", "metric_type": "IP"}
        file.write_text(yaml.dump(map_, allow_unicode=is_unicode, **options), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(foreign_yaml, "_read_whole", lambda file: pytest.fail("read as a whole"))
            assert read_yaml_map(file) == yaml.safe_load(file.read_text(encoding="utf-8"))["id_map"]


@pytest.mark.parametrize(
    "text",
    [
        "id_map: {0: a, 1: b}",
        "# of the shop\nid_map:\n  0: a\n  1: b\n",
        "---\nid_map:\n  0: a  # the first\n  1: b\n",
        "id_map:\n    0: a\n    1: b\nmore: [1, 2]\n",
        "more:\n  5: c\nid_map:\n  0: a\n  1: b\n",
        "id_map:\n  0: &x a\n  1: b\nmore: *x\n",
        "id_map:\n  ? 0\n  : a\n  1: b\n",
        "id_map:\n  '0': a\n  \"1\": b\n",
        "id_map:\r\n  0: a\r\n  1: b\r\n",
        "id_map:\n  00: a\n  01: b\n",
    ],
)
def test_maps_of_any_other_form(text: str, tmp_path: Path) -> None:
    (tmp_path / "id_map.yaml").write_text(text)
    assert read_yaml_map(tmp_path / "id_map.yaml") == {0: "a", 1: "b"}


def test_a_map_of_a_million_images_is_read_in_little_memory(tmp_path: Path) -> None:
    """PyYAML takes a kilobyte for each."""
    file = tmp_path / "id_map.yaml"
    file.write_text("id_map:\n" + "".join(f"  {n}: class {n % 5000}\n" for n in range(200_000)))
    tracemalloc.start()
    try:
        assert len(read_yaml_map(file)) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 60 * MIB
    finally:
        tracemalloc.stop()


def test_a_map_that_names_an_id_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "id_map.yaml").write_text("id_map:\n  0: a\n  1: b\n  0: c\n")
    with pytest.raises(DataError, match="names an id twice"):
        read_yaml_map(tmp_path / "id_map.yaml")
