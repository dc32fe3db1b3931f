"""The workspace: the directory that holds `shitu.yaml`, its paths and its lock."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shitu_cli.boundary import open_own, place_to_write, protect
from shitu_cli.errors import Command, EnvironmentProblem, UsageError
from shitu_cli.files import cannot_write, try_lock
from shitu_cli.inputs import whole_number

CONFIG_NAME = "shitu.yaml"
PAUSE = 0.02  # seconds between two looks at a lock that another process holds
_SHOWN = 200  # bytes of a lock file, at most
EARLIER = "earlier"  # folder in the output directory for the models of earlier runs (see training/earlier.py)


class Busy(EnvironmentProblem):
    """Raised when another process holds a lock."""


class Workspace:
    """A directory with `shitu.yaml`; `root` is absolute. No link in it leads out of it what is written."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        if self.config_path.is_file():
            protect(self.root)

    @property
    def config_path(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def lists_dir(self) -> Path:
        return self.root / "lists"

    @property
    def reports_dir(self) -> Path:
        return self.root / "reports"

    @property
    def index_dir(self) -> Path:
        return self.root / "index"

    @property
    def own_dir(self) -> Path:
        """What is of no interest to the user: locks, caches, and changes that are being made (see journal.py)."""
        return self.root / ".shitu"

    @property
    def cache_dir(self) -> Path:
        return self.own_dir / "cache"

    @property
    def machines_secret(self) -> Path:
        """The secret of the machines that train together in this workspace (see processes/secret.py)."""
        return self.own_dir / "machines.secret"

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """Return the workspace at `start` or `SHITU_WORKSPACE`, else that of the current directory or its parents.

        Raises UsageError if there is none.
        """
        named = named_root(start)
        if named is not None:
            if (named / CONFIG_NAME).is_file():
                return cls(named)
            if named.is_file():
                raise UsageError(f"{named} is a file: a workspace is the folder of a {CONFIG_NAME}")
            raise UsageError(f"{named} is not a workspace: no {CONFIG_NAME} in it", hint=Command("prepare", "./data"))
        if (around := enclosing_root()) is not None:
            return cls(around)
        raise UsageError(
            f"no workspace: no {CONFIG_NAME} in {Path.cwd()} or above it", hint=Command("prepare", "./data")
        )

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Return a workspace at `root`; create the folder, keep what it holds."""
        workspace = cls(root)
        try:
            workspace.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(workspace.root, error) from error
        protect(workspace.root)
        return workspace

    @contextlib.contextmanager
    def lock(self, name: str, *, command: str = "", patience: float = 0.0) -> Iterator[None]:
        """Hold the lock `name` for this process, which runs `command`.

        The system locks the file, and releases it when the process dies. Raises Busy if another process still holds it
        after `patience` seconds, EnvironmentProblem if the file system has no locks or no regular file is there.
        """
        path = self.own_dir / f"{name}.lock"
        try:
            place_to_write(self.own_dir, self.root).mkdir(parents=True, exist_ok=True)
            handle = open_own(path, "ab+", root=self.root, buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error
        with handle:
            try:
                deadline = time.monotonic() + patience
                while not (locked := try_lock(handle)) and time.monotonic() < deadline:
                    time.sleep(PAUSE)
            except OSError as error:
                raise EnvironmentProblem(
                    f"cannot lock {path}: {error.strerror or error}",
                    hint="its file system has no file locks: use a workspace on a local disk with -w",
                ) from error
            if not locked:
                handle.seek(0)
                holder, _, process = handle.read(_SHOWN).decode(errors="replace").strip().rpartition(" ")
                raise Busy(
                    f"another `shitu {holder or name}` (process {process or '?'}) is running in {self.root}",
                    hint="wait until it ends, or use another workspace with -w",
                )
            try:
                handle.truncate(0)
                handle.write(f"{command or name} {os.getpid()}".encode())
            except OSError as error:
                raise cannot_write(path, error) from error
            try:
                yield
            finally:
                handle.truncate(0)


def named_root(start: Path | None = None) -> Path | None:
    """Return the directory that the user names as the workspace: `start`, else that in SHITU_WORKSPACE."""
    return start or (Path(os.environ["SHITU_WORKSPACE"]) if os.environ.get("SHITU_WORKSPACE") else None)


def enclosing_root() -> Path | None:
    """Return the workspace that contains the current directory."""
    current = Path.cwd()
    return next((folder for folder in (current, *current.parents) if (folder / CONFIG_NAME).is_file()), None)


def earlier_models(output: Path) -> list[Path]:
    """Return the directories with models of earlier runs below an output directory, oldest first."""
    numbered = ((whole_number(path.name), path) for path in (output / EARLIER).glob("*") if path.is_dir())
    return [path for _, path in sorted((number, path) for number, path in numbered if number is not None)]
