"""Lines come out as from the whole text, in the memory of one of them, and none is endless."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, count_lines, lines, read_lines, read_text, same_content
from tests.mutations import cases


@cases(300)
@given(data=st.lists(st.sampled_from([b"a", b"\n", b"\r\n", "红".encode(), b"\xff", b"\xef\xbb\xbf", b"\t1"])))
def test_any_text_has_the_lines_of_the_whole(data: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("lines") / "a.txt"
    file.write_bytes(b"".join(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MIB", 3)  # bytes of a block
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            blocks = list(lines.byte_lines(stream, file, longest=1 << 20, digest=digest))
    assert b"\n".join(blocks) == file.read_bytes().removesuffix(b"\n")
    assert digest.hexdigest() == hashlib.sha256(file.read_bytes()).hexdigest()
    read = list(read_lines(file, keep_bytes=True))
    text = read_text(file, keep_bytes=True)
    assert read == text.removesuffix("\n").split("\n") or (not text and not read)
    with file.open("rb") as whole:
        assert count_lines(file) == sum(1 for _ in whole)


@pytest.mark.slow
def test_a_long_file_of_short_lines_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"photos/1.jpg\t17\n" * 2_000_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_lines(file)) == 2_000_000 == count_lines(file)
        assert same_content(file, file)
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


def test_lines_that_are_too_long_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\ntwo\n" * 300_000)
    os.truncate(file, 1 << 29)
    with pytest.raises(DataError, match=r"a\.txt:600001: the line is too long: it may have at most 1 MiB"):
        sum(1 for _ in read_lines(file))
    file.write_bytes(b"x" * MIB + b"\n" + b"y" * MIB)
    assert [len(line) for line in read_lines(file)] == [MIB, MIB]
    file.write_bytes(b"x\n" + b"y" * (MIB + 1) + b"\nz")
    with pytest.raises(DataError, match=r"a\.txt:2: "):
        list(read_lines(file))


def test_bytes_that_are_no_text_name_their_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a line of text\n" * 200_000 + b"\xff\n")
    with pytest.raises(DataError, match=r"a\.txt:200001: byte 0xff is not UTF-8"):
        sum(1 for _ in read_lines(file))


def test_two_files_are_equal_byte_for_byte(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"a" * 3 * MIB)
    for content, same in ((b"a" * 3 * MIB, True), (b"a" * (3 * MIB - 1) + b"b", False), (b"a" * MIB, False)):
        other.write_bytes(content)
        assert same_content(one, other) is same
    os.truncate(one, 2 << 30)
    with pytest.raises(DataError, match="too large"):
        same_content(one, other)
