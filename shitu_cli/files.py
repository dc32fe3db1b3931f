"""Write files and directories whole or not at all; hash and lock them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import MACHINE_HINTS, EnvironmentProblem, UsageError
from shitu_cli.inputs import StrPath, open_input
from shitu_cli.reporting import short_list

AT_REST_NS = 2_000_000_000  # the hash of a file that changed more recently is not remembered
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
T = TypeVar("T")


def try_lock(handle: IO[bytes]) -> bool:
    """Lock an open file for this process; False when another process holds it.

    Raises OSError where the file system has no locks.
    """
    try:
        if os.name == "nt":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def cannot_write(path: Path, error: OSError) -> EnvironmentProblem:
    """Return the error to raise when the system refuses to write `path`."""
    return EnvironmentProblem(
        f"cannot write {path}: {error.strerror or error}", hint=MACHINE_HINTS.get(error.errno or 0)
    )


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Yield a file to write (`mode` "wb", or "w" for UTF-8) that replaces `path` when the context ends without error.

    It is written beside `path` and synced first, so that a kill or a full disk leaves the old file untouched.
    Raises EnvironmentProblem if the system refuses, or if a link in a workspace leads out of it.
    """
    path = place_to_write(path)  # replaces the target of a link, not the link
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _new(path, lambda name: os.open(name, _NEW_FILE, 0o666))
        # File names may not be valid text: such bytes are written as escapes.
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "", "errors": "backslashreplace"}
        with os.fdopen(descriptor, mode, **text) as file:
            _hold(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name != "nt":  # where no open file can be replaced, and no lock is held
                os.replace(temporary, path)
        if os.name == "nt":
            os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _hold(file: IO[Any]) -> None:
    """Lock a temporary file while it is written, so that `remove_leftovers` does not remove it."""
    if os.name != "nt":
        with contextlib.suppress(OSError):  # some network file systems
            try_lock(file)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files and directories beside `path` that killed processes left."""
    for left in leftovers(path):
        with contextlib.suppress(OSError):  # its process has just ended, or it belongs to another user
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def leftovers(path: Path) -> Iterator[Path]:
    """Yield the temporary files and directories beside `path` that no process holds, each locked until the next one."""
    path = place_to_write(path)
    if os.name == "nt" or not path.parent.is_dir():
        return
    import fcntl

    of_new = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")  # as `_new` names them
    for left in [left for left in path.parent.iterdir() if of_new.fullmatch(left.name)]:
        try:
            descriptor = os.open(left, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # a stranger's may be a pipe
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its process is at work, or the file system has no locks
            continue
        else:
            yield left
        finally:
            os.close(descriptor)


def atomic_write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` in UTF-8, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(text)


def atomic_write_json(path: Path, value: object) -> None:
    """Replace the content of `path` by `value` as indented JSON, whole or not at all."""
    atomic_write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path` that takes its place when the context ends without error.

    Temporary directories that killed processes left beside `path` are removed.
    """
    path = place_to_write(path)  # replaces the target of a link, not the link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, held = _temporary_dir(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        if path.exists() and _exchange(temporary, path):
            pass  # the old directory has the temporary name now, and is removed below
        elif path.exists():
            former = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            os.replace(path, former / path.name)
            os.replace(temporary, path)
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)


def _temporary_dir(path: Path) -> tuple[Path, int | None]:
    """Return a new directory beside `path` and its lock, which the system releases when this process dies.

    Unlocked directories of that name belong to dead processes and are removed. The parent is locked meanwhile, so that
    a directory that was made but not locked yet is not taken for one. Without locks nothing is removed.
    """
    if os.name == "nt":
        return _new_directory(path), None
    import fcntl

    parent = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(parent, fcntl.LOCK_EX)
        except OSError:  # some network file systems
            return _new_directory(path), None
        remove_leftovers(path)
        temporary = _new_directory(path)
        held = os.open(temporary, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        return temporary, held
    finally:
        os.close(parent)


def _new_directory(path: Path) -> Path:
    return _new(path, Path.mkdir, stat.S_IRWXU)[0]


def bytes_in(folder: Path) -> int:
    """Return the total size of all files below a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


_hashes: dict[tuple[int, ...], str] = {}  # `file_state` of a file → its hash


def sha256_of(path: Path, *, limit: int | None = None) -> str:
    """Return the SHA-256 of a file of at most `limit` bytes in hexadecimal; an unchanged one is read once a process."""
    with open_input(path, limit=limit) as file:
        before = file_state(file)
        if before in _hashes:
            return _hashes[before]
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        after = file_state(file)
    # Two changes within one tick of the clock have the same time: only files at rest are remembered.
    if before == after and time.time_ns() - after[-1] > AT_REST_NS:
        if len(_hashes) >= 1024:
            _hashes.clear()
        _hashes[after] = digest.hexdigest()
    return digest.hexdigest()


def load_with_hash(path: Path, load: Callable[[], T]) -> tuple[T, str]:
    """Return what `load` makes of a file with its SHA-256, from the same content although others may replace it."""
    former = ""
    while True:
        before = file_state(path)
        value, digest = load(), sha256_of(path)
        if digest == former or file_state(path) == before:  # some network file systems number files anew each time
            return value, digest
        former = digest


def require_own_folder(folder: Path, own: Collection[str], hint: str) -> None:
    """Raise UsageError if `folder` is a file or holds other files than `own`, which replacing it would remove."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint=hint)
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in own) if folder.is_dir() else []
    if foreign:
        raise UsageError(f"{folder} holds other files ({short_list(foreign)})", hint=hint)


def file_state(file: IO[bytes] | StrPath) -> tuple[int, ...]:
    """Return numbers that differ whenever a file or its content does; () for a path that cannot be looked up.

    The last one, the time of its status, cannot be set back.
    """
    try:
        state = os.stat(file if isinstance(file, (str, os.PathLike)) else file.fileno())
    except (OSError, ValueError):
        return ()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step, so that a kill leaves both; return False if the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), swap) == 0)


def _new(path: Path, create: Callable[[Path], T], mode: int = 0) -> tuple[Path, T]:
    """Create a file or directory beside `path` under a new name; return that and what `create` returns.

    It gets the permissions of `path` and those in `mode`, or those that the system gives new ones.
    """
    while True:
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(FileExistsError):
            result = create(name)
            break
    with contextlib.suppress(OSError):  # there is none yet, or it belongs to another user
        os.chmod(name, stat.S_IMODE(os.stat(path).st_mode) | mode)
    return name, result


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable, on systems that can open directories."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def home() -> Path:
    """Return the user's home directory; EnvironmentProblem if this user has none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        raise EnvironmentProblem(
            "this user has no home directory, in which downloads and caches are kept",
            hint="set HOME or XDG_CACHE_HOME to a folder in which this user may write",
        ) from None


def user_cache() -> Path:
    """Return the folder of the user's caches. Raises EnvironmentProblem for a user without a home directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache")
