"""Line charts as SVG, readable in print, in dark mode and without colours.

The pages contain no chart library: those that a Python package brings offline (Bokeh, Plotly) add a megabyte or more to
each page, set styles that the policy of the pages refuses, and draw nothing without scripts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shitu_cli.report.page import render

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 58, WIDTH - 14, 30, HEIGHT - 42  # of the plot
COLOURS = ("var(--first)", "var(--second)", "var(--third)", "var(--fourth)")
DASHES = ("", "7 4", "2 3", "10 3 2 3")
MOST_TICKS = 6

Series = tuple[str, Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` over `length` pixels, marked at `ticks`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    length: float

    def at(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low) * self.length


def curve(series: Sequence[Series], x_name: str, y_name: str, *, y_top: float = 0.0, fill: bool = False) -> Markup:
    """Return an SVG of lines over common axes, "" without points; `series` are (name, x, y).

    The y axis begins at 0 or below and reaches at least `y_top`; `fill` shades the area below each line.
    """
    xs = [x for _, across, _ in series for x in across]
    ys = [y for _, _, up in series for y in up]
    if not xs:
        return Markup("")
    across = axis(min(xs), max(xs), RIGHT - LEFT, round_out=False)
    up = axis(min(0.0, *ys), max(y_top, *ys), BOTTOM - TOP, round_out=True)
    lines = []
    for number, (name, at_x, at_y) in enumerate(series):
        points = [(_x(across, x), _y(up, y)) for x, y in zip(at_x, at_y, strict=True)]
        lines.append(
            {
                "name": name,
                "points": points,
                "path": " ".join(f"{x},{y}" for x, y in points),
                "colour": COLOURS[number % len(COLOURS)],
                "dashes": DASHES[number % len(DASHES)],
                "legend": round(LEFT + number * (RIGHT - LEFT) / len(series)),
            }
        )
    place = {"left": LEFT, "right": RIGHT, "bottom": BOTTOM}
    values = {
        "width": WIDTH,
        "height": HEIGHT,
        "at": {**place, "centre": (LEFT + RIGHT) / 2, "middle": (TOP + BOTTOM) / 2},
        "x_name": x_name,
        "y_name": y_name,
        "across": [(_x(across, value), f"{value:,g}") for value in across.ticks],
        "up": [(_y(up, value), f"{value:,g}") for value in up.ticks],
        "lines": [line for line in lines if line["points"]],
        "fill": fill,
    }
    return render("chart.svg", values)


def _x(across: Axis, value: float) -> float:
    return round(LEFT + across.at(value), 1)


def _y(up: Axis, value: float) -> float:
    return round(BOTTOM - up.at(value), 1)


def axis(low: float, high: float, length: float, *, round_out: bool) -> Axis:
    """Return an axis with at most MOST_TICKS round ticks; `round_out` extends it to round numbers at both ends."""
    if not high > low:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if round_out:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, tuple(round(n * step, 12) for n in range(first, last + 1)), length)
