"""How right a progress line is about the time that is left, at 1 %, 10 % and 50 % of a command.

    python benchmarks/estimates.py extract ./photos --out /tmp/features.npy
    python benchmarks/estimates.py prepare ./photos -w /tmp/space

Runs `shitu` with these arguments and prints, for each of its progress lines, how far the end that it foretold lay from
the real one, as a share of the whole time. The line says it in seconds, so tasks of some minutes show the most.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

EVERY_LINE = "import shitu_cli.cli.console as c; c.LOG_SECONDS = 0; from shitu_cli.__main__ import main; main()"
LINE = re.compile(r"^(?P<what>.+?)  (?P<done>[\d,]+)/(?P<total>[\d,]+) \S+  (?P<left>[\d:]+) left")


def seconds(clock: str) -> float:
    value = 0
    for part in clock.split(":"):
        value = value * 60 + int(part)
    return value


def main() -> None:
    command = [sys.executable, "-c", EVERY_LINE, *sys.argv[1:]]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert run.stderr is not None
    tasks: dict[str, list[tuple[float, float, float]]] = {}  # share done, now, seconds left
    for line in run.stderr:
        match = LINE.match(line)
        if match is None:
            continue
        done, total = (int(match[name].replace(",", "")) for name in ("done", "total"))
        tasks.setdefault(match["what"], []).append((done / total, time.monotonic(), seconds(match["left"])))
    for what, moments in tasks.items():
        began, end = moments[0][1], moments[-1][1]
        print(f"{what}: {end - began:.1f} s")
        for share in (0.01, 0.1, 0.5):
            at, now, left = next(moment for moment in moments if moment[0] >= share)
            error = (now + left - end) / max(end - began, 1e-9)
            print(f"  at {at:6.1%}: {left:.0f} s left, {end - now:.1f} s in truth: {error:+.1%} of the whole")
    sys.exit(run.wait())


if __name__ == "__main__":
    main()
