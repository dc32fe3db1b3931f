"""Sampled rows of a table, and what the values of its columns look like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shitu_cli.preparation.formats.base import whole_label
from shitu_cli.preparation.formats.source import names_image

_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].{0,30})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .{0,20})?")
_NUMBER = re.compile(r"[+-]?(\d{1,20}([.,]\d{0,20})?|[.,]\d{1,20})([eE][+-]?\d{1,3})?")
_NUMBER_IN = re.compile(r"(?<![^\s,;])-?\d{1,9}(?:\.\d{0,9})?(?![^\s,;])")
_CHECKSUM = re.compile(r"[0-9a-fA-F]{32,128}")
MOSTLY_UNIQUE = 0.8  # share of different values from which a column is not a label
LONG_TEXT = 60  # characters on average from which it is a description


class Sample:
    """Sampled rows of a table, which answer questions about its columns."""

    def __init__(self, rows: Sequence[Sequence[str]], width: int) -> None:
        self.rows = rows
        self.columns = [[row[n] for row in rows] for n in range(width)]

    def values(self, column: int) -> list[str]:
        """Return the values of a column that are not empty."""
        return [value for value in self.columns[column] if value]

    def follows(self, column: int, other: int) -> bool:
        """Return whether the value of `other` decides that of `column`."""
        seen: dict[str, str] = {}
        pairs = zip(self.columns[column], self.columns[other], strict=True)
        return all(seen.setdefault(b, a) == a for a, b in pairs if a or b)

    def same(self, column: int, other: int) -> bool:
        """Return whether two columns hold the same classes under different names."""
        return self.follows(column, other) and self.follows(other, column)

    def numeric(self, column: int) -> bool:
        """Return whether all values are numbers."""
        return bool(self.values(column)) and all(_NUMBER.fullmatch(value) for value in self.values(column))

    def fractions(self, column: int) -> bool:
        """Return whether they are numbers, some of which are not whole."""
        return self.numeric(column) and any(not whole_label(v).lstrip("+-").isdigit() for v in self.values(column))

    def images(self, column: int) -> bool:
        """Return whether most values look like names of images."""
        values = self.values(column)[:200]
        return sum(names_image(value) for value in values) * 2 > len(values)

    def begins_with_images(self, column: int) -> bool:
        """Return whether most values are names of images, or words the first of which is one."""
        values = self.values(column)[:200]
        return self.images(column) or sum(names_image(value.partition(" ")[0]) for value in values) * 2 > len(values)

    def lists(self, column: int) -> bool:
        """Return whether most cells hold four numbers or more, such as boxes with their labels or runs of pixels."""
        values = self.values(column)
        return sum(len(_NUMBER_IN.findall(value)) >= 4 for value in values) * 2 > len(values)

    def annotations(self, column: int) -> bool:
        """Return whether most cells are boxes with their labels, or JSON; several zeros and ones are labels."""
        values = self.values(column)
        objects = sum(value.startswith(("[{", "{")) for value in values)
        return objects * 2 > len(values) or (self.lists(column) and not set("".join(values)) <= set("01 ,;"))

    def bits(self, column: int) -> bool:
        """Return whether there is nothing but zeros and ones."""
        return {value.lower() for value in self.values(column)} <= {"0", "1", "0.0", "1.0", "false", "true"}

    def checksums(self, column: int) -> bool:
        """Return whether all values are different checksums, such as those of md5sum."""
        values = self.values(column)
        return len(set(values)) == len(values) > 1 and all(map(_CHECKSUM.fullmatch, values))

    def could_be_only_label(self, column: int) -> bool:
        """Return whether the only column beside the image may hold classes, such as one image of each."""
        values = self.values(column)
        is_measure = self.fractions(column) and len(set(values)) > MOSTLY_UNIQUE * len(values)
        return len(set(values)) > 1 and not is_measure and not self.annotations(column) and not self.checksums(column)

    def could_be_label(self, column: int) -> bool:
        """Return whether its values are like classes: several, repeated, no measures, dates or long texts."""
        values = self.values(column)
        different = len(set(values))
        if len(values) * 2 < len(self.rows) or different < 2:
            return False
        if different > MOSTLY_UNIQUE * len(values) and len(values) >= 5:
            return False
        if self.fractions(column) or self.lists(column) or sum(map(len, values)) > LONG_TEXT * len(values):
            return False
        if any("\n" in value for value in values) or all(value[:1] in "[{(" for value in values):
            return False
        return not all(_DATE.fullmatch(value) for value in values)
