"""What progress lines and dry runs foretell, by a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.pace import Left, Pace
from tests.mutations import cases


class Clock:
    """A clock that is set by hand, and the pace of a task of `total` units by it."""

    def __init__(self, patch: pytest.MonkeyPatch, total: int) -> None:
        self.now = 0.0
        patch.setattr("shitu_cli.pace.time.monotonic", lambda: self.now)
        self.pace = Pace(total)

    def work(self, units: int, seconds: float, step: int = 1) -> None:
        """Do so many units, in steps of several, each step in so many seconds."""
        for _ in range(0, units, step):
            self.now += seconds
            self.pace.advance(step)

    def left(self) -> float:
        """Return the middle of what is foretold, which is sure."""
        left = self.pace.left()
        assert left is not None and left.is_sure, left
        return left.middle


def test_the_time_left_does_not_count_what_is_spent_before_the_first_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 s of loading, a few slow images, then one a second: after 1 % of 2,000 images 1,980 s are left, not 6,900."""
    clock = Clock(monkeypatch, 2000)
    clock.now = 50.0
    assert clock.pace.rate() is None and clock.pace.left() is None
    clock.work(1, 1.0)
    assert clock.pace.left() is None, "the first one took the loading too"
    clock.work(3, 3.0)
    assert clock.pace.left() is None, "these may be slower than the others"
    clock.work(16, 1.0)
    assert clock.left() == pytest.approx(1980)
    assert clock.pace.rate() == pytest.approx(1.0) and clock.pace.per_unit() == pytest.approx(1.0)


def test_what_is_done_between_units_is_expected_not_taken_for_their_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 epochs of 100 s, an evaluation of 30 s after each."""
    clock = Clock(monkeypatch, 1000)
    clock.pace.expected = 300.0
    clock.work(10, 1.0)
    assert clock.left() == pytest.approx(990 + 300)
    clock.work(90, 1.0)
    for epoch in range(1, 10):
        before = clock.left()
        with clock.pace.aside():
            clock.now += 30.0
            assert clock.pace.rate() == pytest.approx(1.0), "also while a live line is drawn during the evaluation"
            assert clock.left() == pytest.approx(before - 30.0)
        clock.pace.expected = 300.0 - 30.0 * epoch
        assert clock.left() == pytest.approx(130.0 * (10 - epoch))
        clock.work(100, 1.0)
    assert clock.left() == 30.0


def test_what_is_done_once_is_not_expected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 epochs of 40 steps of a second; in the first one, decoding what then stays in memory takes another half."""
    clock, end = Clock(monkeypatch, 16 * 40), 16 * 40 + 20.0
    for step in range(1, 16 * 40 + 1):
        decoded = min(step, 40)
        clock.now += 1.5 if step <= 40 else 1.0
        clock.pace.once(0.5 * decoded, 0.5 * (40 - decoded))
        clock.pace.advance()
        if step >= 10:
            assert clock.left() == pytest.approx(end - clock.now)
    assert clock.pace.whole() == pytest.approx(end)


@pytest.mark.parametrize("seed", range(5))
def test_steps_that_vary_are_foretold_within_the_range_that_is_said(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take up to four times as long as others: the range holds the end, and narrows."""
    durations = np.random.default_rng(seed).uniform(0.5, 2.0, 1000)
    clock = Clock(monkeypatch, len(durations))
    widths, right = [], 0
    for duration in durations[:500]:
        clock.work(1, float(duration))
        left = clock.pace.left()
        if left is not None:
            right += left.least <= durations.sum() - clock.now <= left.most
            widths.append((left.most - left.least) / left.middle)
    assert len(widths) > 450 and right > 0.7 * len(widths)
    assert widths[0] > 0.2 > widths[-1] and np.mean(widths[:100]) > np.mean(widths[-100:])


def test_what_may_be_far_off_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds, then minutes: nobody knows what comes next."""
    clock = Clock(monkeypatch, 1000)
    clock.work(7, 1.0)
    clock.work(3, 100.0)
    assert clock.pace.left() is None and clock.pace.margin > 0.5
    clock.work(90, 100.0)
    assert clock.left() == pytest.approx(90_000, rel=0.1)


def test_few_long_units_are_foretold_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five times two minutes: after the second one, the end is known roughly, then better."""
    clock = Clock(monkeypatch, 5)
    clock.work(1, 120.0)
    assert clock.pace.left() is None
    clock.work(1, 120.0)
    left = clock.pace.left()
    assert left is not None and not left.is_sure and left.middle == pytest.approx(360.0)
    clock.work(1, 120.0)
    assert clock.left() == pytest.approx(240.0)


def test_the_time_left_passes_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes for ever does not bring the end nearer."""
    clock = Clock(monkeypatch, 100 * 32)
    clock.work(50 * 32, 10.0, step=32)
    assert clock.left() == pytest.approx(500.0)
    clock.now += 4.0
    assert clock.left() == pytest.approx(496.0)
    clock.now += 1000.0
    assert clock.left() == pytest.approx(490.0)


@cases(300)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.001, 100)), min_size=2, max_size=60))
def test_the_time_left_lies_between_those_of_the_fastest_and_the_slowest_pace(steps: list[tuple[int, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch, sum(units for units, _ in steps) + 100)
        for units, seconds in steps:
            clock.work(units, seconds, step=units)
        paces = [units / seconds for units, seconds in steps[1:]]
        left = clock.pace.left()
    assert left is None or 0.999 * 100 / max(paces) <= left.middle <= 1.001 * 100 / min(paces)
    assert left is None or 0 <= left.least <= left.most


def test_a_measurement_ends_when_it_knows_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 10_000)

    def steps(seconds: float, count: int = 1000) -> Iterator[int]:
        for _ in range(count):
            clock.now += seconds
            yield 10

    assert clock.pace.measure(steps(1.0), 20.0).done == 200
    assert clock.pace.whole() == pytest.approx(1000.0)
    assert Pace(10_000).measure(steps(1.0), 1.0).done == 30, (
        "the pace cannot be told, but it has been tried long enough"
    )
    few = Pace(40).measure(steps(1.0, count=4), 20.0)
    assert (few.whole(), few.margin) == (pytest.approx(4.0), 0.0), "all of it was measured"
    assert Pace(20).measure(steps(1.0, count=4), 20.0).whole() == pytest.approx(2.0), "the half of what was measured"
    assert Pace(0).measure([], 20.0).whole() == 0.0


def test_a_range_around_seconds() -> None:
    assert Left.within(100.0, 0.05).is_sure and not Left.within(100.0, 0.2).is_sure
    assert Left.within(100.0, 3.0) == Left(0.0, 400.0)
