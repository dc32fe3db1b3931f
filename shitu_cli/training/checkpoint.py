"""Checkpoints that survive a kill, a power cut and a full disk at any moment.

One save is one *generation* under `<output>/checkpoints/`: its parts are written to temporary files, synced and
renamed, and `.pdstates` (JSON with the hashes of the other parts) comes last: only then does the generation count.
Copies of the parts then replace `latest.*` and `best_model.*`, one file after another; a kill in between leaves a
mixed set, which the hashes reveal, and loading falls back to the newest intact generation. The previous generation is
removed only after that. Changing a visible file does not damage a generation, nor the other way round: they share no
storage except on file systems that copy on write (btrfs, XFS), where copies are free. Elsewhere the directory holds up
to four saves (two visible ones and their generations), one more per `keep` above 1, and two more for a moment while
saving.

Parts: `.pdparams` the weights to use (averaged ones when EMA is on), `.pdopt` the optimiser, `.pdtrain` what only
training needs (the raw weights if EMA is on, the state of the losses), `.pdstates` the loop's state and the hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import Command, DataError, EnvironmentProblem, UsageError
from shitu_cli.files import atomic_write_text, sha256_of, sync_directory
from shitu_cli.inputs.json_files import read_json_object
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.save_files import PARTS, copy_beside, discard, files_of_save, part_file, switch, write_arrays

FORMAT = 1
HEADER_BYTES = 64 << 20  # random generators take 7 kB a process, evaluations 1 kB each
GENERATIONS = "checkpoints"
LATEST, BEST = "latest", "best_model"
CONFIG = "config.yaml"  # beside them: the config that the run was started with
_GENERATION = re.compile(r"save_(\d{6,})_epoch_\d+_step_\d+")

# A part of a save, or a temporary file left by a kill.
_OURS = re.compile(rf"\.?({_GENERATION.pattern})\.(?:{'|'.join(PARTS)})(?:\.\w+\.tmp)?")

Arrays = Mapping[str, np.ndarray]


@dataclass
class Checkpoint:
    """The content of one save. `run` describes the run that wrote it (see training/fingerprint.py)."""

    weights: Arrays
    optimizer: Mapping[str, Any]
    state: LoopState
    run: dict[str, Any]
    training: Arrays = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def save_checkpoint(
    output: Path,
    names: Iterable[str],
    checkpoint: Checkpoint,
    *,
    keep: int = 1,
    before_switch: Callable[[Path], None] = lambda prefix: None,
) -> Path:
    """Write one generation, switch `<output>/<name>.*` to it, keep the newest `keep` generations; return its prefix.

    `before_switch` is called with that prefix once everything that takes disk space is written. Raises
    EnvironmentProblem if writing fails; earlier saves are then unchanged.
    """
    output, folder = place_to_write(output), place_to_write(output / GENERATIONS)
    # Best model first: a run that is killed in between resumes from before this save and repeats it.
    targets = [output / name for name in sorted(names, key=lambda name: name == LATEST)]
    state = checkpoint.state
    number = max((_number(prefix) for prefix in saves_in(folder, whole_only=False)), default=0) + 1
    prefix = folder / f"save_{number:06d}_epoch_{state.epoch}_step_{state.global_step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_generation(prefix, [target.name for target in targets], checkpoint)
        sync_directory(folder)
        for target in targets:
            copy_beside(prefix, target)
        before_switch(prefix)
    except (EnvironmentProblem, OSError) as problem:
        discard(prefix, targets)
        raise _refused(problem, prefix) from None
    try:
        for target in targets:
            switch(target)
        sync_directory(output)
    except OSError as problem:
        raise _refused(problem, prefix) from None
    _prune(folder, keep)
    return prefix


def load_checkpoint(prefix: Path) -> Checkpoint:
    """Load the checkpoint `<output>/latest` (or any prefix), or else its newest intact generation.

    Raises UsageError if there is none, DataError if no intact one is left. `notes` mentions a fallback.
    """
    problems = _problems(prefix)
    if not problems:
        return _read(prefix)
    copy = _intact_copy(prefix)
    if copy is not None:
        checkpoint = _read(copy)
        checkpoint.notes.append(f"{prefix}.*: {problems[0]}; continuing from {copy}, which is intact")
        return checkpoint
    if not files_of_save(prefix):
        raise UsageError(f"no checkpoint at {prefix}.*", hint=["start a new run: ", Command("train")])
    raise DataError(
        f"training cannot continue from the checkpoint {prefix}.*",
        details=problems,
        hint=["its weights alone may still be usable: ", Command("train", "--init-from", prefix)],
    )


def standing_weights(prefix: Path) -> tuple[Path, str]:
    """Return the prefix to load weights from and a warning ("" for none).

    It is the checkpoint itself, or its newest intact save if it is damaged. Weights that a user has put in place of a
    checkpoint are used as they are.
    """
    from shitu_cli.weights.files import read_state

    weights = part_file(prefix, "pdparams")
    if not (prefix.parent / GENERATIONS).is_dir():
        return prefix, ""
    expected = _header(prefix).get("files", {}).get("pdparams", {}).get("sha256")
    if expected is not None and weights.is_file() and sha256_of(weights) == expected:
        return prefix, ""
    try:
        read_state(weights)
    except DataError as problem:
        copy = _intact_copy(prefix)
        if copy is not None:
            return copy, f"{problem.message.rstrip('.')}; using its intact copy {copy}"
    return prefix, ""


def _intact_copy(prefix: Path) -> Path | None:
    """Return the newest intact save that was made for this prefix, None if there is none."""
    saves = [save for save in saves_in(prefix.parent / GENERATIONS) if prefix.name in _header(save).get("names", [])]
    return next((save for save in sorted(saves, key=_number, reverse=True) if not _problems(save)), None)


def has_checkpoint(prefix: Path) -> bool:
    """Return whether `load_checkpoint` has anything to try."""
    return bool(files_of_save(prefix)) or bool(saves_in(prefix.parent / GENERATIONS))


def is_whole(prefix: Path) -> bool:
    """Return whether the files of this prefix are one intact checkpoint."""
    return not _problems(prefix)


def saves_in(folder: Path, *, whole_only: bool = True) -> list[Path]:
    """Return the prefixes of the saves in the folder, oldest first; with `whole_only`, those with a `.pdstates`."""
    if not folder.is_dir():
        return []
    saves = {
        path.with_suffix("")
        for path in folder.iterdir()
        if _GENERATION.fullmatch(path.stem) and not path.is_dir() and (path.suffix == ".pdstates" or not whole_only)
    }
    return sorted(saves, key=_number)


def _write_generation(prefix: Path, names: list[str], checkpoint: Checkpoint) -> None:
    parts: dict[str, Mapping[str, Any]] = {"pdparams": checkpoint.weights, "pdopt": checkpoint.optimizer}
    if checkpoint.training:
        parts["pdtrain"] = checkpoint.training
    files = {part: write_arrays(part_file(prefix, part), arrays) for part, arrays in parts.items()}
    header = {
        "format": FORMAT,
        "names": names,
        "files": files,
        "metrics": checkpoint.metrics,
        "state": checkpoint.state.to_json(),
        "run": checkpoint.run,
    }
    header["sha256"] = _header_hash(header)
    atomic_write_text(part_file(prefix, "pdstates"), json.dumps(header, ensure_ascii=False, indent=1) + "\n")


def _header_hash(header: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in header.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _header(prefix: Path) -> dict[str, Any]:
    """Return the content of `.pdstates`; {} if it cannot be read or was not written by shitu."""
    try:
        header = read_json_object(part_file(prefix, "pdstates"), limit=HEADER_BYTES, allow_nan=True)
    except (OSError, DataError):
        return {}
    return header if _is_complete(header) else {}


def _is_complete(header: Mapping[str, Any]) -> bool:
    """Return whether a header has all values that are read from it, of the right types; a checksum proves neither."""
    files, run = header.get("files"), header.get("run")
    if not isinstance(files, dict) or not {"pdparams", "pdopt"} <= files.keys() <= set(PARTS[:-1]):
        return False
    if not isinstance(run, dict) or not isinstance(run.get("config", {}), dict):
        return False
    if not all(isinstance(header.get(key, {}), dict) for key in ("state", "metrics")):
        return False
    if not isinstance(run.get("steps_per_epoch", 0), int) or not isinstance(run.get("saving", {}), dict):
        return False
    if not isinstance(header.get("names", []), list):
        return False
    entries = [entry if isinstance(entry, dict) else {} for entry in files.values()]
    return all(isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int) for entry in entries)


def read_header(prefix: Path) -> dict[str, Any] | None:
    """Return state, run and metrics of a checkpoint without its arrays; None if it is incomplete or not ours."""
    header = _header(prefix)
    whole = header.get("format") == FORMAT and header.get("sha256") == _header_hash(header)
    return header if whole else None


def _problems(prefix: Path) -> list[str]:
    """Return why the files of this prefix are not one intact checkpoint; empty if they are."""
    path = part_file(prefix, "pdstates")
    if not path.is_file():
        return [f"{path.name} is missing"]
    header = _header(prefix)
    if not header:
        return [f"{path.name} was not written by shitu train, or is damaged"]
    if header.get("format") != FORMAT:
        return [f"{path.name} has format {header.get('format')}, this version reads {FORMAT}"]
    if header.get("sha256") != _header_hash(header):
        return [f"{path.name} is damaged (its checksum does not match)"]
    try:
        LoopState.from_json(header["state"])
    except ValueError as problem:
        return [f"{path.name}: {problem}"]
    problems = []
    for part, expected in header["files"].items():
        file = part_file(prefix, part)
        if not file.is_file():
            problems.append(f"{file.name} is missing")
        elif file.stat().st_size != expected["bytes"] or sha256_of(file) != expected["sha256"]:
            problems.append(f"{file.name} is damaged or belongs to another save (its checksum does not match)")
    return problems


def _read(prefix: Path) -> Checkpoint:
    from shitu_cli.weights.paddle_files import read_paddle

    header = _header(prefix)
    read = {part: read_paddle(part_file(prefix, part)) for part in header["files"]}
    return Checkpoint(
        weights=read["pdparams"],
        optimizer=read["pdopt"],
        training=read.get("pdtrain", {}),
        state=LoopState.from_json(header["state"]),
        run=header["run"],
        metrics=header.get("metrics", {}),
    )


def _number(prefix: Path) -> int:
    match = _GENERATION.fullmatch(prefix.name)
    assert match is not None
    return int(match.group(1))


def _refused(problem: EnvironmentProblem | OSError, prefix: Path) -> EnvironmentProblem:
    if isinstance(problem, EnvironmentProblem):
        text = problem.message
    else:
        text = f"cannot write the checkpoint {problem.filename or prefix}: {problem.strerror}"
    where = "free some space or choose another Global.output_dir; the previous checkpoint is intact: "
    return EnvironmentProblem(text, hint=[where, Command("train", "--resume")])


def _prune(folder: Path, keep: int) -> None:
    """Remove incomplete saves, and saves that are neither among the newest `keep` nor the newest of a name."""
    whole = saves_in(folder)
    kept = set(whole[-max(1, keep) :])
    newest_of: dict[str, Path] = {}
    for generation in whole:
        for name in _header(generation).get("names", []):
            newest_of[name] = generation
    kept.update(newest_of.values())
    for path in folder.iterdir():
        match = _OURS.fullmatch(path.name)
        if match and folder / match.group(1) not in kept:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
