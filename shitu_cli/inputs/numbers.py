"""Read numbers that others wrote: in text whole ones of digits 0 to 9, as many as fit into 64 bits, and boxes."""

from __future__ import annotations

from typing import Any

MAX_DIGITS = 18
MAX_SIDE = 1e9  # of a box, in pixels; `int` refuses infinity, and float32 holds no more than 3e38


def whole_number(text: str, *, digits: int = MAX_DIGITS, signed: bool = False) -> int | None:
    """Return the number that `text` spells, if `signed` also a negative one; None for any other text.

    `str.isdigit` accepts characters that `int` refuses (1²), and `int` refuses thousands of digits.
    """
    plain = text.removeprefix("-") if signed else text
    return int(text) if plain.isascii() and plain.isdigit() and len(plain) <= digits else None


def is_whole(value: Any, low: int, high: int | None = None) -> bool:
    """Return whether a value of JSON is a whole number from `low` to `high`; `true` and 1.0 are none."""
    return type(value) is int and low <= value and (high is None or value <= high)


def is_real(value: Any, low: float, high: float) -> bool:
    """Return whether a value of JSON is a number from `low` to `high`, which are finite; `true` and NaN are none."""
    return type(value) in (int, float) and low <= value <= high


def box_of(text: str) -> tuple[float, float, float, float] | None:
    """Return the sides x1,y1,x2,y2 of a box in pixels, each of less than a billion; None for any other text."""
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        return None
    return (x1, y1, x2, y2) if all(abs(side) < MAX_SIDE for side in (x1, y1, x2, y2)) else None
