"""Read images from wherever they are stored: files, archives, tables, addresses. A location becomes bytes here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from shitu_cli.errors import DataError, Message, ShituError
from shitu_cli.inputs import MIB, StrPath, read_bytes
from shitu_cli.stores.locations import (
    MEMBER,
    WAITING,
    absolute,
    address_of,
    are_remote,
    is_archive,
    is_stored,
    join,
    real,
    split_location,
)

if TYPE_CHECKING:
    from shitu_cli.stores.archives import Archive
    from shitu_cli.stores.remote import RemoteFile

__all__ = [
    "MEMBER",
    "WAITING",
    "ImageState",
    "absolute",
    "address_of",
    "are_remote",
    "is_archive",
    "is_stored",
    "is_there",
    "join",
    "list_files",
    "open_archive",
    "read_image",
    "real",
    "split_location",
    "state_of",
]


class ImageState(NamedTuple):
    """Shows whether an image has changed: its size, and the time or version of the file that holds it as text."""

    size: int
    version: str


def read_image(location: StrPath, *, limit: int = 512 * MIB, hint: Message | None = None) -> bytes:
    """Return the bytes of an image of at most `limit` bytes.

    Raises DataError if there is none or its archive is damaged, EnvironmentProblem if the machine or a service refuses.
    """
    text = os.fspath(location)
    if ":" not in text or not is_stored(text):  # nearly all images: a plain file must not cost anything extra
        return read_bytes(text, limit=limit, hint=hint)
    place, member = split_location(text)
    address = address_of(place)
    if member is not None:
        return open_archive(address or place).read(member, limit)
    file = _remote(address or place)
    data = b"" if file.size > limit else file.read_all(limit)
    if max(file.size, len(data)) > limit:
        raise DataError(f"{text} is too large: such a file may have at most {limit // MIB} MiB")
    return data


def state_of(location: str) -> ImageState | None:
    """Return the state of an image; None if it does not exist or its state is unknown."""
    try:
        if not is_stored(location):
            status = os.stat(location)
            return ImageState(status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}")
        place, member = split_location(location)
        address = address_of(place)
        if member is not None:
            archive = open_archive(address or place)
            held = archive.member(member)
            return ImageState(held.size, f"{archive.file.state} {held.start} {held.inside}")
        file = _remote(address or place)
        return ImageState(file.size, file.state)
    except (OSError, ValueError, ShituError):
        return None


def is_there(location: str) -> bool:
    """Return whether something exists at a location, including a broken link."""
    return state_of(location) is not None if is_stored(location) else os.path.lexists(location)


def open_archive(place: StrPath) -> Archive:
    """Return the archive at a path or an address; DataError if it cannot be read."""
    from shitu_cli.stores.archives import open_archive as opened

    return opened(address_of(place) or os.fspath(place))


def list_files(address: str) -> list[str]:
    """Return the files below an address, relative to it, in order."""
    from shitu_cli.stores.remote import list_files as listed

    return list(listed(address))


def _remote(address: str) -> RemoteFile:
    from shitu_cli.stores.remote import RemoteFile

    return RemoteFile(address)
