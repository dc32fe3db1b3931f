"""Axes with round numbers, and charts that show what they are given."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.report.chart import MOST_TICKS, axis, curve

numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))


@given(numbers, numbers, st.booleans())
def test_ticks_are_few_even_and_inside(a: float, b: float, round_out: bool) -> None:
    low, high = min(a, b), max(a, b)
    made = axis(low, high, 100.0, round_out=round_out)
    room = (made.high - made.low) * 1e-6
    assert made.low <= low + room and made.high >= high - room
    assert 1 <= len(made.ticks) <= MOST_TICKS + 1
    assert all(made.low - room <= tick <= made.high + room for tick in made.ticks)
    gaps = {round((d - c) / (made.high - made.low), 6) for c, d in zip(made.ticks, made.ticks[1:], strict=False)}
    assert len(gaps) <= 1
    assert made.at(made.low) == 0.0 and made.at(made.high) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0, 0.058, (0, 0.02, 0.04, 0.06)),
        (3, 3, (2.4, 2.6, 2.8, 3, 3.2, 3.4, 3.6)),
        (0, 0, (0, 0.2, 0.4, 0.6, 0.8, 1)),
    ],
)
def test_round_numbers(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert axis(low, high, 1.0, round_out=True).ticks == ticks


def test_a_chart_is_xml_with_a_line_per_series_and_escaped_names() -> None:
    chart = ElementTree.fromstring(curve([("a<b>&", [1, 2, 3], [0.1, 0.5, 0.4]), ("c", [2], [0.3])], "x & y", '"z"'))
    lines = [part.get("points", "").split() for part in chart.iter("polyline")]
    assert [len(points) for points in lines] == [3]
    assert len(list(chart.iter("circle"))) == 1  # one point makes no line
    assert {"a<b>&", "c", "x & y", '"z"'} <= {part.text for part in chart.iter("text")}
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights[1] < heights[2] < heights[0]  # upwards is less in SVG


def test_nothing_to_draw() -> None:
    assert curve([("a", [], [])], "x", "y") == ""
