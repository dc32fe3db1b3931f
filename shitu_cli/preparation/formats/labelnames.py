"""Names of numbered classes from a file beside the labels, and labels that differ only by leading zeros."""

from __future__ import annotations

import csv
import re
import unicodedata
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
from shitu_cli.reporting import counted

_EMPTY_WORDS = frozenset(("nan", "NaN", "NAN", "<NA>", "NaT", "None", "NULL", "null", "#N/A", "N/A"))
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


def report_empty_words(rows: Rows, problems: Problems) -> None:
    """Report labels that programs write where there is none: nan is rarely the name of a class."""
    for label in sorted(_EMPTY_WORDS & set(rows.labels)):
        problems.add("empty-word", label, counted(rows.labels.count(label), "image"))


def report_several_names(rows: Rows, problems: Problems) -> None:
    """Report labels that are several others together, as cells of tags hold them: each is a class of its own."""
    labels = set(rows.labels)
    for sign in ("|", ";", ",", " "):
        parts = {label: {part for piece in label.split(sign) if (part := piece.strip())} for label in labels}
        several = [label for label in sorted(labels) if len(parts[label]) > 1]
        # Tags are fewer than their combinations; names of two words are more.
        if len(set().union(*parts.values())) > len(labels) - (sign == " "):
            several = [label for label in several if parts[label] <= labels]
        for label in several:
            problems.add("several-names", label, f"a class of its own beside {' and '.join(sorted(parts[label]))}")
        if several:
            return


def tidy_names(rows: Rows, problems: Problems) -> None:
    """Give every class a name of its own on one line, as the label map holds them; what is changed is reported.

    A cell of a spreadsheet may hold line breaks, and a table may call two numbers by one name.
    """
    broken = {label: " ".join(label.split()) for label in set(rows.labels) if _has_break(label)}
    for label, plain in sorted(broken.items()):
        problems.add("broken-name", repr(label), plain)
    alike: dict[str, list[str]] = defaultdict(list)
    for label in set(rows.labels) - broken.keys():
        alike[unicodedata.normalize("NFC", label)].append(label)
    for whole, several in sorted(alike.items()):
        if len(several) > 1:
            problems.add("two-encodings", whole)
            broken |= dict.fromkeys(several, whole)
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
