"""How right a progress line is about the time that is left, at 1 %, 10 % and 50 % of a command.

    python benchmarks/estimates.py extract ./photos --out /tmp/features.npy
    python benchmarks/estimates.py train --epochs 3

Runs `shitu` with these arguments in this process and prints, for each of its progress lines, how far the end that it
estimated was from the real one, as a share of the whole time. Time is that of the processor, in all threads: what else
runs on the machine does not count. `SHITU_CLOCK=wall` takes the clock on the wall instead, for a quiet machine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import shitu_cli.cli.console as console
import shitu_cli.cli.pace as pace_module
from shitu_cli.__main__ import main as shitu
from shitu_cli.cli.pace import Pace
from shitu_cli.reporting import Bar

SHARES = (0.01, 0.1, 0.5)
CLOCK = time.monotonic if os.environ.get("SHITU_CLOCK") == "wall" else time.process_time


class Moment(NamedTuple):
    """What a line said when `share` of its task was done: seconds on the clock, and seconds that are left."""

    share: float
    now: float
    left: float


def main() -> None:
    tasks: dict[str, list[Moment]] = {}
    draw = console.progress_line

    def listen(width: int, what: str, total: int, unit: str, pace: Pace, *more: Any, **options: Any) -> str:
        left = pace.left(total)
        if left is not None:
            tasks.setdefault(what, []).append(Moment(pace.done / total, CLOCK(), left))
        return draw(width, what, total, unit, pace, *more, **options)

    ends: dict[str, float] = {}
    show = console.Console.progress

    @contextmanager
    def watch(shown: console.Console, what: str, total: int, unit: str = "images") -> Iterator[Bar]:
        with show(shown, what, total, unit) as bar:
            yield bar
        ends[what] = CLOCK()

    console.Console.progress = watch  # type: ignore[method-assign, assignment]
    console.progress_line = listen
    pace_module.time = SimpleNamespace(monotonic=CLOCK)  # type: ignore[attr-defined]
    time.perf_counter = CLOCK  # what training takes for its evaluations
    console.LOG_SECONDS = 0
    sys.argv[0] = "shitu"
    with open(os.devnull, "w") as nowhere:
        output, sys.stderr = sys.stderr, nowhere
        try:
            shitu()
        except SystemExit as end:
            if end.code:
                raise
        finally:
            sys.stderr = output
    for what, moments in tasks.items():
        began, end = moments[0].now, ends[what]
        print(f"{what}: {end - began:.1f} s after the first line, {len(moments):,} lines")
        for share in SHARES:
            moment = next((moment for moment in moments if moment.share >= share), None)
            if moment is None:  # it ended early
                continue
            at, now, left = moment
            error = (now + left - end) / max(end - began, 1e-9)
            print(f"  at {at:6.1%}: {left:.1f} s left, {end - now:.1f} s in truth: {error:+.1%} of the whole")


if __name__ == "__main__":
    main()
