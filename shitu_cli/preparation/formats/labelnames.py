"""Names of numbered classes from a file beside the labels, and labels that differ only by leading zeros."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.errors import ShituError
from shitu_cli.inputs import is_input, whole_number
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.formats.sheets import Labels
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

_ROUNDED = re.compile(r"\d(?:[.,]\d{1,14})?E\+\d{1,2}", re.I)
_FILES = ("label_map.txt", "classes.csv", "classes.txt", "class_names.txt", "label_list.txt", "labels.txt", "names.txt")


def class_names(source: Source, chosen: Sequence[Labels], labels: Sequence[str]) -> dict[str, str]:
    """Return number → name from a file of names beside the lists, {} if there is none that fits."""
    numbers = {label for label in set(labels) if whole_number(label, digits=9) is not None}
    if not numbers or numbers != set(labels) - {"-1"}:
        return {}
    used = {item.sheet.name for item in chosen}
    folders = dict.fromkeys([*(item.sheet.path.parent for item in chosen), source.base])
    for path in (folder / name for folder in folders for name in _FILES):
        if is_input(path) and path.name not in used:
            names = _names_in(path, sorted(map(int, numbers)))
            if names:
                return {label: names[int(label)] for label in numbers if int(label) in names}
    return {}


def _names_in(path: Path, numbers: list[int]) -> dict[int, str]:
    """Return the names of a file by number: lines `number name`, a table of name and ID, or lines from 0 or 1."""
    try:
        lines = [line.strip() for line in read_list_text(path, Problems()).splitlines()]
    except ShituError:
        return {}
    lines = [line for line in lines if line]
    if path.suffix == ".csv":
        return _from_table(lines)
    pairs = [line.partition("\t" if "\t" in line else " ") for line in lines]
    numbered = {number: name.strip() for digits, _, name in pairs if (number := whole_number(digits)) is not None}
    if pairs and len(numbered) == len(pairs) and all(numbered.values()):
        return _distinct(numbered)
    if numbers[0] == 0 and numbers[-1] < len(lines):
        return _distinct(dict(enumerate(lines)))
    return _distinct(dict(enumerate(lines, 1))) if numbers[0] == 1 and numbers[-1] == len(lines) else {}


def _from_table(lines: list[str]) -> dict[int, str]:
    try:
        table = [row for row in csv.reader(lines) if len(row) >= 2]
    except csv.Error:
        return {}
    if not table or "name" not in table[0][0].lower() or "id" not in table[0][1].lower():
        return {}
    numbered = ((whole_number(row[1].strip()), row[0].strip()) for row in table[1:])
    return _distinct({number: name for number, name in numbered if number is not None})


def _distinct(names: dict[int, str]) -> dict[int, str]:
    return names if len(set(names.values())) == len(names) else {}


def one_spelling(rows: Rows, problems: Problems) -> None:
    """Make 7 and 007 one class if both occur, because spreadsheets drop the zeros; report it.

    Report labels like 4.00557E+12 too, to which a spreadsheet has rounded a long number, and perhaps several.
    """
    spellings: dict[int, set[str]] = defaultdict(set)
    for label in sorted(set(rows.labels)):
        if _ROUNDED.fullmatch(label):
            problems.add("rounded-label", label)
        if (number := whole_number(label)) is not None:
            spellings[number].add(label)
    longest: dict[str, str] = {}
    for _, variants in sorted(spellings.items()):
        if len(variants) > 1:
            longest |= dict.fromkeys(variants, max(variants, key=len))
            detail = f"read as one class {max(variants, key=len)}"
            problems.add("leading-zeros", " and ".join(sorted(variants)), detail)
    if longest:
        rows.labels = [longest.get(label, label) for label in rows.labels]


def tidy_names(rows: Rows, problems: Problems) -> None:
    """Give every class a name of its own on one line, as the label map holds them; what is changed is reported.

    A cell of a spreadsheet may hold line breaks, and a table may call two numbers by one name.
    """
    broken = {label: " ".join(label.split()) for label in set(rows.labels) if _has_break(label)}
    for label, plain in sorted(broken.items()):
        problems.add("broken-name", repr(label), plain)
    if broken:
        rows.labels = [broken.get(label, label) for label in rows.labels]
    names = {
        broken.get(label, label): " ".join(name.split()) if _has_break(name) else name
        for label, name in rows.display.items()
        if name.strip()
    }
    numbers: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(rows.labels)):
        numbers[names.get(label, label)].append(label)
    for name, several in numbers.items():
        if len(several) > 1:
            problems.add("same-name", name, " and ".join(several))
            names |= {label: f"{name} ({label})" for label in several if label in names}
    rows.display = names


def _has_break(label: str) -> bool:
    return "\n" in label or "\r" in label
