"""Lists of strangers: those that a command trains on or evaluates, and those that `prepare` reads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shitu_cli.data.images import crop
from shitu_cli.data.lists import class_names, read_list, write_list
from shitu_cli.errors import DataError, ShituError
from shitu_cli.preparation.checks import check_lines
from shitu_cli.preparation.formats import find_format
from shitu_cli.preparation.formats.base import Format
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.table import TABLE, TEXT_LIST
from shitu_cli.preparation.problems import Problems
from tests.inputs.strangers import BLANKS, Kind, file


def _read_list(path: Path) -> None:
    """What a command does with a list: find the images, cut boxes out, write the list again."""
    images = read_list(path)
    for n in range(min(len(images), 50)):
        assert images.location(n, "/root") and images.place(n)
        if (box := images.box(n)) is not None:
            with contextlib.suppress(DataError):
                crop(np.zeros((8, 8, 3), np.uint8), box)
    copy = path.with_name("copy.txt")
    write_list(copy, images)
    assert read_list(copy).labels.tolist() == images.labels.tolist()


LIST = Kind(
    file("train_list.txt", "a b.jpg\t0\t7\t1,2,3.5,4\n红.jpg\t1\t8\nc.jpg\t-1\n".encode()),
    _read_list,
    {
        "an infinite box": b"a.jpg\t0\t-\t0,0,inf,inf",
        "a box of no numbers": b"a.jpg\t0\t-\tnan,nan,nan,nan",
        "a box beyond what floats hold": b"a.jpg\t0\t-\t0,0,1e39,1e39",
        "a box of 100,000 sides": b"a.jpg\t0\t-\t" + b"1," * 100_000,
        "a label of 19 digits": b"a.jpg\t9999999999999999999",
        "five columns": b"a.jpg\t1\t2\t1,2,3,4\t5",
        "no path": b"\t1",
        "blanks alone": BLANKS,
        "blanks before a label": b"a.jpg" + BLANKS + b"1",
        "blanks before a word": b"a.jpg" + BLANKS + b"x",
        "a path with a NUL": b"\0.jpg\t0",
        "a carriage return in a path": b"a\rb.jpg\t0",
    },
    frozenset({"no bytes", "blanks alone", "blanks before a label", "a path with a NUL"}),
    cases=500,
)
LABEL_MAP = Kind(
    file("label_map.txt", "0\tred apple\n1\t红\n2\tpear\n".encode()),
    lambda path: class_names(path.with_name("train_list.txt")),
    {
        "two names of a label": b"0\ta\n0\tb",
        "a name twice": b"0\ta\n1\ta",
        "no name": b"0",
        "a label of 19 digits": b"9999999999999999999\ta",
        "a label of letters": b"x\ta",
        "a name that commands terminals": b"\x1b[2J\x1b]0;x\x07 a",
        "100,000 bad lines": b"x\n" * 100_000,
        "blanks after a label": b"0" + BLANKS + b"x",
        "a name without end": b"0\t" + b"a" * 1_000_000,
    },
    # What is no regular file counts as none; and class names are any text, which is shown harmless.
    frozenset({"pipe", "endless device", "looped link", "folder", "no bytes", "blanks after a label",
               "a name without end"}),
    cases=500,
)  # fmt: skip


def _prepared_by(reader: Format) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        with contextlib.suppress(ShituError):
            find_format(Source(path.parent))
        rows = check_lines(reader.read(Source(path), problems := Problems()), problems)
        assert all(isinstance(label, str) for label in rows.labels)
        if not len(rows):
            raise DataError("all its lines are reported")

    return read


SOURCES = {
    "blanks alone": BLANKS,
    "blanks before a label": b"a.jpg" + BLANKS + b"1\n" * 3,
    "a word and blanks": b"word" + BLANKS + b"x\n" * 3,
    "blanks in quotes": b'image,label\n"a.jpg' + BLANKS + b'",1\n',
    "separators alone": b"image,label\n" + b"," * 200_000,
    "a path out of the folder": b"image,label\n" + b"../" * 5000 + b"etc/passwd.jpg,1\n",
    "a path of the system": b"/etc/passwd.jpg 1\n/etc/shadow.jpg 2\n",
    "a separator of its own": b"sep=\x1b\nimage\x1blabel\na.jpg\x1b1\n",
    "a box of infinity": b'image,label,bbox\na.jpg,1,"[0,0,inf,1e999]"\n',
}
# A line of any text can be the path of an image, which `prepare` then reports as missing.
TEXT = Kind(
    file("train_list.txt", b"img/a 0.jpg 0\nimg/b.jpg 1\nimg/c.jpg 1\n"),
    _prepared_by(TEXT_LIST),
    SOURCES,
    frozenset({"other digits", "numbers without end", "an infinite class", "images that are none", "deep",
               "a cell without end", "one long line", "blanks before a label", "a word and blanks", "separators alone",
               "a path of the system"}),
)  # fmt: skip
SHEET = Kind(
    file("t.csv", b'image,label,bbox\nimg/a.jpg,x,"[1,2,3,4]"\nimg/b.jpg,y,\n'),
    _prepared_by(TABLE),
    SOURCES,
    frozenset({"blanks in quotes", "a path out of the folder", "a separator of its own"}),
)
