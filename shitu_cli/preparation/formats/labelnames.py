"""Names of numbered classes from a file beside the labels, and labels that differ only by leading zeros."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.errors import ShituError
from shitu_cli.inputs import MIB, is_input, read_json, whole_number
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.delimited import IMAGE_NAME
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.formats.sheets import Labels
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted

_NO_LABELS = "nan NaN NAN <NA> NaT None NULL null undefined #N/A N/A #REF! #VALUE! #NAME? #DIV/0! ? - -- [] {}"
_EMPTY_WORDS = frozenset(_NO_LABELS.split())
# In any case; - and _ count as blanks.
_UNSORTED_TEXT = (
    "no label,unlabeled,unlabelled,(blank),unknown,unsorted,uncategorized,not labeled,to sort,background google,"
    "未知,未标注,无标签,未分类"
)
_UNSORTED = frozenset(_UNSORTED_TEXT.split(","))
# Bytes that are no UTF-8, the frames of CP437, and UTF-8 that was taken for Windows-1252: KÃ¤se.
_GARBLED = re.compile("[\udc80-\udcff\u2500-\u259f]|[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac")
_ROUNDED = re.compile(r"\d(?:[.,]\d{1,14})?E\+\d{1,2}", re.I)
MOST_JSON = 20  # files of a folder; more are those of images
_NAME_FILES = "label_map.txt classes.csv classes.txt class_names.txt label_list.txt labels.txt names.txt label.txt"
_FILES = tuple(_NAME_FILES.split())


def name_classes(rows: Rows, source: Source, chosen: Sequence[Labels]) -> None:
    """Name numbered classes by a file of names beside the lists, if there is one that fits; say which."""
    numbers = _numbers(rows.labels)
    if not numbers:
        return
    used = {item.sheet.name for item in chosen}
    folders = dict.fromkeys([*(item.sheet.path.parent for item in chosen), source.base])
    for path in (folder / name for folder in folders for name in _FILES):
        if is_input(path) and path.name not in used:
            names = _names_in(path, sorted(map(int, numbers)))
            if names:
                _name(rows, {label: names[int(label)] for label in numbers if int(label) in names}, path)
                return
            rows.unused[path.name] = "the names in it do not fit the numbers: give each its number, as in 3<TAB>apple"
    for folder in folders:
        _name_by_json(rows, folder)


def _name_by_json(rows: Rows, folder: Path) -> None:
    """Name numbered classes by a JSON file of a folder that holds nothing but their numbers and names."""
    numbers = _numbers(rows.labels)
    files = sorted(folder.glob("*.json")) if numbers and not rows.display else []
    for path in files if len(files) <= MOST_JSON else ():
        try:
            value = read_json(path, limit=MIB)
        except ShituError:
            continue
        if not isinstance(value, dict) or not all(isinstance(item, (str, int)) for item in value.values()):
            continue
        for pairs in (value.items(), [(number, name) for name, number in value.items()]):
            names = {whole_number(str(number)): str(name) for number, name in pairs}
            known = {number: name for number, name in names.items() if number is not None}
            words = all(whole_number(name) is None for name in names.values())
            if words and len(_distinct(known)) == len(value) and all(int(label) in known for label in numbers):
                _name(rows, {label: known[int(label)] for label in numbers}, path)
                return


def _name(rows: Rows, names: dict[str, str], path: Path) -> None:
    rows.unused.pop(path.name, None)
    rows.display |= names
    rows.readings.append(f"{path.name}: names of {counted(len(names), 'class', 'classes')}")


def _numbers(labels: Sequence[str]) -> set[str]:
    """Return the different labels but -1, if all of them are numbers."""
    different = set(labels) - {"-1"}
    return different if all(whole_number(label, digits=9) is not None for label in different) else set()


def _names_in(path: Path, numbers: list[int]) -> dict[int, str]:
    """Return the names of a file by number: lines `number name`, a table of name and ID, or lines from 0 or 1."""
    try:
        lines = [line.strip() for line in read_list_text(path, Problems()).splitlines()]
    except ShituError:
        return {}
    lines = [line for line in lines if line]
    if path.suffix == ".csv":
        return _from_table(lines)
    if any(IMAGE_NAME.search(line) for line in lines):
        return {}  # a list
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
    header = [cell.lower() for cell in table[0][:2]] if table else []
    name = next((n for n, cell in enumerate(header) if "name" in cell), None)
    if name is None or "id" not in header[1 - name]:
        return {}
    numbered = ((whole_number(row[1 - name].strip()), row[name].strip()) for row in table[1:])
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
    """Report labels that programs and people write where there is none: nan is rarely the name of a class."""
    for label in sorted(set(rows.labels)):
        name = rows.shown(label)
        if name in _EMPTY_WORDS or " ".join(re.split(r"[-_\s]+", name.casefold())).strip() in _UNSORTED:
            problems.add("empty-word", name, counted(rows.labels.count(label), "image"))


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
    for name in sorted({rows.shown(label) for label in set(rows.labels)}):
        if _GARBLED.search(name):
            problems.add("garbled-name", name)
    broken = {label: " ".join(label.split()) for label in set(rows.labels) if _has_break(label)}
    for label, plain in sorted(broken.items()):
        problems.add("broken-name", repr(label), plain)
    alike: dict[str, list[str]] = defaultdict(list)
    for label in set(rows.labels) - broken.keys():
        alike[unicodedata.normalize("NFC", label)].append(label)
    for whole, several in sorted(alike.items()):
        if len(several) > 1:
            problems.add("similar-labels", whole, "letters encoded in two ways: read as one class")
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
