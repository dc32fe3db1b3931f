"""Say why a text file that was looked into gives no labels, and how it can."""

from __future__ import annotations

from shitu_cli.errors import Command, DataError, ShituError, UsageError
from shitu_cli.preparation.formats.columns import Columns
from shitu_cli.preparation.formats.delimited import Sheet
from shitu_cli.preparation.formats.records import SUFFIXES as RECORD_SUFFIXES
from shitu_cli.preparation.formats.sample import Sample


def why_unread(sheet: Sheet) -> str:
    """Return why a file beside images is not read as their labels."""
    if sheet.path.suffix.lower() in RECORD_SUFFIXES:
        return "names images, but no label beside them that is known here: write [{image: a.jpg, label: cat}, ...]"
    if len(sheet.header or ()) > 1:
        return "names images, but none of its columns is a class by its name: --columns image=...,label=... takes one"
    return "names images, but no labels"


def no_columns(sheet: Sheet, columns: Columns | None) -> ShituError:
    """Return the error of a file that the user has named, but whose `columns` have no label."""
    if sheet.header is not None:
        return UsageError(
            f"{sheet.path}: which columns hold image and label? there are {', '.join(sheet.header)}",
            hint="--columns image=...,label=...",
        )
    several, second = columns is not None and len(columns.names) > 1, ""
    if several and Sample([row for _, row in sheet.sample()], 2).begins_with_images(1):
        second = ", also for each of several images that a line names now"
    elif several:
        second = "; or --columns image=1,label=2 if the second column is the class"
    return DataError(
        f"{sheet.path}: no line in it is `path label`",
        hint=[f"write path<TAB>label on each line{second}; ", Command("prepare", "--formats"), " lists other layouts"],
    )
