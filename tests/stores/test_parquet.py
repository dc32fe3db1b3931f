"""Values of Parquet files are found at their place, whatever the writer chose; pyarrow is the reference."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError, ShituError
from shitu_cli.stores import open_archive, parquet, read_image
from tests.mutations import at_least, cases, mutations
from tests.stores.samples import images, parquet_bytes

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

WRITINGS = list(
    itertools.product(("none", "snappy", "zstd", "gzip", "brotli"), ("1.0", "2.0"), (True, False), (200, 1 << 20))
)


def written(values: list[bytes | None], writing: tuple[str, str, bool, int], group: int = 5) -> bytes:
    compression, version, dictionary, page = writing
    rows = [None if value is None else {"bytes": value, "path": None} for value in values]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    out = io.BytesIO()
    pq.write_table(
        pa.table({"n": list(range(len(values))), "image": pa.array(rows, kind)}),
        out,
        compression=compression,
        data_page_version=version,
        use_dictionary=dictionary,
        data_page_size=page,
        write_batch_size=2,
        row_group_size=group,
    )
    return out.getvalue()


def values_of(path: Path) -> dict[int, bytes]:
    return {
        int(name.rpartition("/")[2].partition(".")[0]): read_image(f"{path}::{name}")
        for name in open_archive(path).index.names()
    }


@pytest.mark.parametrize("writing", WRITINGS, ids=str)
def test_every_value_is_where_pyarrow_finds_it(writing: tuple[str, str, bool, int], tmp_path: Path) -> None:
    values = [
        None,
        b"",
        b"\xff\xd8a" * 90,
        b"b",
        None,
        b"\xff\xd8a" * 90,
        b"c" * 700,
        b"d",
        b"\x89PNG",
        None,
        None,
        b"e",
    ]
    (tmp_path / "a.parquet").write_bytes(written(values, writing))
    assert values_of(tmp_path / "a.parquet") == {n: value for n, value in enumerate(values) if value is not None}


@cases(60)
@given(
    values=st.lists(st.none() | st.binary(max_size=40) | st.sampled_from([b"x" * 300, b"y"]), min_size=1, max_size=40),
    writing=st.sampled_from(WRITINGS),
    group=st.integers(1, 50),
)
def test_any_values(
    values: list[bytes | None], writing: tuple[str, str, bool, int], group: int, tmp_path: Path
) -> None:
    (tmp_path / "a.parquet").write_bytes(written(values, writing, group))
    assert values_of(tmp_path / "a.parquet") == {n: value for n, value in enumerate(values) if value is not None}


def test_a_column_of_plain_bytes_and_one_without_nulls(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("picture", pa.large_binary(), nullable=False), pa.field("text", pa.string())])
    table = pa.table({"picture": [b"a", b"bb"], "text": ["x", "y"]}, schema)
    pq.write_table(table, tmp_path / "a.parquet")
    assert open_archive(tmp_path / "a.parquet").index.names() == ["picture/0.bin", "picture/1.bin"]
    assert values_of(tmp_path / "a.parquet") == {0: b"a", 1: b"bb"}


def test_suffixes_are_those_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(images(1)))
    assert open_archive(tmp_path / "a.parquet").index.names() == [f"image/{n}.jpg" for n in range(3)]
    with pytest.raises(DataError, match=r"no member 'image/3\.jpg'"):
        read_image(f"{tmp_path}/a.parquet::image/3.jpg")


@pytest.mark.fuzz
def test_damaged_files_end_in_an_error_that_names_them(tmp_path: Path) -> None:
    whole = written([b"\xff\xd8a" * 90, b"b", None, b"c" * 700], ("snappy", "2.0", True, 200))
    for number, data in enumerate(mutations(whole, at_least(100))):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(data)
        try:
            values_of(path)
        except ShituError as problem:
            assert str(path) in problem.message


def test_unpacked_pages_stay_within_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = parquet._Pages(3000)
    monkeypatch.setattr(parquet, "_pages", pages)
    values = [bytes([n]) * 500 for n in range(40)]
    (tmp_path / "a.parquet").write_bytes(written(list(values), ("zstd", "1.0", False, 800)))
    for _ in range(2):
        assert values_of(tmp_path / "a.parquet") == dict(enumerate(values))
        assert 0 < sum(map(len, pages._pages.values())) <= 3000
