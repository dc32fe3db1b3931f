"""Commands and functions in forks of a warm process that end by SIGKILL at random moments, or at changes of files.

`SHITU_KILLS=N` sets how many kills there are of each kind, `SHITU_KILLS_SEED` other moments for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.command import all_end, children_of

ROOT = Path(__file__).parents[1]
_ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "SHITU_RANK_THREADS": "1"}


def kills(usual: int) -> int:
    """How many kills a test does; `usual` says how many where nobody asks for more."""
    return int(os.environ.get("SHITU_KILLS", usual))


def moments(name: str) -> random.Random:
    """Return the random numbers for the kills of one kind, the same on every machine."""
    return random.Random(name + os.environ.get("SHITU_KILLS_SEED", ""))


class Killed(BaseException):
    """Takes the place of SIGKILL inside a test: nothing that the program does afterwards reaches the disk."""


class Fork:
    """A command or a function that runs; its `code` is None until it has ended."""

    def __init__(self, pid: int, answers: IO[bytes], log: Path, counts: Path) -> None:
        self.pid, self._answers, self._log, self._counts = pid, answers, log, counts
        self.code: int | None = None

    def changes(self) -> int:
        """How often it has changed a file or a folder below its own so far."""
        return self._counts.stat().st_size

    def ends(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or ends within so many seconds."""
        if self.code is None and select.select([self._answers], [], [], max(0.0, seconds))[0]:
            self.code = int(self._answers.readline())
        return self.code is not None

    def kill(self, rng: random.Random | None = None) -> None:
        """Kill it with all that it has started; with `rng`, maybe only one of these processes. All of them end."""
        family = [self.pid, *children_of(self.pid)]
        if rng is None or rng.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)
        else:
            os.kill(rng.choice(family), signal.SIGKILL)
        assert self.ends(60) and all_end(family, 30)

    def succeeds(self, seconds: float = 300) -> None:
        """Wait for its end, which must be one without an error."""
        assert self.ends(seconds) and self.code == 0, self._log.read_text()


class Warm:
    """Starts commands and functions, one after the other; `modules` are loaded once for all of them."""

    def __init__(self, log: Path, *modules: str) -> None:
        self._log = log
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=ROOT,
            env={**os.environ, **_ALONE},
        )
        self._now: Fork | None = None

    def start(self, call: str, *arguments: str, folder: Path, kill_before: int | None = None) -> Fork:
        """Start `module:function` with arguments in a folder; it dies before its change number `kill_before`."""
        assert self._server.stdin is not None and self._server.stdout is not None
        if self._now is not None:
            assert self._now.ends(60)
            self._server.stdin.write(b"\n")
        counts = self._log.with_name("changes")
        order = {"call": call, "arguments": arguments, "folder": str(folder), "log": str(self._log)}
        order |= {"counts": str(counts), "kill_before": kill_before}
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._now = Fork(int(self._server.stdout.readline()), self._server.stdout, self._log, counts)
        return self._now

    def shitu(self, *words: str, folder: Path, kill_before: int | None = None) -> Fork:
        """Start a command."""
        return self.start("tests.warm:run_command", *words, folder=folder, kill_before=kill_before)

    def close(self) -> None:
        if self._now is not None and not self._now.ends():
            self._now.kill()
        self._server.kill()
        self._server.wait()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A warm process of the module's own."""
    process = Warm(tmp_path_factory.mktemp("warm") / "log.txt")
    yield process
    process.close()


def kill_at_random(
    name: str,
    start: Callable[[int | None], Fork],
    restore: Callable[[], None],
    state: Callable[[], str],
    *,
    trials: int,
    meanwhile: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> None:
    """Kill a command again and again; what it leaves is "old" or "new", and the next run makes it "new".

    Half of the kills come at random moments, half before a random one of its changes of files.

    Args:
        name: What to print the counts under.
        start: Starts the command, which is to die before the change of this number.
        restore: Puts back what was there before the command.
        state: Says what is there; it fails where that is neither of the two.
        trials: How many runs are to end by the kill; those that end before it are not counted.
        meanwhile: Goes on while the command runs and dies, such as a reader of what it changes.
    """
    whole, changes = 0.0, 0
    for _ in range(2):  # the first one is slower
        restore()
        assert state() == "old"
        began, running = time.monotonic(), start(None)
        running.succeeds()
        whole, changes = time.monotonic() - began, running.changes()
        assert state() == "new"
    rng, left, killed, again = moments(name), Counter[str](), 0, 0
    number = 0
    while killed < trials:
        restore()
        with meanwhile():
            if number % 2:
                running = start(rng.randint(1, changes))
                assert running.ends(300)
            else:
                running = start(None)
                if not running.ends(rng.uniform(0, whole)):
                    running.kill(rng)
        killed += running.code != 0
        now = state()
        left[now] += 1
        if number % 4 == 1:
            start(None).succeeds()
            assert state() == "new", f"{name}: after kill {number}"
            again += 1
        number += 1
    print(
        f"\n{name}: {killed} of {number} runs of {whole:.2f} s and {changes} changes ended by the kill; {dict(left)}; "
        f"{again} next runs good"
    )
