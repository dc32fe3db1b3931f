"""The models of earlier runs: a new run moves the one before it to `<output>/earlier/<n>/`, where it stays.

What lies there twice goes (a save that is `latest.*` or `best_model.*` too), whole models only when the user says
how many to keep.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.files import bytes_in, sync_directory
from shitu_cli.training.checkpoint import BEST, CONFIG, GENERATIONS, LATEST, is_whole, parts_of, saves_in
from shitu_cli.training.log import format_bytes
from shitu_cli.workspace import EARLIER, earlier_models

MOVING = ".moving"  # ends the name of a directory that does not hold the whole earlier run yet


def set_aside(output: Path, new: Path | None = None) -> Path | None:
    """Move what an earlier run has left into `<output>/earlier/<n>/`; None when there is nothing.

    The save `new`, a prefix below `<output>/checkpoints/`, is the following run's and stays. A kill in the middle
    leaves `earlier/<n>.moving`, which `settle` completes.
    """
    if not _visible(output):
        return None
    number = 1 + max((int(path.name) for path in earlier_models(output)), default=0)
    folder = output / EARLIER / f"{number:03d}"
    moving = folder.with_suffix(MOVING)
    try:
        moving.mkdir(parents=True)
        _move(output, moving, new)
        os.replace(moving, folder)
        sync_directory(folder.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            _move_back(moving, output)
        raise EnvironmentProblem(f"cannot move the earlier run to {folder}: {error.strerror}") from None
    return folder


def settle(output: Path) -> None:
    """Complete what a kill has left half done in `set_aside`; only the process that trains in `output` may call it.

    By then the following run's first save was whole: where it is not, because somebody has removed it, the earlier
    run comes back.
    """
    for moving in sorted((output / EARLIER).glob(f"*{MOVING}")):
        try:
            saves = saves_in(output / GENERATIONS)
            if saves:
                _move(output, moving, saves[-1])
                os.replace(moving, moving.with_suffix(""))
            else:
                _move_back(moving, output)
        except OSError as error:
            raise EnvironmentProblem(f"cannot move the earlier run to {moving}: {error.strerror}") from None


def _visible(output: Path) -> list[Path]:
    return [path for name in (LATEST, BEST) for path in parts_of(output / name)]


def _move(output: Path, folder: Path, new: Path | None) -> None:
    saves = [path for path in sorted((output / GENERATIONS).glob("*")) if new is None or path.stem != new.name]
    # The config says how to build what was trained.
    for path in [*_visible(output), *saves, output / CONFIG]:
        if path.exists():
            target = folder / path.relative_to(output)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)


def _move_back(folder: Path, output: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        target = output / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # unless others are there


def tidy(folder: Path, output: Path, keep: int | None) -> list[str]:
    """Drop what lies in `folder` twice, and all but the newest `keep` earlier models; what to tell the user.

    Raises EnvironmentProblem when the system refuses.
    """
    try:
        drop_copies(folder)
        gone = [] if keep is None else drop_models(output, keep)
    except OSError as error:
        raise EnvironmentProblem(f"cannot tidy {folder.parent}: {error.strerror}") from None
    there = earlier_models(output)
    lines = [f"the model of the run before is kept in {folder}"] if folder in there else []
    if gone:
        lines.append(f"removed, as --keep-earlier {keep} asks: {', '.join(map(str, gone))}")
    if keep is None and len(there) > 1:
        taken = format_bytes(sum(map(bytes_in, there)))
        lines.append(f"{len(there)} earlier models take {taken}; --keep-earlier 1 would keep only the newest of them")
    return lines


def drop_copies(folder: Path) -> None:
    """Remove the saves of an earlier run that its `latest.*` or `best_model.*` hold too, whole."""
    whole = {(folder / f"{name}.pdstates").read_bytes() for name in (LATEST, BEST) if is_whole(folder / name)}
    for save in saves_in(folder / GENERATIONS):
        if save.with_name(f"{save.name}.pdstates").read_bytes() in whole:
            for part in parts_of(save):
                part.unlink()
    with contextlib.suppress(OSError):
        (folder / GENERATIONS).rmdir()  # unless more saves were to be kept


def drop_models(output: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` earlier models; those removed."""
    models = earlier_models(output)
    gone = models[: max(0, len(models) - keep)]
    for folder in gone:
        shutil.rmtree(folder)
    return gone
