"""Stopping on SIGINT and SIGTERM: between two steps of training, at once in an evaluation, on all ranks together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.errors import Command
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter

if TYPE_CHECKING:
    from shitu_cli.features.list_features import Processes


class StopNow(Exception):
    """A signal came, to this rank or another, and the state is at a step boundary."""


class _Interrupted(Exception):
    """A signal came to this rank, in the middle of shared work; the others do not know of it yet."""


class Stopping:
    """What the signals of one process have asked for."""

    def __init__(self, ranks: Ranks, reporter: Reporter) -> None:
        self.asked = False
        self._interruptible = False
        self._ranks, self._reporter = ranks, reporter

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Inside, the first SIGINT or SIGTERM asks to stop; a second SIGINT ends the process."""
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
        if self.asked and number == signal.SIGINT:
            # Not an exception: raised inside Paddle it would come out as something else. Saves are whole or not.
            self._reporter.warn(["stopped at once; what was saved is whole: ", Command("train", "--resume")])
            os._exit(130)
        again, self.asked = self.asked, True  # what started several processes passes Ctrl-C on as SIGTERM
        if self._interruptible:
            self._interruptible = False
            raise _Interrupted
        if not again:
            self._reporter.info("stopping after this step ...")

    def check(self) -> None:
        """Raise StopNow on all ranks when one of them was asked to stop."""
        if self._ranks.sum_vector([float(self.asked)])[0]:
            raise StopNow

    def share(self, work: Callable[[Processes], Any]) -> Any:
        """What `work` gives on rank 0, done by all ranks with the processes it is handed; StopNow on all of them.

        A rank that is interrupted in its part takes part in the collective that the others come to next, and says so
        there: so none of them waits for it.
        """
        together = _Together(self._ranks, self)
        try:
            with self._raising():
                result = work(together)
            return together.gather(result)[0]
        except _Interrupted:
            self._ranks.gather([True, None])
            raise StopNow from None

    @contextmanager
    def _raising(self) -> Iterator[None]:
        """Inside, a signal raises; one that came before does so at once."""
        self._interruptible = True
        try:
            if self.asked:
                raise _Interrupted
            yield
        finally:
            self._interruptible = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Inside, a signal only raises at the end: a collective left in the middle would be taken for the next one.

        After an error it no longer raises at all: the others know already that the work is over.
        """
        former, self._interruptible = self._interruptible, False
        yield
        self._interruptible = former
        if former and self.asked:
            self._interruptible = False
            raise _Interrupted


class _Together:
    """The ranks as the processes of shared work: every collective first tells whether one of them shall stop."""

    def __init__(self, ranks: Ranks, stopping: Stopping) -> None:
        self._ranks, self._stopping = ranks, stopping

    @property
    def rank(self) -> int:
        return self._ranks.rank

    @property
    def world(self) -> int:
        return self._ranks.world

    def gather(self, value: Any) -> list[Any]:
        with self._stopping.noting():
            return self._tell(value)

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        with self._stopping.noting():
            self._tell(None)
            return self._ranks.gather_array(rows, counts)

    def _tell(self, value: Any) -> list[Any]:
        told = self._ranks.gather([self._stopping.asked, value])
        if any(stopped for stopped, _ in told):
            raise StopNow
        return [value for _, value in told]
