"""Line charts as SVG, readable in print, in dark mode and without colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shitu_cli.report.page import escape

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 42
COLOURS = ("var(--first)", "var(--second)", "var(--third)", "var(--fourth)")
DASHES = ("", "7 4", "2 3", "10 3 2 3")  # lines differ in their dashes, not only in colour
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


def curve(series: Sequence[Series], x_name: str, y_name: str, *, y_top: float = 0.0, fill: bool = False) -> str:
    """Return an SVG of lines over common axes, "" without points; `series` are (name, x, y).

    The y axis begins at 0 or below and reaches at least `y_top`; `fill` shades the area below each line.
    """
    xs = [x for _, across, _ in series for x in across]
    ys = [y for _, _, up in series for y in up]
    if not xs:
        return ""
    across = axis(min(xs), max(xs), WIDTH - LEFT - RIGHT, round_out=False)
    up = axis(min(0.0, *ys), max(y_top, *ys), HEIGHT - TOP - BOTTOM, round_out=True)
    parts = [*_grid(across, up, x_name, y_name), *_legend([name for name, _, _ in series])]
    for number, (name, at_x, at_y) in enumerate(series):
        points = [(LEFT + across.at(x), HEIGHT - BOTTOM - up.at(y)) for x, y in zip(at_x, at_y, strict=True)]
        parts.append(_line(name, number, points, fill))
    label = f"{escape(y_name)} over {escape(x_name)}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


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


def _grid(across: Axis, up: Axis, x_name: str, y_name: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in up.ticks:
        y = bottom - up.at(value)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
    for value in across.ticks:
        x = LEFT + across.at(value)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="currentColor"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:,g}</text>')
    middle, centre = TOP + up.length / 2, LEFT + across.length / 2
    parts.append(f'<text class="axis" x="{centre}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>')
    rotation = f'x="13" y="{middle}" transform="rotate(-90 13 {middle})"'
    parts.append(f'<text class="axis" {rotation} text-anchor="middle">{escape(y_name)}</text>')
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    """Return a sample of each line with its name, above the plot."""
    parts, room = [], (WIDTH - LEFT - RIGHT) / len(names)
    for number, name in enumerate(names):
        x = LEFT + number * room
        parts.append(f'<line x1="{x:.0f}" x2="{x + 22:.0f}" y1="13" y2="13" {_stroke(number)}/>')
        parts.append(f'<text class="axis" x="{x + 28:.0f}" y="17">{escape(name)}</text>')
    return parts


def _line(name: str, number: int, points: Sequence[tuple[float, float]], fill: bool) -> str:
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{COLOURS[number % 4]}"/>'
    line = f'<polyline fill="none" {_stroke(number)} points="{at}"><title>{escape(name)}</title></polyline>'
    if not fill:
        return line
    base = HEIGHT - BOTTOM
    area = f"{points[0][0]:.1f},{base} {at} {points[-1][0]:.1f},{base}"
    return f'<polygon fill="{COLOURS[number % 4]}" fill-opacity=".12" points="{area}"/>' + line


def _stroke(number: int) -> str:
    return f'stroke="{COLOURS[number % 4]}" stroke-width="2" stroke-dasharray="{DASHES[number % 4]}"'
