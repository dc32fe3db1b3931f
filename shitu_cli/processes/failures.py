"""Errors of a run of several processes: when one fails, report the cause and not its consequences."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import Command, Message, ShituError, TrainingError

INTERRUPT_CODE = 130


class ProcessGone(TrainingError):
    """Raised when a collective fails because another process has ended; its exit code marks it as a consequence."""

    exit_code = 76

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            "another process of the run has ended", details=(str(error).strip().splitlines() or [repr(error)])[-1:]
        )


@dataclass(frozen=True)
class Advice:
    """What a run that has failed is to its user: the kind of its error, and how to go on."""

    error: type[ShituError]
    hint: Message


TRAINING = Advice(
    TrainingError,
    ("the last save is intact; continue from it: ", Command("train", "--resume"), " (with the same options)"),
)


def raise_elsewhere(machine: int, text: str, code: int) -> None:
    error = TrainingError(
        f"machine {machine} of the run {text}" if text.startswith("has left") else f"machine {machine}: {text}",
        details=["the processes of this machine were stopped"],
        hint=[
            "the last save is intact; continue from it: ",
            Command("train", "--resume"),
            " (with the same options, on all machines)",
        ],
    )
    error.exit_code = code
    raise error


def raise_failure(codes: Sequence[int | None], first: int, output: Path, advice: Advice) -> None:
    """Raise for the process that failed first, not for those that failed because of it; None: it had to be killed."""
    failures = [(rank, code) for rank, code in enumerate(codes, first) if code and code != INTERRUPT_CODE]
    if not failures:
        if INTERRUPT_CODE in codes:
            sys.exit(INTERRUPT_CODE)
        return
    # A process that loses another exits with the code of ProcessGone, or the communication library aborts it.
    priority = {ProcessGone.exit_code: 2, -int(signal.SIGABRT): 1}
    rank, code = min(failures, key=lambda end: priority.get(end[1], 0))
    if code == ProcessGone.exit_code:
        raise advice.error("the processes of the run lost their connection", hint=advice.hint)
    if rank == 0 and code > 0:
        raise SystemExit(code)  # it has already shown its error
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    lines = [] if rank == 0 else log_file(output, rank).read_text(errors="replace").strip().splitlines()[-6:]
    error = advice.error(
        f"process {rank} of the run ended with {how}; the others were stopped",
        details=lines,
        hint=advice.hint,
    )
    if code > 0:
        error.exit_code = code
    raise error


def log_file(output: Path, rank: int) -> Path:
    """Return where a process that does not print writes its output; create the folder."""
    place_to_write(output).mkdir(parents=True, exist_ok=True)
    return output / f"rank{rank}.out"
