"""The speed of a task and the time left, correct soon after even a long task begins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_APART = 1.2  # ratio of the units done at two marks: a task of any length has some dozens of marks


class Pace:
    """Units done, and their pace without the first quarter, in which much is loaded, compiled and warmed up.

    Time spent `aside` does not count either, such as on the evaluations between epochs; `expected` is how many seconds
    of it are still to come.
    """

    def __init__(self) -> None:
        self.done, self.expected = 0, 0.0
        self._aside = 0.0  # seconds spent on other things
        self._stopped: float | None = None  # when the clock was stopped
        self._marks: list[tuple[int, float]] = []  # units done, and when

    def advance(self, n: int) -> None:
        self.done += n
        if not self._marks or self.done >= self._marks[-1][0] * _APART:
            self._marks.append((self.done, self._now()))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Stop the clock while something other than the units is done."""
        self._stopped = time.monotonic()
        try:
            yield
        finally:
            stopped, self._stopped = self._stopped, None
            self._aside += time.monotonic() - stopped

    def rate(self) -> float | None:
        """Return units per second, None while that is unknown."""
        early = [mark for mark in self._marks if mark[0] * 4 <= self.done] or self._marks[:1]
        if not early or early[-1][0] == self.done:
            return None
        units, since = early[-1]
        return (self.done - units) / max(self._now() - since, 1e-9)

    def left(self, total: int) -> float | None:
        """Return the seconds until `total` units and all that is expected are done; None while that is unknown."""
        rate = self.rate()
        if self.done >= total:
            return self.expected
        return None if rate is None else (total - self.done) / rate + self.expected

    def _now(self) -> float:
        stopped = self._stopped  # read once: rich draws in a thread of its own
        return (time.monotonic() if stopped is None else stopped) - self._aside
