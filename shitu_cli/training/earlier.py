"""The models of earlier runs: a new run moves the previous one to `<output>/earlier/<n>/`, where it stays.

Duplicates are removed (a save that `latest.*` or `best_model.*` holds too), models only if the user sets a limit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import EnvironmentProblem
from shitu_cli.files import bytes_in, sync_directory
from shitu_cli.inputs import read_bytes
from shitu_cli.reporting import byte_size
from shitu_cli.training.checkpoint import BEST, CONFIG, GENERATIONS, LATEST, is_whole, saves_in
from shitu_cli.training.save_files import files_of_save, part_file
from shitu_cli.workspace import EARLIER, earlier_models

MOVING = ".moving"  # suffix of a directory that does not hold the complete earlier run yet
_CHECK = "check permissions and free space there, then run the command again"


def set_aside(output: Path, new: Path | None = None) -> Path | None:
    """Move the files of an earlier run to `<output>/earlier/<n>/` and return it; None if there are none.

    The save `new`, a prefix below `<output>/checkpoints/`, belongs to the new run and stays. A kill in between leaves
    `earlier/<n>.moving`, which `settle` completes. Raises EnvironmentProblem if moving fails.
    """
    if not _visible(output):
        return None
    number = 1 + max((int(path.name) for path in earlier_models(output)), default=0)
    folder = place_to_write(output / EARLIER) / f"{number:03d}"
    moving = folder.with_suffix(MOVING)
    try:
        moving.mkdir(parents=True)
        try:
            _move(output, moving, new)
            os.replace(moving, folder)
            sync_directory(folder.parent)
        except OSError:
            with contextlib.suppress(OSError):
                _move_back(moving, output)
            raise
    except OSError as error:
        raise EnvironmentProblem(f"cannot move the earlier run to {folder}: {error.strerror}", hint=_CHECK) from None
    return folder


def settle(output: Path) -> None:
    """Complete a `set_aside` that was killed; only the process that trains in `output` may call it.

    At that point, the first save of the new run was complete. If it is gone, because somebody has removed it, the
    earlier run is moved back.
    """
    for moving in sorted(place_to_write(output / EARLIER).glob(f"*{MOVING}")):
        if moving.is_symlink():  # not from this program
            continue
        try:
            saves = saves_in(output / GENERATIONS)
            if saves:
                _move(output, moving, saves[-1])
                os.replace(moving, moving.with_suffix(""))
            else:
                _move_back(moving, output)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot move the earlier run to {moving}: {error.strerror}", hint=_CHECK
            ) from None


def _visible(output: Path) -> list[Path]:
    return [path for name in (LATEST, BEST) for path in files_of_save(output / name)]


def _move(output: Path, folder: Path, new: Path | None) -> None:
    saves = [path for path in sorted((output / GENERATIONS).glob("*")) if new is None or path.stem != new.name]
    # The config is needed to build the network again.
    for path in [*_visible(output), *saves, output / CONFIG]:
        if path.exists():
            _replace(path, folder / path.relative_to(output))


def _move_back(folder: Path, output: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        _replace(path, output / path.relative_to(folder))
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # fails if it holds others


def _replace(path: Path, target: Path) -> None:
    folder = place_to_write(target.parent)
    folder.mkdir(exist_ok=True)
    os.replace(path, folder / target.name)


def tidy(folder: Path, output: Path, keep: int | None) -> list[str]:
    """Remove duplicates in `folder`, and all but the newest `keep` earlier models; return lines for the user.

    Raises EnvironmentProblem if that fails.
    """
    try:
        drop_copies(folder)
        removed = [] if keep is None else drop_models(output, keep)
    except OSError as error:
        raise EnvironmentProblem(f"cannot remove files in {folder.parent}: {error.strerror}", hint=_CHECK) from None
    models = earlier_models(output)
    lines = [f"the model of the previous run was moved to {folder}"] if folder in models else []
    if removed:
        lines.append(f"removed because of --keep-earlier {keep}: {', '.join(map(str, removed))}")
    if keep is None and len(models) > 1:
        size = byte_size(sum(map(bytes_in, models)))
        lines.append(f"{len(models)} earlier models take {size}; --keep-earlier 1 would keep only the newest one")
    return lines


def drop_copies(folder: Path) -> None:
    """Remove the saves of an earlier run that its intact `latest.*` or `best_model.*` hold too."""
    whole = {_note(folder / name) for name in (LATEST, BEST) if is_whole(folder / name)}
    for save in saves_in(folder / GENERATIONS):
        if _note(save) in whole:
            for part in files_of_save(save):
                part.unlink()
    with contextlib.suppress(OSError):
        (folder / GENERATIONS).rmdir()  # fails if more saves were kept


def _note(save: Path) -> bytes:
    return read_bytes(part_file(save, "pdstates"), error=EnvironmentProblem)


def drop_models(output: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` earlier models; return those that were removed."""
    models = earlier_models(output)
    removed = models[: max(0, len(models) - keep)]
    for folder in removed:
        shutil.rmtree(folder)
    return removed
