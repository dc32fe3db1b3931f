"""How right --dry-run and progress lines are about the time of a command, at 1 %, 10 % and 50 % of it.

    python benchmarks/estimates.py extract ./photos --out /tmp/features.npy
    python benchmarks/estimates.py train --epochs 3

Runs `shitu` with these arguments in this process, first with --dry-run (`SHITU_DRY=0` leaves that out), and prints how
far the estimated end was from the real one, as a share of the whole time: for the dry run, then for each
progress line. Time is that of the processor, in all threads: what else runs on the machine does not count.
`SHITU_CLOCK=wall` takes the clock on the wall instead, for a quiet machine.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace
from typing import Any, NamedTuple

import shitu_cli.cli.console as console
import shitu_cli.pace as pace_module
from shitu_cli.__main__ import main as shitu
from shitu_cli.pace import Left, Pace
from shitu_cli.reporting import Bar

SHARES = (0.01, 0.1, 0.5)
CLOCK = time.monotonic if os.environ.get("SHITU_CLOCK") == "wall" else time.process_time


class Moment(NamedTuple):
    """What a line said when `share` of its task was done: seconds on the clock, and seconds that are left."""

    share: float
    now: float
    left: Left


class Record:
    """What the progress lines of a command said: when each began and ended, and all that was foretold between."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.moments: dict[str, list[Moment]] = {}

    def listen(self) -> None:
        """Note what every line says from now on."""
        draw, show = console.progress_line, console.Console.progress

        def drawn(width: int, what: str, unit: str, pace: Pace, *more: Any, **options: Any) -> str:
            left = pace.left()
            if left is not None and pace.total:
                self.moments.setdefault(what, []).append(Moment(pace.done / pace.total, CLOCK(), left))
            return draw(width, what, unit, pace, *more, **options)

        @contextmanager
        def shown(screen: console.Console, what: str, total: int, unit: str = "images") -> Iterator[Bar]:
            self.began[what] = CLOCK()
            with show(screen, what, total, unit) as bar:
                yield bar
            self.ended[what] = CLOCK()

        console.Console.progress = shown  # type: ignore[method-assign, assignment]
        console.progress_line = drawn

    def show(self) -> None:
        """Print what each line said at the shares that were done."""
        for what, moments in self.moments.items():
            end, whole = self.ended[what], max(self.ended[what] - self.began[what], 1e-9)
            print(f"{what}: {whole:.1f} s; a time is shown from {moments[0].share:.1%} on")
            for share in SHARES:
                moment = next((moment for moment in moments if moment.share >= share), None)
                if moment is None:  # it ended early
                    continue
                at, now, left = moment
                shown = f"{left.middle:.1f}" if left.is_sure else f"{left.least:.1f} to {left.most:.1f}"
                error, truth = (now + left.middle - end) / whole, end - now
                print(f"  at {at:6.1%}: {shown} s left, {truth:.1f} s in truth: {error:+.1%} of the whole")


def run(*arguments: str) -> str:
    """Run the command with these arguments; return what it prints."""
    sys.argv = ["shitu", *arguments]
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        try:
            shitu()
        except SystemExit as end:
            if end.code:
                print(errors.getvalue(), file=sys.__stderr__)
                raise
    return output.getvalue()


def main() -> None:
    arguments = sys.argv[1:]
    pace_module.time = SimpleNamespace(monotonic=CLOCK)  # type: ignore[attr-defined]
    time.perf_counter = CLOCK  # what training and dry runs take besides
    console.LOG_SECONDS = 0
    wanted = os.environ.get("SHITU_DRY") != "0"
    cost = json.loads(run(*arguments, "--dry-run", "--json"))["seconds"] if wanted else None
    record = Record()
    record.listen()
    run(*arguments)
    if cost is not None and record.began:
        whole = max(record.ended.values()) - min(record.began.values())
        error = (cost["total"] - whole) / whole
        print(
            f"--dry-run: {cost['total']:.1f} s (give or take {cost['margin']:.1f}), {whole:.1f} in truth: {error:+.1%}"
        )
        print("  " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in cost.items()))
    record.show()


if __name__ == "__main__":
    main()
