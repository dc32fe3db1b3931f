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
from shitu_cli.files import bytes_in
from shitu_cli.training.checkpoint import BEST, GENERATIONS, LATEST, is_whole, parts_of, saves_in
from shitu_cli.training.log import format_bytes
from shitu_cli.workspace import EARLIER, earlier_models


def set_aside(output: Path) -> Path | None:
    """Move what an earlier run has left into `<output>/earlier/<n>/`; None when there is nothing."""
    there = [path for name in (LATEST, BEST) for path in parts_of(output / name)]
    if not there:
        return None
    number = 1 + max((int(path.name) for path in earlier_models(output)), default=0)
    folder = output / EARLIER / f"{number:03d}"
    try:
        folder.mkdir(parents=True)
        for path in [*there, output / GENERATIONS]:
            if path.exists():
                os.replace(path, folder / path.name)
    except OSError as error:
        with contextlib.suppress(OSError):
            _move_back(folder, output)
        raise EnvironmentProblem(f"cannot move the earlier run to {folder}: {error.strerror}") from None
    return folder


def bring_back(folder: Path, output: Path) -> None:
    """Undo `set_aside`: the run that was to follow has saved nothing."""
    shutil.rmtree(output / GENERATIONS, ignore_errors=True)
    _move_back(folder, output)


def _move_back(folder: Path, output: Path) -> None:
    for path in folder.iterdir():
        os.replace(path, output / path.name)
    folder.rmdir()
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
