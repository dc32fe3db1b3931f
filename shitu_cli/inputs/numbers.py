"""Whole numbers in the text of others: the digits 0 to 9, and no more of them than 64 bits hold."""

from __future__ import annotations

MAX_DIGITS = 18


def whole_number(text: str, *, digits: int = MAX_DIGITS, signed: bool = False) -> int | None:
    """Return the number that `text` spells, with a minus only where it is `signed`; None for anything else.

    `str.isdigit` lets signs through that `int` refuses (1²), and `int` refuses thousands of digits.
    """
    plain = text.removeprefix("-") if signed else text
    return int(text) if plain.isascii() and plain.isdigit() and len(plain) <= digits else None
