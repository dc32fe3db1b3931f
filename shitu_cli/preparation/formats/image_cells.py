"""Cells of tables that name several images, or images where a class is expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from shitu_cli.errors import UsageError
from shitu_cli.preparation.formats.boxes import plain_name
from shitu_cli.preparation.formats.delimited import IMAGE_NAME, IMAGE_SUFFIX, MAX_LINE

IsImage = Callable[[str], bool]
# The end of an image's name before another one: its suffix, the query of an address, a quote.
_BETWEEN = re.compile(rf"(\.(?:{IMAGE_SUFFIX})(?:\?[^\s,;|]*)?[\"']?)[\s,;|]+", re.I)
_QUOTED = re.compile(r"""(["'])(.*?)\1""")
_SIGNS = re.compile(r"[\s,;|\[\](){}]+")
_MATCHES = re.compile(
    r"match|positive|similar|neighbou?r|relevant|same|duplicate|query|galler|retriev|truth|answer|result"
)
SAMPLE = 200  # cells


def refuse_several(values: Sequence[str], is_image: IsImage, place: str, name: str) -> None:
    """Refuse a column of images any cell of which names several."""
    are_here = any(map(is_image, values[:SAMPLE]))
    if several := next((value for value in values if _names_several(value, is_image, are_here=are_here)), None):
        raise UsageError(
            f"{place}: its column {name} names several images in one cell",
            details=[several[:200]],
            hint="write a row for each image, with the class in each of these rows",
        )


def _names_several(cell: str, is_image: IsImage, *, are_here: bool) -> bool:
    """Return whether a cell names several images, as those of a product: in one name may be blanks and suffixes too.

    Where images of other cells `are_here`, the parts of this one must be as well.
    """
    parts, start = list[str](), 0
    for match in _BETWEEN.finditer(cell[:MAX_LINE]):
        parts.append(cell[start : match.end(1)])
        start = match.end()
    parts.append(cell[start:])
    if len(parts) < 2 or not IMAGE_NAME.search(parts[-1]):
        return False
    if all("://" in part or is_image(part.strip("\"'")) for part in parts):
        return True
    # A folder may be called `scans.png export`: what follows is then further down.
    return not are_here and not is_image(cell) and len({part.count("/") for part in parts}) == 1


def refuse_matches(values: Sequence[str], is_image: IsImage, place: str, name: str) -> None:
    """Refuse a column of classes most cells of which name other images, as tables of queries and their matches do."""
    cells = [_words(value) for value in values[:SAMPLE]]
    # Several labels of an image may be numbers, and so may the names of images.
    only_numbers = all(word.isdecimal() for words in cells for word in words)
    if max(map(len, cells), default=0) < 2 or (only_numbers and not _MATCHES.search(plain_name(name))):
        return
    if 2 * sum(bool(words) and all(map(is_image, words)) for words in cells) > len(cells):
        raise UsageError(
            f"{place}: its column {name} names images that belong together, where each image needs a class",
            details=[f"{name} = {values[0][:200]!r}"],
            hint="write a row for each image, with a class that images of the same thing share; or, if the folders are "
            "the classes: --format class-tree",
        )


def _words(cell: str) -> list[str]:
    """Return the names in a cell: those in quotes, else what blanks and other signs separate."""
    quoted = [match[2] for match in _QUOTED.finditer(cell[:MAX_LINE])] if cell[:1] == "[" else []
    return quoted or [word for word in _SIGNS.split(cell[:MAX_LINE]) if word]
