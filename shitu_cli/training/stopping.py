"""Stop on SIGINT and SIGTERM: between training steps, or at once in an evaluation; on all ranks together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from shitu_cli.errors import Command
from shitu_cli.processes.collectives import Ranks
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import Reporter


class StopNow(Exception):
    """Raised at a step boundary after this or another rank has received a signal."""


class _Interrupted(BaseException):  # it passes where errors of libraries are caught
    """Raised when this rank receives a signal during shared work; the others do not know of it yet."""


class Stopping:
    """Handles the signals of one process; `should_stop` becomes true at the first of them."""

    def __init__(self, ranks: Ranks, reporter: Reporter) -> None:
        self.should_stop = False
        self._interruptible = False
        self._ranks, self._reporter = ranks, reporter

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Inside the context, the first SIGINT or SIGTERM requests a stop; a second SIGINT ends the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self.should_stop and number == signal.SIGINT:
            # Not an exception: Paddle would turn it into another one. Saves are atomic anyway.
            self._reporter.warn(
                ["stopped at once; the last save is intact; continue from it: ", Command("train", "--resume")]
            )
            os._exit(130)
        again, self.should_stop = self.should_stop, True  # the parent of several processes forwards Ctrl-C as SIGTERM
        if self._interruptible:
            self._interruptible = False
            raise _Interrupted
        if not again:
            self._reporter.info("stopping after this step ...")

    def check(self) -> None:
        """Raise StopNow on all ranks if one of them should stop."""
        if self._ranks.sum_vector([float(self.should_stop)])[0]:
            raise StopNow

    def share(self, work: Callable[[Processes], Any]) -> Any:
        """Run `work` on all ranks and return this one's result; raise StopNow on all of them after a signal.

        A rank that is interrupted still joins the next collective and reports the signal there, so that no other rank
        waits for it forever.
        """
        together = _Together(self._ranks, self)
        try:
            with self._raising():
                result = work(together)
            together.gather(None)
            return result
        except _Interrupted:
            self._ranks.gather([True, None])
            raise StopNow from None

    @contextmanager
    def _raising(self) -> Iterator[None]:
        """Let signals raise inside the context; one that came before raises at once."""
        self._interruptible = True
        try:
            if self.should_stop:
                raise _Interrupted
            yield
        finally:
            self._interruptible = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Delay signals to the end of the context: a collective left in the middle would be mixed up with the next one.

        After an error, signals no longer raise: the others already know that the work is over.
        """
        former, self._interruptible = self._interruptible, False
        yield
        self._interruptible = former
        if former and self.should_stop:
            self._interruptible = False
            raise _Interrupted


class _Together(Processes):
    """The processes of shared work: every collective first exchanges whether one of them should stop."""

    def __init__(self, ranks: Ranks, stopping: Stopping) -> None:
        self._ranks, self._stopping = ranks, stopping
        self.rank, self.world = ranks.rank, ranks.world

    def gather(self, value: Any) -> list[Any]:
        with self._stopping.noting():
            return self._exchange(value)

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        with self._stopping.noting():
            self._exchange(None)
            return self._ranks.gather_array(rows, counts)

    def _exchange(self, value: Any) -> list[Any]:
        answers = self._ranks.gather([self._stopping.should_stop, value])
        if any(stopped for stopped, _ in answers):
            raise StopNow
        return [value for _, value in answers]
