"""Archives that are open in this process: each is looked through once, then read at any place by any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from shitu_cli.errors import DataError
from shitu_cli.files import file_state
from shitu_cli.inputs import MIB
from shitu_cli.stores.locations import MEMBER, address_of
from shitu_cli.stores.member_index import Member, MemberIndex
from shitu_cli.stores.parquet import index_parquet, read_value
from shitu_cli.stores.ranges import LocalFile, Ranged, forget
from shitu_cli.stores.tar import index_tar
from shitu_cli.stores.zip import index_zip, read_zip_member

_INDEXERS: dict[str, Callable[[Ranged], MemberIndex]] = {"tar": index_tar, "zip": index_zip, "parquet": index_parquet}


class Archive:
    """An archive and its index. `file` is what it is read from, `kind` tar, zip or parquet."""

    def __init__(self, place: str) -> None:
        self.place, self.kind = place, place.rpartition(".")[2].lower()
        self.file = _ranged(place)
        index = MemberIndex.load(place, self.file.state) if self.file.is_versioned else None
        if index is None:
            index = _INDEXERS[self.kind](self.file)
            if self.file.is_versioned:
                index.save(place, self.file.state)
        self.index = index

    def member(self, name: str) -> Member:
        """Return the place of a member; DataError if the archive has none of this name."""
        member = self.index.find(name.removeprefix("./"))
        if member is None:
            raise DataError(f"{self.place}: it has no member {name!r}")
        return member

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a member of at most `limit` bytes."""
        member = self.member(name)
        if member.size > limit:
            raise DataError(f"{self.place}{MEMBER}{name} is too large: at most {limit // MIB} MiB are read")
        if self.kind == "zip":
            return read_zip_member(self.file, f"{self.place}{MEMBER}{name}", member)
        return read_value(self.file, member) if self.kind == "parquet" else self.file.read_at(member.start, member.size)

    def text(self, name: str, limit: int = MIB) -> str:
        """Return a member with a label as text."""
        kept = self.index.text(name)
        data = self.read(name, limit) if kept is None else kept
        return data.decode("utf-8-sig", "surrogateescape")


def _ranged(place: str) -> Ranged:
    if address_of(place) is None:
        return LocalFile(place)
    from shitu_cli.stores.remote import RemoteFile

    return RemoteFile(place)


class _Opened(NamedTuple):
    """An archive, or why it cannot be read, and the state of its file at that time."""

    state: tuple[int, ...]
    archive: Archive | DataError


_archives: dict[str, _Opened] = {}
_lock = threading.Lock()
_locks: dict[str, threading.Lock] = {}


def open_archive(place: str) -> Archive:
    """Return the archive at a path or an address; threads that ask for one at the same time share it.

    A local archive that was replaced is opened again. Raises DataError for one that is damaged or missing.
    """
    state = file_state(place)  # () for an address, whose content is taken to stay
    opened = _archives.get(place)
    if opened is None or opened.state != state:
        with _lock:
            lock = _locks.setdefault(place, threading.Lock())
        with lock:
            opened = _archives.get(place)
            if opened is None or opened.state != state:
                opened = _archives[place] = _Opened(state, _archive(place))
    if isinstance(opened.archive, DataError):
        problem = opened.archive
        raise type(problem)(problem.message, hint=problem.advice, details=problem.details)
    return opened.archive


def _archive(place: str) -> Archive | DataError:
    """Return an archive, or what is wrong with the file; a service that fails is asked again by the next reader."""
    forget(place)
    try:
        return Archive(place)
    except DataError as problem:
        return problem
