"""Tar archives: the WebDataset way to keep many images in one file, read at any place once their headers were read."""

from __future__ import annotations

import tarfile

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.stores.member_index import Member, MemberIndex
from shitu_cli.stores.ranges import WHOLE, Ranged, Stream, too_early

LABELS = (".cls", ".txt", ".json")  # suffixes of members with the label of the image beside them
SMALL = 4096  # bytes of such a member that the index holds
MAX_HEADER = MIB
_GZIP, _BZIP, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"


def index_tar(file: Ranged) -> MemberIndex:
    """Return the index of a tar archive: its regular files, the last one of each name as with tar itself.

    Links within the archive lead to their target; other links, devices and sparse files are left out. Raises DataError
    for an archive that is damaged, compressed, or ends too early.
    """
    _refuse_compressed(file)
    members: dict[str, Member] = {}
    texts: dict[str, bytes] = {}
    stream = Stream(file, MAX_HEADER)
    try:
        with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                if archive.offset <= info.offset:
                    raise tarfile.ReadError("a member of negative size")  # it would be read for ever
                archive.members = []  # type: ignore[attr-defined]  # it would keep an object of a kilobyte for each
                name, target = (text.removeprefix("./") for text in (info.name, info.linkname))  # of `tar -C data .`
                if info.islnk() and target in members:
                    members[name] = members[target]
                if not info.isreg() or info.issparse():
                    continue
                if info.size < 0 or info.offset_data + info.size > file.size:
                    raise too_early(file.name)
                members[name] = Member(info.offset_data, info.size, info.size)
                texts.pop(name, None)
                if info.size <= SMALL and name.lower().endswith(LABELS):
                    stream.seek(info.offset_data)  # read with what is around it, not by a separate request
                    texts[name] = stream.read(info.size)
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, IndexError, EOFError, OSError) as problem:
        if file.size and "end of" in str(problem):
            raise too_early(file.name) from None
        raise DataError(f"{file.name}: cannot be read as a tar archive ({problem})", hint=WHOLE) from None
    # tarfile ends in silence at a damaged header, or where the end is missing.
    if end + tarfile.BLOCKSIZE > file.size:
        raise too_early(file.name)
    if any(file.read_at(end, tarfile.BLOCKSIZE)):
        raise DataError(f"{file.name}: the tar archive is damaged at byte {end:,}", hint=WHOLE)
    return MemberIndex.of(members, texts)


def _refuse_compressed(file: Ranged) -> None:
    """Refuse a compressed archive: no part of it can be read without everything before that part."""
    head = file.read_at(0, min(8, file.size))
    for mark, command in ((_GZIP, "gunzip"), (_BZIP, "bunzip2"), (_XZ, "unxz"), (_ZSTD, "unzstd")):
        if head.startswith(mark):
            way = f"remove only the compression, with {command}: it hardly makes images smaller"
            raise DataError(f"{file.name}: single images cannot be read from a compressed tar archive", hint=way)
