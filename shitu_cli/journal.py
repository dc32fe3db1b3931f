"""Change files that belong together all at once: stage them, commit by one rename, then move them into place.

A kill before the commit leaves all files unchanged. After it the staged files are in `.shitu/pending`, and the next
command that opens the workspace moves the rest into place (`recover`) before it reads anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import Command, EnvironmentProblem, Message
from shitu_cli.files import atomic_write, atomic_write_json, cannot_write, sync_directory
from shitu_cli.inputs import kind_of, read_json_object
from shitu_cli.workspace import Busy, Workspace

WAIT = 10.0  # seconds that a reader waits for a live process to move its files
_PENDING, _PLAN = "pending", "plan.json"


class Transaction:
    """New versions of files of a workspace, to be written at `path(...)` until the context of `transaction` ends."""

    def __init__(self, root: Path, staging: Path) -> None:
        self._root, self._staging = root, staging
        self._plan: dict[str, str | None] = {}

    def path(self, target: Path) -> Path:
        """Return the path to write the new version of `target` to; raise EnvironmentProblem if it has no place."""
        _require_place(place_to_write(target, self._root))
        staged = self._staging / str(len(self._plan))
        self._plan[os.path.relpath(target, self._root)] = staged.name
        return staged

    def remove(self, target: Path) -> None:
        """Remove `target` with the commit."""
        place_to_write(target, self._root)
        self._plan[os.path.relpath(target, self._root)] = None

    def commit(self) -> None:
        """Commit the change: rename the folder of staged files to that of committed ones, in one step."""
        atomic_write_json(self._staging / _PLAN, self._plan)
        pending = self._staging.with_name(_PENDING)
        os.rename(self._staging, pending)
        sync_directory(pending.parent)


def _require_place(target: Path) -> None:
    """Raise EnvironmentProblem if no file can be moved to `target`: once committed, every command would try again."""
    folder = next(folder for folder in target.parents if os.path.lexists(folder))
    if target.is_dir():
        number = errno.EISDIR
    elif not folder.is_dir():
        number = errno.ENOTDIR
    elif not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES
    else:
        return
    raise cannot_write(target, OSError(number, os.strerror(number)))


@contextlib.contextmanager
def transaction(space: Workspace) -> Iterator[Transaction]:
    """Change several files of a workspace at once; the caller must hold the lock "prepare".

    Raises EnvironmentProblem if the system refuses, and then changes nothing.
    """
    apply_committed(space)
    folder = place_to_write(space.own_dir, space.root)
    for left in folder.glob(".staged-*"):  # from killed processes: with the lock held, none is at work
        shutil.rmtree(left, ignore_errors=True)
    staging: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staged-", dir=folder))
        change = Transaction(space.root, staging)
        yield change
        change.commit()
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    apply_committed(space)


def recover(space: Workspace) -> None:
    """Complete a change that a killed process committed; wait for a process that is doing so.

    Raises EnvironmentProblem if that takes longer than a few seconds, or the files cannot be moved or may not be.
    """
    deadline, pending = time.monotonic() + WAIT, space.own_dir / _PENDING
    while pending.is_dir():
        try:
            with space.lock("prepare", command="prepare"):
                apply_committed(space)
        except Busy:
            if time.monotonic() > deadline or not pending.is_dir():
                raise
            time.sleep(0.05)


def apply_committed(space: Workspace) -> None:
    """Move committed files into place, if there are any; after a kill, this can be repeated.

    The workspace may come from a stranger, so that nothing is moved before all is checked: EnvironmentProblem for what
    this program does not commit, and for a place outside of the workspace.
    """
    pending = place_to_write(space.own_dir, space.root) / _PENDING
    if not os.path.lexists(pending):
        return
    plan = _read_plan(space.root, pending)
    try:
        for target, staged in plan.items():
            if staged is None:
                target.unlink(missing_ok=True)
            elif staged.exists():  # otherwise it was moved before the kill
                target.parent.mkdir(parents=True, exist_ok=True)
                _move(staged, target)
        for folder in {target.parent for target in plan}:
            sync_directory(folder)
        shutil.rmtree(pending)
    except OSError as error:
        raise cannot_write(space.root, error) from error


def _read_plan(root: Path, pending: Path) -> dict[Path, Path | None]:
    """Return the place of each file → its staged file (None: remove)."""
    way_out: Message = [f"remove {pending}, then run `", Command("prepare"), "` again"]
    if not stat.S_ISDIR(os.lstat(pending).st_mode):
        raise EnvironmentProblem(f"{pending} is not from this program: it is not a folder", hint=way_out)
    if not os.path.lexists(pending / _PLAN):  # all was moved, and a kill came while the folder was being removed
        return {}
    plan: dict[Path, Path | None] = {}
    for name, staged in read_json_object(pending / _PLAN, error=EnvironmentProblem, hint=way_out).items():
        if not _can_name_file(name) or not (staged is None or _is_staged(pending, staged)):
            raise EnvironmentProblem(
                f"{pending / _PLAN} is not from this program: it would replace {name[:100]!r} by {str(staged)[:100]!r}",
                hint=way_out,
            )
        plan[place_to_write(root / os.fsdecode(os.fsencode(name)), root)] = None if staged is None else pending / staged
    return plan


def _can_name_file(name: str) -> bool:
    """Return whether a plan can mean a file by this name: a relative path that does not lead upwards."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    parts = Path(name).parts
    return bool(parts) and not os.path.isabs(name) and ".." not in parts and "\0" not in name


def _is_staged(pending: Path, name: object) -> bool:
    """Return whether a file of this name can have been staged: a regular file, or one that was moved already."""
    if not isinstance(name, str) or not name.isdecimal():
        return False
    path = pending / name
    return not os.path.lexists(path) or kind_of(os.lstat(path).st_mode) is None


def _move(staged: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # there is none yet, or it is another user's
        os.chmod(staged, stat.S_IMODE(os.stat(target).st_mode))
    try:
        os.replace(staged, target)
    except OSError:  # the target is on another file system
        with atomic_write(target) as file, staged.open("rb") as source:
            shutil.copyfileobj(source, file)
