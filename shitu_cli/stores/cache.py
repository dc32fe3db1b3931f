"""What stores keep on this machine: indexes of archives, and pieces of remote files within a bound.

`SHITU_CACHE` replaces the folder `~/.cache/shitu/stores`, `SHITU_CACHE_GB` the bound of 10 GB for what comes from
addresses. Nothing is ever written beside the user's data. Several processes may share the folder: files appear whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.files import atomic_write, user_cache

GB = 1_000_000_000
USUAL_GB = 10.0
FREED = 0.1  # share of the bound that is freed at a time


def cache_folder() -> Path:
    """Return the folder for what stores keep. Raises EnvironmentProblem for a user without a home directory."""
    own = os.environ.get("SHITU_CACHE")
    if own:
        return Path(own)
    return user_cache() / "shitu" / "stores"


def cache_limit() -> int:
    """Return how many bytes of remote files may be kept; UsageError if SHITU_CACHE_GB is not a sensible number."""
    text = os.environ.get("SHITU_CACHE_GB", "")
    try:
        gigabytes = float(text) if text else USUAL_GB
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes <= 1e6:
        raise UsageError(f"SHITU_CACHE_GB={text}: expected a number of gigabytes, such as 10")
    return int(gigabytes * GB)


def key_of(*parts: object) -> str:
    """Return the name of a file in the cache for what these identify."""
    text = "\0".join(map(str, parts))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]


class Pieces:
    """Pieces of remote files by key; those not used for longest go first when they exceed the bound."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder / "pieces", limit
        self._total: int | None = None  # of the files in the folder; None until it was looked at
        self._lock = threading.Lock()

    def read(self, key: str) -> bytes | None:
        """Return a piece, None if it is not kept."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)  # the time of the last use decides what is removed
        except OSError:
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Keep a piece if it fits; a disk that refuses only means that nothing is kept."""
        if len(data) > self._limit * FREED:
            return
        with self._lock:
            total = self._size() + len(data)
            self._total = self._make_room() + len(data) if total > self._limit else total
        with contextlib.suppress(EnvironmentProblem), atomic_write(self._path(key)) as file:
            file.write(data)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _size(self) -> int:
        if self._total is None:
            self._total = sum(size for _, size, _ in self._files())
        return self._total

    def _files(self) -> list[tuple[int, int, str]]:
        """Return time of last use, size and path of all that is kept, by any process."""
        files = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):  # another process makes room too
                    state = os.stat(path)
                    files.append((state.st_mtime_ns, state.st_size, path))
        return files

    def _make_room(self) -> int:
        """Remove the least recently used pieces until a part of the bound is free; return the bytes that are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._limit * (1 - FREED):
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size
        return total
