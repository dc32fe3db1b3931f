"""Read whole numbers in text that others wrote: digits 0 to 9, at most as many as fit into 64 bits."""

from __future__ import annotations

MAX_DIGITS = 18


def whole_number(text: str, *, digits: int = MAX_DIGITS, signed: bool = False) -> int | None:
    """Return the number that `text` spells, if `signed` also a negative one; None for any other text.

    `str.isdigit` accepts characters that `int` refuses (1²), and `int` refuses thousands of digits.
    """
    plain = text.removeprefix("-") if signed else text
    return int(text) if plain.isascii() and plain.isdigit() and len(plain) <= digits else None
