"""Files that are read at any place by any thread, and a stream over one for libraries that read from front to back."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from typing import BinaryIO, Protocol

from shitu_cli.errors import DataError, Message
from shitu_cli.inputs import MIB, open_input, path_problem

OPEN_FILES = 128  # at the same time: systems allow about a thousand, and shards may be more
LOCAL_BLOCK, REMOTE_BLOCK = 4096, 8 * MIB  # bytes that a stream reads ahead
WHOLE: Message = "is the file whole? copy or download it again"


class Ranged(Protocol):
    """A file of `size` bytes; `state` changes with its content (if it `is_versioned`), `name` is for messages."""

    name: str
    size: int
    state: str
    block: int
    is_versioned: bool

    def read_at(self, start: int, length: int) -> bytes: ...

    def __hash__(self) -> int: ...


class _Descriptor:
    """An open file, closed after its last use: a thread may still read when another one makes room."""

    def __init__(self, path: str) -> None:
        with open_input(path, hint=WHOLE) as file:
            self.number = os.dup(file.fileno())
        status = os.fstat(self.number)
        self.size, self.state = status.st_size, f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


_open: OrderedDict[str, _Descriptor] = OrderedDict()
_lock = threading.Lock()


class LocalFile:
    """A file of this machine. Reads give their place, so that threads and forked processes share it."""

    block = LOCAL_BLOCK
    is_versioned = True

    def __init__(self, path: str) -> None:
        self.name, self.state = path, ""
        opened = self._descriptor()
        self.size, self.state = opened.size, opened.state

    def read_at(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on; DataError if the file ends before, or cannot be read."""
        opened = self._descriptor()  # held until it has been read, or another thread could close it
        return _read_at(opened.number, self.name, start, length)

    def _descriptor(self) -> _Descriptor:
        with _lock:
            descriptor = _open.get(self.name)
            if descriptor is None:
                descriptor = _open[self.name] = _Descriptor(self.name)
                while len(_open) > OPEN_FILES:
                    _open.popitem(last=False)
            else:
                _open.move_to_end(self.name)
        if self.state and descriptor.state != self.state:
            raise DataError(f"{self.name}: the file changed while it was read", hint="run the command again")
        return descriptor


class OpenFile:
    """A file of this machine that somebody else has opened, and holds open as long as it is used."""

    block = LOCAL_BLOCK
    is_versioned = True

    def __init__(self, file: BinaryIO, name: str) -> None:
        status = os.fstat(file.fileno())
        self.name, self.size, self.state, self._file = name, status.st_size, str(status.st_mtime_ns), file

    def read_at(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on; DataError if the file ends before, or cannot be read."""
        return _read_at(self._file.fileno(), self.name, start, length)


def _read_at(descriptor: int, name: str, start: int, length: int) -> bytes:
    try:
        data = os.pread(descriptor, length, start)
        while len(data) < length and (more := os.pread(descriptor, length - len(data), start + len(data))):
            data += more
    except OSError as problem:
        raise path_problem(name, problem, hint=WHOLE) from None
    if len(data) < length:
        raise too_early(name)
    return data


def forget(path: str) -> None:
    """Close a file, so that the next use opens it again: it may have been replaced."""
    with _lock:
        _open.pop(path, None)


def too_early(name: str) -> DataError:
    """Return the error for a file that ends before it should."""
    return DataError(f"{name}: the file ends too early", hint=WHOLE)


class Stream(io.RawIOBase):
    """A ranged file to read from, in blocks, for what reads the index of an archive.

    A single read of more than `most` bytes is refused: headers have some hundred, whatever they claim.
    """

    def __init__(self, file: Ranged, most: int) -> None:
        self._file, self._most = file, most
        self._at = self._start = 0
        self._data = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError("a place before the beginning of the file")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._file.size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        if length > self._most:
            raise DataError(f"{self._file.name}: a header of {length:,} bytes", hint=WHOLE)
        first = self._at - self._start
        if not 0 <= first <= len(self._data) - length:
            self._start, first = self._at, 0
            self._data = self._file.read_at(self._at, min(left, max(length, self._file.block)))
        self._at += length
        return self._data[first : first + length]
