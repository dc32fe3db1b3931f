"""Zip archives: their table of contents, and members with or without deflate; nothing is unpacked to disk."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.inputs.damage import DAMAGE
from shitu_cli.stores.member_index import Member, MemberIndex
from shitu_cli.stores.ranges import WHOLE, Ranged, Stream, too_early

MAX_TABLE = 1024 * MIB  # bytes of a table of contents: some ten million members
_LOCAL = struct.Struct("<4s5HIIIHH")  # the header before each member
_EXTRA = 512  # bytes after it: usually enough for the name and the extra fields
_ENCRYPTED, _UTF8 = 1, 1 << 11


def index_zip(file: Ranged) -> MemberIndex:
    """Return the index of a zip archive.

    Raises DataError for one that is damaged, or whose members overlap, as in archives that are made to unpack to
    thousands of times their size.
    """
    try:
        with zipfile.ZipFile(Stream(file, MAX_TABLE)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except DAMAGE as problem:
        raise DataError(f"{file.name}: cannot be read as a zip archive ({problem})", hint=WHOLE) from None
    members: dict[str, Member] = {}
    for info in infos:
        if max(info.header_offset, info.file_size, info.compress_size) >= 1 << 62:
            raise too_early(file.name)
        method = -1 if info.flag_bits & _ENCRYPTED else info.compress_type
        name = _name_of(info).removeprefix("./")
        members[name] = Member(info.header_offset, info.file_size, info.compress_size, method, info.CRC)
    _refuse_overlaps(file, members)
    return MemberIndex.of(members, {})


def _name_of(info: zipfile.ZipInfo) -> str:
    """Return the name of a member: macOS and others write UTF-8 without saying so, which zipfile takes for CP437."""
    if info.flag_bits & _UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _refuse_overlaps(file: Ranged, members: dict[str, Member]) -> None:
    if not members:
        return
    spans = np.array([(m.start, m.start + _LOCAL.size + m.packed) for m in members.values()], np.int64)
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if (spans[1:, 0] < spans[:-1, 1]).any():
        raise DataError(f"{file.name}: its members overlap: the archive is damaged or malicious")
    if spans[0, 0] < 0 or spans[-1, 1] > file.size:
        raise too_early(file.name)


def read_zip_member(file: Ranged, name: str, member: Member) -> bytes:
    """Return the content of a member; DataError if it is damaged, encrypted, or not what the table says."""
    if member.method == -1:
        raise DataError(f"{name}: encrypted, which cannot be read", hint="unpack the archive with its password")
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name}: compressed by a method that is not supported", hint="use zip's default, deflate")
    length = min(_LOCAL.size + _EXTRA + member.packed, file.size - member.start)
    data = file.read_at(member.start, length)
    mark, *_, name_length, extra_length = _LOCAL.unpack_from(data)
    if mark != b"PK\x03\x04":
        raise DataError(f"{name}: no member begins where the table of contents says", hint=WHOLE)
    first = _LOCAL.size + name_length + extra_length
    packed = data[first : first + member.packed]
    if len(packed) < member.packed:
        packed = file.read_at(member.start + first, member.packed)
    content = packed if member.method == zipfile.ZIP_STORED else _inflated(packed, name, member.size)
    if len(content) != member.size or zlib.crc32(content) != member.check:
        raise DataError(f"{name}: damaged in the archive", hint=WHOLE)
    return content


def _inflated(packed: bytes, name: str, size: int) -> bytes:
    """Return the inflated bytes, at most one more than the member claims to have."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except zlib.error as problem:
        raise DataError(f"{name}: damaged in the archive ({problem})", hint=WHOLE) from None
