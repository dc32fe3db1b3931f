"""Caches for the features of whole lists: on disk between evaluations, or in memory, both of bounded size."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Protocol

import numpy as np

from shitu_cli.boundary import is_own, place_to_write
from shitu_cli.files import atomic_write

LIMIT = 4_000_000_000  # bytes; files in use stay even if they exceed it
LEFT_BEHIND = 24 * 3600  # seconds after which a half-written file belongs to a process that was killed


class Cache(Protocol):
    """Keeps features under the fingerprint of all that they depend on."""

    def read(self, key: str, shape: tuple[int, int]) -> np.ndarray | None: ...

    def write(self, key: str, features: np.ndarray) -> None: ...


class FeatureMemory:
    """float32 [N, D] arrays in memory, up to `limit` bytes; what exceeds them is not kept."""

    def __init__(self, *, limit: int) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._left = limit

    def read(self, key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """Return the features under `key`; None when there are none of this shape."""
        features = self._arrays.get(key)
        return features if features is not None and features.shape == shape else None

    def write(self, key: str, features: np.ndarray) -> None:
        """Keep `features` if there is room."""
        if features.nbytes <= self._left:
            self._arrays[key] = features
            self._left -= features.nbytes


class FeatureCache:
    """float32 [N, D] arrays as `<folder>/<key>.npy`; the least recently used go first when they exceed `limit` bytes.

    Several processes may share a folder: files appear whole, and one that is removed while another process has it
    mapped stays readable there.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._used: set[Path] = set()

    def read(self, key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """Return the features under `key`, mapped into memory; None when there are none of this shape."""
        path = self._path(key)
        if not is_own(path):  # a pipe would be waited for, and a link's file would get another time
            return None
        try:
            features = np.lib.format.open_memmap(path, mode="r")
            os.utime(path)  # the time of the last use decides what is removed
        except (OSError, ValueError):
            return None
        if features.shape != shape or features.dtype != np.float32:
            return None
        self._used.add(path)
        return np.asarray(features)

    def write(self, key: str, features: np.ndarray) -> None:
        """Keep `features` and remove what is too much; raises EnvironmentProblem when the disk refuses."""
        path = self._path(key)
        self._used.add(path)
        self._make_room(features.nbytes)
        with atomic_write(path) as file:
            np.save(file, features)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _make_room(self, size: int) -> None:
        """Remove the least recently used files, never those of this object, until `size` bytes more are in bounds."""
        files, folder = [], place_to_write(self._folder)
        for path in folder.glob("*.npy"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                state = path.stat()
                files.append((state.st_mtime_ns, path, state.st_size))
        total = size + sum(item[2] for item in files)
        for _, path, freed in sorted(files):
            if total <= self._limit:
                break
            if self._folder / path.name not in self._used:
                path.unlink(missing_ok=True)
                total -= freed
        for path in folder.glob(".*.npy.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                    path.unlink()
