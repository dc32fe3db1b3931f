"""The files of a save: writing them with their hashes, copying them, and putting copies in place of others.

What the files mean, and why they are written in this order, is explained in training/checkpoint.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from shitu_cli.boundary import open_own
from shitu_cli.files import atomic_write

PARTS = ("pdparams", "pdopt", "pdtrain", "pdstates")


def part_file(prefix: Path, part: str) -> Path:
    """Return the path of one part of the save with this prefix."""
    return prefix.with_name(f"{prefix.name}.{part}")


def files_of_save(prefix: Path) -> list[Path]:
    """Return the existing files of a save."""
    return [path for path in (part_file(prefix, part) for part in PARTS) if path.exists()]


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Pickle a plain name → array dict as `paddle.load` reads it, atomically; returns its sha256 and size."""
    with atomic_write(path, "wb") as file:
        hashing = _Hashing(file)
        pickle.dump(dict(arrays), hashing, protocol=4)
    return {"sha256": hashing.digest.hexdigest(), "bytes": hashing.size}


class _Hashing:
    """A binary file that hashes everything written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.size += len(view)
        self._file.write(view)
        return len(view)


def _beside(target: Path, part: str) -> Path:
    return target.with_name(f".{target.name}.{part}.switch")


def copy_beside(generation: Path, target: Path) -> None:
    """Copy and sync the parts of the generation beside the files that `switch` will replace."""
    for part in PARTS:
        beside = _beside(target, part)
        beside.unlink(missing_ok=True)
        if part_file(generation, part).exists():
            _copy(part_file(generation, part), beside)


def switch(target: Path) -> None:
    """Move the copies in place of `<target>.*`, `.pdstates` last."""
    for part in PARTS:
        if _beside(target, part).exists():
            os.replace(_beside(target, part), part_file(target, part))
        else:
            part_file(target, part).unlink(missing_ok=True)


def _copy(source: Path, destination: Path) -> None:
    """Copy a file; on file systems that support it, the copy shares blocks until either is changed."""
    with open_own(source, "rb") as reader, open_own(destination, "wb") as writer:
        if not _clone(reader, writer):
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
        os.fsync(writer.fileno())


def _clone(source: IO[bytes], destination: IO[bytes]) -> bool:
    """Clone a file on the file system (copy on write); return False if that is unsupported."""
    if sys.platform != "linux":
        return False
    import fcntl

    share_all_blocks = 0x40049409  # FICLONE of linux/fs.h
    try:
        fcntl.ioctl(destination.fileno(), share_all_blocks, source.fileno())
    except OSError:
        return False
    return True


def discard(generation: Path, targets: Iterable[Path]) -> None:
    """Remove what a failed save has written so far, as it may fill the disk."""
    written = [part_file(generation, part) for part in reversed(PARTS)]
    written += [_beside(target, part) for target in targets for part in PARTS]
    for path in written:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
