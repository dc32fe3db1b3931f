"""The speed of a task and the time left: the only place where times are estimated.

Progress lines, --dry-run and training all ask a `Pace`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

_WARM_UP = 5  # steps that are ignored: loaders read ahead, engines compile, caches fill
_APART = 1.2  # ratio of the units done at two marks: a task of any length has some dozens of marks
_LONG = 10.0  # seconds: one step as long as this gives a pace
_SURE, _UNSURE = 0.1, 0.5  # the largest relative error of an estimate shown as one number, and as a range


class Left(NamedTuple):
    """The seconds left, between `least` and `most`."""

    least: float
    most: float

    @classmethod
    def within(cls, seconds: float, share: float) -> Left:
        """Return the range of an estimate with a relative error of `share`."""
        return cls(seconds * max(0.0, 1 - share), seconds * (1 + share))

    @property
    def middle(self) -> float:
        return (self.least + self.most) / 2

    @property
    def is_sure(self) -> bool:
        return self.most - self.middle <= _SURE * self.middle


class _Mark(NamedTuple):
    """The `units` done after `seconds`, of which `once` went into work that later units do not repeat."""

    units: int
    seconds: float
    once: float


class Pace:
    """Counts the units done of `total` (0: unknown), and estimates their speed without the warm-up.

    Time spent `aside` does not count, such as on the evaluations between epochs; `expected` is how many seconds of it
    are still to come. Work that later units do not repeat does not count either, such as decoding images that stay in
    memory; `once` sets how many seconds it has taken and will take.
    """

    def __init__(self, total: int = 0) -> None:
        self.total, self.done, self.expected = total, 0, 0.0
        self._steps = 0
        self._once, self._once_left = 0.0, 0.0
        self._aside = 0.0  # seconds spent on other things
        self._stopped: float | None = None  # when the clock was stopped
        self._began = time.monotonic()
        self._last = _Mark(0, 0.0, 0.0)
        self._marks = [self._last]

    def advance(self, n: int = 1) -> None:
        """Count a step of `n` units."""
        self.done += n
        self._steps += 1
        self._last = _Mark(self.done, self._now(), self._once)
        if self.done >= self._marks[-1].units * _APART:
            self._marks.append(self._last)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Stop the clock during work between units."""
        self._stopped = time.monotonic()
        try:
            yield
        finally:
            stopped, self._stopped = self._stopped, None
            self._aside += time.monotonic() - stopped

    def once(self, spent: float, left: float) -> None:
        """Set the seconds of work that later units do not repeat: those `spent` and those `left`."""
        self._once, self._once_left = spent, left

    @property
    def seconds(self) -> float:
        """The seconds that all units so far have taken."""
        return self._last.seconds

    def whole(self) -> float:
        """Return the estimated seconds of all units, including work that is done once."""
        if self.done >= self.total:
            return self.seconds * self.total / max(1, self.done)
        return self.per_unit() * self.total + self._once + self._once_left

    def rate(self) -> float | None:
        """Return the current units per second, None until they are known."""
        marks = self._window()
        return None if marks is None else _between(marks).units / max(_between(marks).seconds, 1e-9)

    def per_unit(self) -> float:
        """Return the seconds per unit without work that is done once: at first a guess, 0 before the first step."""
        whole = _between(self._window() or [self._marks[min(1, max(0, len(self._marks) - 2))], self._last])
        return max(0.0, whole.seconds - whole.once) / max(1, whole.units)

    @property
    def margin(self) -> float:
        """The relative error of the pace, 1 while it is unknown."""
        marks = self._window()
        if self.done >= self.total:
            return 0.0
        return 1.0 if marks is None else _deviation(marks)

    def left(self) -> Left | None:
        """Return the seconds until all units and all expected other work are done, None while that is unknown."""
        stopped = self._stopped  # read once: rich draws in a thread of its own
        beside = self.expected - (0.0 if stopped is None else min(self.expected, time.monotonic() - stopped))
        if self.done >= self.total:
            return Left(beside, beside)
        beside += self._once_left
        margin = self.margin
        if margin > _UNSURE:
            return None
        pace = self.per_unit()
        # Time has passed since the last step, but a step that hangs does not bring the end nearer.
        passed = min(self._now() - self._last.seconds, pace * self.done / self._steps)
        units = Left.within(max(0.0, (self.total - self.done) * pace - passed), margin)
        return Left(beside + units.least, beside + units.most)

    def measure(self, steps: Iterable[int], seconds: float) -> Pace:
        """Count the units of `steps` for about `seconds`, up to three times as long if the pace is still unknown."""
        for n in steps:
            self.advance(n)
            if self.seconds >= 3 * seconds or (self.seconds >= seconds and self._window() is not None):
                break
        return self

    def _window(self) -> list[_Mark] | None:
        """Return the marks after the warm-up and the first quarter, and the newest state; None if there are too few."""
        expected = self._steps * self.total // max(1, self.done)
        quarter = sum(mark.units * 4 <= self.done for mark in self._marks) - 1
        first = max(quarter, min(_WARM_UP, expected // 5), 1)
        marks = self._marks[first:]
        if marks and marks[-1] != self._last:
            marks.append(self._last)
        is_long = len(marks) == 2 and _between(marks).seconds >= _LONG
        return marks if len(marks) > 2 or is_long else None

    def _now(self) -> float:
        """Return the seconds since the task began, without those spent aside."""
        stopped = self._stopped
        return (time.monotonic() if stopped is None else stopped) - self._aside - self._began


def _between(marks: list[_Mark]) -> _Mark:
    """Return the difference between the last and the first mark."""
    first, last = marks[0], marks[-1]
    return _Mark(last.units - first.units, last.seconds - first.seconds, last.once - first.once)


def _deviation(marks: list[_Mark]) -> float:
    """Return the relative error of the pace, estimated from how much it varies between the marks."""
    whole, stretches = _between(marks), len(marks) - 1
    seconds = whole.seconds - whole.once
    if stretches < 2 or seconds <= 0:
        return _UNSURE / 2
    apart = [_between([before, after]) for before, after in pairwise(marks)]
    squares = sum((part.seconds - part.once - part.units * seconds / whole.units) ** 2 for part in apart)
    # Like Student's t: two stretches that happen to agree prove little.
    return 2 * (stretches + 1) / (stretches - 1) * (squares * stretches / (stretches - 1)) ** 0.5 / seconds
