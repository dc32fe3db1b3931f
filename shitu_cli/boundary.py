"""The boundary of a workspace: what is written inside it stays there, whatever somebody has packed into it.

A link (`output` to ~/photos, `.shitu/train.lock` to a thesis) would make this program replace, empty or delete what is
elsewhere; a pipe in place of a log would make it wait for ever. So `place_to_write` resolves every path that is
written, and `open_own` opens every file that is changed in place.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from pathlib import Path
from typing import IO, Any

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.inputs import StrPath, kind_of

LINKS = "SHITU_LINKS"  # names folders, separated as those of PATH, to which links in a workspace may lead
MOST_LINKS = 40  # in one path, as on Linux
_CAREFUL = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_roots: set[str] = set()  # of the workspaces that this process has opened


def protect(root: Path) -> None:
    """Let no link in the folder `root` lead out of it what this process writes from now on."""
    _roots.add(os.path.realpath(root))


def place_to_write(path: StrPath, root: Path | None = None) -> Path:
    """Return where writing to `path` ends up: an absolute path without links.

    Raises EnvironmentProblem for a link in a protected folder, or in `root`, that leads out of it to where the user has
    not allowed it.
    """
    roots = _roots if root is None else {*_roots, os.path.realpath(root)}
    whole = Path(os.getcwd(), path)
    at, rest, links = whole.anchor, list(reversed(whole.parts[1:])), 0
    while rest:
        part = rest.pop()
        step = os.path.dirname(at) if part == os.pardir else os.path.join(at, part)
        if not os.path.islink(step):
            at = step
            continue
        links += 1
        if links > MOST_LINKS:
            raise EnvironmentProblem(f"cannot write {path}: its links form a loop", hint=f"remove the link {step}")
        _check_link(step, roots)
        target = Path(at, os.readlink(step))
        at, rest = target.anchor, [*rest, *reversed(target.parts[1:])]
    return Path(at)


def _check_link(link: str, roots: set[str]) -> None:
    """Raise EnvironmentProblem if a link leads out of the one of these folders that it is in."""
    real = os.path.realpath(link)
    if not any(_is_below(link, root) and not _is_below(real, root) for root in roots):
        return
    allowed = [os.path.realpath(name) for name in os.environ.get(LINKS, "").split(os.pathsep) if name]
    if not any(_is_below(real, folder) for folder in allowed):
        raise EnvironmentProblem(
            f"{link} is a link out of the workspace, to {real}: nothing is written there unasked",
            hint="remove it if it came with the workspace; if it is yours, allow it: "
            f"export {LINKS}={shlex.quote(real)}",
        )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def is_own(path: Path) -> bool:
    """Return whether `path` is a regular file, no link, in a folder that may be written to."""
    try:
        return kind_of(os.lstat(path).st_mode) is None and bool(place_to_write(path.parent))
    except (OSError, EnvironmentProblem):
        return False


def own_file(path: StrPath, flags: int, root: Path | None = None) -> int:
    """Open a file that is changed in place, such as a lock or a log, and return its descriptor; nothing is waited for.

    Raises EnvironmentProblem if a link, pipe or anything else but a regular file is there, or if a link above it leads
    out of its workspace; OSError if the system refuses.
    """
    path = Path(path)
    place = place_to_write(path.parent, root) / path.name
    with contextlib.suppress(FileNotFoundError):
        _require_regular(os.lstat(place), path)  # before: opening alone can act on a device
    descriptor = os.open(place, flags & ~os.O_TRUNC | _CAREFUL, 0o666)
    try:
        _require_regular(os.fstat(descriptor), path)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_own(path: Path, mode: str, *, root: Path | None = None, **options: Any) -> IO[Any]:
    """Open a file that is changed in place, as `own_file` does; `options` are those of Python's `open`."""
    return open(path, mode, opener=functools.partial(own_file, root=root), **options)


def _require_regular(status: os.stat_result, path: Path) -> None:
    kind = kind_of(status.st_mode)
    if kind is not None:
        raise EnvironmentProblem(f"cannot write {path}: it is {kind}, not a regular file", hint="remove it")
