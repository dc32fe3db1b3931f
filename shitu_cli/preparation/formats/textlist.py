"""Lists without a header: `path label`, `path label id`, `path, fine, coarse`."""

from __future__ import annotations

import csv
import os
import re
import shlex
from collections import Counter
from pathlib import Path

from shitu_cli.data.images import IMAGE_SUFFIXES
from shitu_cli.preparation.formats.base import TABLE, Box, Format, Rows, lines_of, read_text, whole_label
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

# A path ends with a picture's suffix, so that blanks and commas inside paths do no harm.
_SUFFIXES = "|".join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES, reverse=True))
_LINE = re.compile(rf'\s*"?(?P<path>.+?\.(?:{_SUFFIXES}))"?(?P<sep>[ \t]*[,;|\t ][ \t]*)(?P<rest>.*)', re.I | re.S)
_ROLES = (
    ("query", re.compile(r"query", re.I)),
    ("gallery", re.compile(r"gallery|index", re.I)),
    ("train", re.compile(r"train", re.I)),
    ("val", re.compile(r"(?:^|[_\-.])(?:val|valid|validation|eval)", re.I)),
    ("test", re.compile(r"test", re.I)),
)
_NO_DATA = re.compile(r"readme|licen[cs]e|requirements|note", re.I)
_NO_LIST = re.compile(r"label|class|readme|licen[cs]e|requirements|map|note", re.I)
_HEADING = re.compile(r"[^\W\d]+(?:[ \t]*[,;|\t ][ \t]*[^\W\d]+)+")  # words, in columns as the lines below
_PICTURE = re.compile(rf"\.(?:{_SUFFIXES})\b", re.I)
_TEXTS = (".txt", ".csv", ".tsv", ".lst")
PROBED_LINES = 20


def list_files(root: Path) -> dict[Path, str]:
    """The lists of a folder (or of its `lists`, `meta`, ... folder) with their roles; {} when there are none."""
    if root.is_file():
        return {root: role_of(root) or "train"}
    for folder in (root, root / "lists", root / "annotations", root / "meta"):
        found = {}
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            role = role_of(path)
            if path.suffix.lower() in _TEXTS and path.is_file() and role:
                found[path] = role
        if "train" in found.values() or {"query", "gallery"} <= set(found.values()):
            return found
    return {}


def unread_lists(root: Path) -> dict[Path, str]:
    """Text files that seem to list pictures although the folder is not read by lists, with what speaks against it."""
    found = dict.fromkeys(list_files(root), "no line in it is `path label`")
    for path in sorted(root.glob("*")):
        if path in found or path.suffix.lower() not in _TEXTS or not path.is_file() or _NO_DATA.search(path.stem):
            continue
        lines = _head(path).splitlines()[:PROBED_LINES]
        if sum(bool(_PICTURE.search(line)) for line in lines) * 2 > len(lines):
            found[path] = f"name it to read it: shitu prepare {shlex.quote(str(path))}"
    return found


def role_of(path: Path) -> str | None:
    """train, val, test, query or gallery, as the file's name says; None for other text files."""
    if _NO_LIST.search(path.stem) and not path.stem.lower().endswith("list"):
        return None
    return next((role for role, pattern in _ROLES if pattern.search(path.stem)), None)


def _detect(source: Source) -> bool:
    root = source.path
    return any(_looks_like_list(path) for path in list_files(root))


def _looks_like_list(path: Path) -> bool:
    return any(_LINE.match(line) for line in _head(path).splitlines()[:PROBED_LINES])


def _head(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(8192)
    return head.decode("utf-8-sig", "replace") if head[:1] != b"\xff" else head.decode("utf-16", "replace")


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    files = list_files(root)
    base = root.parent if root.is_file() else root
    texts = {path: read_text(path, problems) for path in files}
    rows = Rows(source.options.image_root or _image_root(base, texts))
    rows.display = _class_names(base)
    for path, role in files.items():
        _read_list(path, texts.pop(path), role, rows, problems)
    if source.options.image_root is None:
        _settle(rows)
    _odd_labels(rows, problems)
    return rows


def _settle(rows: Rows) -> None:
    """Paths that all lead out of the root, being absolute or from where the list lies, count from what they share."""
    if not rows.paths or not all(path.startswith(("/", "../")) or os.path.isabs(path) for path in rows.paths):
        return
    whole = [os.path.normpath(os.path.join(os.path.abspath(rows.root), path)) for path in rows.paths]
    shared = os.path.commonpath({os.path.dirname(path) for path in whole})
    rows.root = Path(shared)
    rows.paths = [os.path.relpath(path, shared).replace(os.sep, "/") for path in whole]


def _read_list(path: Path, text: str, split: str, rows: Rows, problems: Problems) -> None:
    name, separators = str(path), Counter[str]()
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None:
            heading = line.lstrip().startswith("#") or (not separators and _HEADING.fullmatch(line.strip()))
            problems.add("heading" if heading else "malformed", f"{name}:{number}", _why(line, bool(heading)))
            continue
        separator = match["sep"].strip() or ("\t" if "\t" in match["sep"] else " ")
        separators[separator] += 1
        rest = match["rest"].strip().strip('"')
        # A space separates numbers, other separators leave blanks inside names of classes.
        columns = [part.strip() for part in (rest.split() if separator == " " else rest.split(separator))]
        if not columns or not columns[0]:
            problems.add("malformed", f"{name}:{number}", f"the label is missing: {line.strip()[:80]!r}")
            continue
        if separator == " " and len(columns) > 1 and not all(_is_number(part) for part in columns):
            columns = [rest]
        # With commas the third column is a coarser label (path, fine, coarse), else PaddleClas's id.
        third = columns[1] if len(columns) > 1 and separator != "," and columns[1] != "-" else None
        box = parse_box(columns[2]) if len(columns) == 3 and separator == "\t" else None
        rows.add(_clean(match["path"]), whole_label(columns[0]), split, id=third, box=box, file=name, line=number)
    if len(separators) > 1:
        shown = ", ".join(f"{count} lines with {_word(sep)}" for sep, count in separators.most_common())
        problems.add("mixed-separators", name, shown)


def parse_box(text: str) -> Box | None:
    """x1,y1,x2,y2 as this program's lists have it; None for anything else."""
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        return None
    return x1, y1, x2, y2


def _why(line: str, heading: bool) -> str:
    shown = line.strip()[:80]
    if heading:
        return repr(shown)
    if re.search(rf"\.(?:{_SUFFIXES})\W*$", shown, re.I):
        return f"the label is missing: {shown!r}"
    return f"no path of a picture ({', '.join(sorted(IMAGE_SUFFIXES))}): {shown!r}"


def _clean(path: str) -> str:
    return path.strip('\ufeff" \t\r').replace("\\", "/").removeprefix("./")


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def _word(separator: str) -> str:
    return {" ": "blanks", "\t": "tabs", ",": "commas"}.get(separator, separator)


def _odd_labels(rows: Rows, problems: Problems) -> None:
    """Names among numbers are slips of the pen, as long as they are few."""
    odd = [number for number, label in enumerate(rows.labels) if not _is_number(label)]
    if not 0 < len(odd) <= 0.05 * len(rows):
        return
    for number in odd:
        problems.add("odd-label", rows.where(number), f"label {rows.labels[number]!r}")
    dropped = set(odd)
    kept = rows.take([number for number in range(len(rows)) if number not in dropped])
    rows.__dict__.update(kept.__dict__)


def _image_root(base: Path, texts: dict[Path, str]) -> Path:
    """The folder below which the first listed pictures lie; `base` when none fits."""
    probes = []
    for text in texts.values():
        matches = (_LINE.match(line) for line in text.split("\n", PROBED_LINES)[:PROBED_LINES])
        probes += [_clean(match["path"]) for match in matches if match]
    beside = [path.parent for path in texts if path.parent != base]
    folders = [base, *beside, base.parent, *sorted(path for path in base.glob("*") if path.is_dir())]
    found = {folder: sum((folder / probe).exists() for probe in probes) for folder in folders}
    best = max(folders, key=lambda folder: found[folder])
    return best if found[best] > found[base] else base


def _class_names(base: Path) -> dict[str, str]:
    """Names of numbered classes from a `classes.csv` beside the lists (name and ID in its first two columns)."""
    path = base / "classes.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        table = [row for row in csv.reader(file) if len(row) >= 2]
    if not table or "name" not in table[0][0].lower() or "id" not in table[0][1].lower():
        return {}
    names = {row[1].strip(): row[0].strip() for row in table[1:]}
    return names if len(set(names.values())) == len(names) else {}


TEXT_LIST = Format(
    "list",
    "train.txt with val, test or query and gallery beside it: `path label`, `path label id` (PaddleClas, PaddleX) or "
    "`path, fine, coarse`; separated by blanks, tabs, commas",
    _detect,
    _read,
    TABLE,
)
