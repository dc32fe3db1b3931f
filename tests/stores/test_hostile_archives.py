"""Archives of strangers: a clear error or plain bytes; nothing written, waited for, or unpacked beyond a limit."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.errors import DataError, ShituError
from shitu_cli.inputs import MIB
from shitu_cli.stores import is_there, open_archive, read_image
from tests.mutations import at_least, mutations
from tests.stores.samples import tar_bytes, zip_bytes

CONTENT = {"a/1.jpg": b"1" * 700, "a/1.cls": b"3", "b/2.jpg": bytes(range(256)) * 3}


@pytest.mark.fuzz
@pytest.mark.parametrize(("kind", "write"), [("tar", tar_bytes), ("zip", zip_bytes)])
def test_damaged_archives_end_in_an_error_that_names_them(
    kind: str, write: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    whole = write(CONTENT)
    path = tmp_path / f"a.{kind}"
    for data in mutations(whole, at_least(100)):
        path.write_bytes(data)
        try:
            for name in open_archive(path).index.names():
                read_image(f"{path}::{name}")
        except ShituError as problem:
            assert str(path) in problem.message


def test_a_tar_that_ends_too_early(tmp_path: Path) -> None:
    whole = tar_bytes(CONTENT)
    for length in (600, 1024, 1536, 2000, 2600, 4 * 512 + 300, 10 * 512):
        path = tmp_path / f"{length}.tar"
        path.write_bytes(whole[:length].rstrip(b"\0") if length == 10 * 512 else whole[:length])
        with pytest.raises(DataError, match=r"ends too early"):
            open_archive(path)


def test_a_tar_with_a_damaged_header_is_not_taken_for_its_beginning(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(CONTENT))
    data[3 * 512 + 20] ^= 1  # the second member's header
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match="damaged at byte 1,536"):
        open_archive(tmp_path / "a.tar")


def test_a_compressed_tar_says_how_to_unpack_the_compression(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(b"x"))
    with pytest.raises(DataError, match="compressed tar") as caught:
        open_archive(tmp_path / "a.tar")
    assert "gunzip" in str(caught.value.hint)


def test_headers_that_claim_gigabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 40
    path.write_bytes(info.tobuf() + b"x" * 5000)
    with pytest.raises(DataError, match="ends too early"):
        open_archive(path)
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 2 * MIB
    path.write_bytes(long_name.tobuf() + b"n" * 2 * MIB + tar_bytes(CONTENT))
    with pytest.raises(DataError, match="header of 2,097,152 bytes"):
        open_archive(path)


def test_names_that_lead_elsewhere_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    path.write_bytes(tar_bytes({"../secret.jpg": b"mine", str(tmp_path / "secret.jpg"): b"mine too"}))
    before = sorted(str(item) for item in tmp_path.rglob("*"))
    assert read_image(f"{path}::../secret.jpg") == b"mine"
    assert read_image(f"{path}::{tmp_path}/secret.jpg") == b"mine too"
    assert (tmp_path / "secret.jpg").read_bytes() == b"secret"
    assert sorted(str(item) for item in tmp_path.rglob("*")) == before
    assert not is_there(f"{path}::secret.jpg")


def test_a_member_that_unpacks_to_too_much_is_refused_before(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes({"a.bmp": b"\0" * (3 * MIB)}))
    with pytest.raises(DataError, match=r"a\.bmp is too large: at most 2 MiB"):
        read_image(f"{path}::a.bmp", limit=2 * MIB)


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"a.bmp": b"\0" * 100_000}))
    at = data.rindex(b"PK\x01\x02") + 24  # the size in the table of contents
    data[at : at + 4] = struct.pack("<I", 50)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="damaged in the archive"):
        read_image(f"{tmp_path}/a.zip::a.bmp")


def test_members_over_each_other_are_refused(tmp_path: Path) -> None:
    """As in zip bombs without recursion (Fifield 2019): thousands of members that share their packed bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bmp", b"\0" * 100_000)
        first = archive.infolist()[0]
        for n in range(50):
            twin = zipfile.ZipInfo(f"{n}.bmp")
            twin.header_offset, twin.compress_type = first.header_offset, first.compress_type
            twin.file_size, twin.compress_size, twin.CRC = first.file_size, first.compress_size, first.CRC
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    (tmp_path / "a.zip").write_bytes(out.getvalue())
    with pytest.raises(DataError, match="overlap"):
        open_archive(tmp_path / "a.zip")


def test_an_encrypted_member_says_so(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"a.jpg": b"1" * 50}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        read_image(f"{tmp_path}/a.zip::a.jpg")


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match="a pipe, not a regular file"):
        open_archive(tmp_path / "a.tar")
    with pytest.raises(DataError, match="No such file"):
        read_image(f"{tmp_path}/b.tar::a.jpg")


def test_a_member_of_negative_size_is_not_read_for_ever(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(CONTENT))
    header = data[2 * 512 + 512 : 3 * 512 + 512]  # of the second member
    header[156:157] = b"Z"  # a type that nobody knows
    header[124:136] = (-512 + 256**12).to_bytes(12, "big")  # its size, in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[3 * 512 : 4 * 512] = header
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tar"):
        open_archive(tmp_path / "a.tar")


def test_a_member_without_a_name(tmp_path: Path) -> None:
    """Python's zipfile has no error for it, and fails."""
    data = bytearray(zip_bytes({"x": b"content"}))
    entry = data.index(b"PK\x01\x02")
    data[entry + 28 : entry + 34] = bytes([0, 0, 0, 0, 1, 0])  # the byte of its name is a comment now
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip: cannot be read as a zip archive"):
        open_archive(tmp_path / "a.zip")
