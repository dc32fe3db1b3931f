"""Lists without a header: `path label`, `path label id`, `path, fine, coarse`, `path label x1 y1 x2 y2`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from shitu_cli.data.images import IMAGE_SUFFIXES
from shitu_cli.errors import UsageError
from shitu_cli.inputs import box_of, whole_number
from shitu_cli.preparation.formats.base import whole_label
from shitu_cli.preparation.formats.boxes import XYXY
from shitu_cli.preparation.formats.columns import Columns, Decision
from shitu_cli.preparation.formats.delimited import IMAGE_NAME, IMAGE_SUFFIX, MAX_LINE, Sheet, split_line
from shitu_cli.preparation.formats.sample import Sample
from shitu_cli.preparation.formats.splits import splits_of_values
from shitu_cli.preparation.formats.text_files import lines_of
from shitu_cli.preparation.formats.values import is_number
from shitu_cli.preparation.problems import Problems

_BLANKS = re.compile(r"[ \t]+")
_WORDS = re.compile(r"[^\W\d]+")
PROBED_LINES = 200
CHUNK = 1 << 16  # characters of a list that are looked at together
# Lines `path label` of ASCII without any other blank, quote or separator: nearly all lines of long lists.
_WORD = r"[!#-+\--:<-{}~]+"
_PLAIN = re.compile(rf"^({_WORD}\.(?:{IMAGE_SUFFIX})) ({_WORD})\r?$", re.M | re.I)
_OFTEN = 0.95  # of the lines that follow a way to write a list


def list_rows(sheet: Sheet, problems: Problems | None) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield line number, path and columns of each line; others are reported."""
    style = _style(sheet)
    separators = Counter[str]()
    number = 1
    for chunk in _chunks(sheet.text):
        lines = chunk.count("\n") or 1
        plain = [] if style.bare or style.turned else _PLAIN.findall(chunk)
        if len(plain) == lines:
            separators[" "] += lines
            yield from enumerate(plain, number)
        else:
            yield from _odd_rows(sheet, style, chunk, number, separators, problems)
        number += lines
    if problems is not None and len(separators) > 1:
        shown = ", ".join(f"{count} lines with {_word(sep)}" for sep, count in separators.most_common())
        problems.add("mixed-separators", str(sheet.path), shown)


def _chunks(text: str) -> Iterator[str]:
    """Cut a text into pieces of whole lines: most pieces of a long list have only plain lines."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + CHUNK) + 1 or len(text)
        yield text[start:end]
        start = end


def _odd_rows(
    sheet: Sheet, style: _Style, chunk: str, first: int, separators: Counter[str], problems: Problems | None
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the rows of lines of every kind, from the line number `first`."""
    for number, line in enumerate(lines_of(chunk), first):
        line = line.rstrip("\r")
        if not line.strip(" \t,;|"):
            continue
        line = line if "\t" in line else line.strip()
        if style.turned or style.bare:
            parts = _reversed(line) if style.turned else _bare(line)
        else:
            parts = split_line(line, sheet.exists, sheet.is_known)
        if parts is None or not parts[1]:
            if problems is not None and not (number == 1 and line.startswith("sep=")):
                _report(line, parts is not None, not separators, sheet.where(number), problems)
            continue
        path, sign, rest = parts
        separators[sign] += 1
        cells = style.cells(sign, rest.strip())
        if cells and cells[0]:
            yield number, [path.strip('\ufeff" \t'), *cells]
        elif problems is not None:
            problems.add("malformed", sheet.where(number), f"the label is missing: {line.strip()[:80]!r}")


class _Style:
    """How the lines of a list are written.

    `bare`: paths without image suffixes; `turned`: the label first; `blanks`: how spaces separate the columns.
    """

    def __init__(self, bare: bool, blanks: str, *, turned: bool = False) -> None:
        self.bare, self.blanks, self.turned = bare, blanks, turned

    def cells(self, sign: str, rest: str) -> list[str]:
        """Return what follows the path, as columns."""
        if sign != " ":
            return [part.strip().strip('"') for part in rest.split(sign)]
        if rest.count('"') == 2 and rest[0] == rest[-1] == '"':
            return [rest[1:-1]]
        words = _BLANKS.split(rest)
        if len(words) < 2 or all(map(is_number, words)):
            return words
        if self.blanks in ("number, name", "split, name"):
            return [words[0], rest[len(words[0]) :].strip()]
        if self.blanks == "name, split":
            return [rest[: -len(words[-1])].strip(), words[-1]]
        numbers = _trailing_numbers(words)
        if self.blanks == f"name, {numbers} numbers":
            return [" ".join(words[: len(words) - numbers]), *words[len(words) - numbers :]]
        return [rest.strip('"')]  # names of classes may hold blanks


def _style(sheet: Sheet) -> _Style:
    head = [line.strip() for _, line in zip(range(PROBED_LINES), lines_of(sheet.text), strict=False) if line.strip()]
    bare = not any(IMAGE_NAME.search(line[:MAX_LINE]) for line in head)
    parts = [part for line in head if (part := _bare(line) if bare else split_line(line)) is not None]
    if not bare and sheet.exists is not None and _is_turned(head, parts, sheet.exists):
        return _Style(bare, "", turned=True)
    rests = [_BLANKS.split(rest.strip()) for _, sign, rest in parts if sign == " "]
    several = [words for words in rests if len(words) > 1 and not all(map(is_number, words))]
    if several and len(several) >= _OFTEN * len(rests):
        for place, style in ((-1, "name, split"), (0, "split, name")):
            if splits_of_values("", [words[place] for words in several]):
                return _Style(bare, style)
        pairs = {(words[0], " ".join(words[1:])) for words in several}
        numbered = all(_is_whole(words[0]) and not any(map(is_number, words[1:])) for words in several)
        if numbered and len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) > 1:
            return _Style(bare, "number, name")
        counts = Counter(map(_trailing_numbers, several))
        count, often = counts.most_common(1)[0]
        scores = all(_is_share(words[-1]) for words in several)
        if often >= _OFTEN * len(several) and (count in (4, 5) or (count == 1 and scores)):
            return _Style(bare, f"name, {count} numbers")
    return _Style(bare, "")


def _is_turned(head: Sequence[str], parts: Sequence[tuple[str, str, str]], exists: Callable[[str], bool]) -> bool:
    """Return whether the label comes before the path: nothing follows the paths, and their ends are images."""
    if not parts or any(sign for _, sign, _ in parts):
        return False
    turned = [part for line in head if (part := _reversed(line)) is not None]
    hits = sum(exists(path) for path, _, _ in turned)
    return hits >= _OFTEN * len(head) and not any(exists(line) for line in head[:20])


def _reversed(line: str) -> tuple[str, str, str] | None:
    """Return a line `label path`, or `number label path` with tabs (MXNet), as path, separator and label."""
    line = line.strip()[:MAX_LINE]
    if line.count("\t") == 2:
        _, label, path = line.split("\t")
        return path, "\t", label
    for sign in ("\t", ",", ";", "|", " "):
        label, separator, path = line.partition(sign)
        if separator and label.strip():
            return path.strip().strip('"'), sign, label
    return None


def _bare(line: str) -> tuple[str, str, str] | None:
    """Return a line whose path has no suffix: up to the first separator."""
    line = line[:MAX_LINE]
    for sign in ("\t", ",", ";", "|"):
        path, separator, rest = line.partition(sign)
        if separator:
            return path, sign, rest
    path, _, rest = line.partition(" ")
    return (path, " ", rest) if rest.strip() else (path, "", "")


def _report(line: str, path_only: bool, first: bool, place: str, problems: Problems) -> None:
    shown = line.strip()[:80]
    words = _BLANKS.split(shown.replace(",", " ").replace(";", " ").replace("|", " ").strip())
    if (
        shown.startswith("#")
        or (first and shown.isdigit())
        or (first and not path_only and len(words) > 1 and all(map(_WORDS.fullmatch, words)))
    ):
        problems.add("heading", place, repr(shown))
    elif path_only:
        problems.add("malformed", place, f"the label is missing: {shown!r}")
    elif IMAGE_NAME.search(shown):
        problems.add("malformed", place, f"no blank, tab or comma between path and label: {shown!r}")
    else:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        problems.add("malformed", place, f"no path of an image ({suffixes}): {shown!r}")


def decide_list(
    sheet: Sheet, rows: Sequence[tuple[int, Sequence[str]]], chosen: dict[str, str], is_image: Callable[[str], bool]
) -> Columns:
    """Return what the columns of a list are; UsageError if two readings are possible."""
    width = Counter(len(cells) for _, cells in rows).most_common(1)[0][0] if rows else 0
    cells = [row for _, row in rows if len(row) == width]
    names = [str(n) for n in range(1, width + 1)]
    if chosen and _style(sheet).turned:  # as the user counts: the label comes before the path
        names = ["3", "2"] if sheet.text.partition("\n")[0].count("\t") == 2 else ["2", "1"]
    columns, sample = Columns(names, 0, 1 if width >= 2 else None), Sample(cells, width)
    if not chosen and width == 2 and splits_of_values("", sample.values(1)):
        columns.label, columns.split = None, 1
    elif not chosen and width >= 2 and (sample.begins_with_images(1) or sample.checksums(1)):
        columns.label = None  # pairs of images, or what md5sum writes
    elif not chosen and width == 2 and sample.annotations(1):
        raise UsageError(
            f"{sheet.path}: its paths are followed by boxes or JSON, which are not classes",
            details=[f"{sheet.path}:{line}: {' '.join(row)[:100]}" for line, row in rows[:2]],
            hint="write path<TAB>label on each line, or path<TAB>label<TAB>-<TAB>x1,y1,x2,y2 for each box; "
            "or --columns image=1,label=2 if they are the classes",
        )
    elif not chosen and width == 3:
        _third(columns, sample, sheet)
    elif chosen or (width > 3 and not _own(columns, sample, sheet) and not _boxes(columns, sample)):
        roles = {"image": names[0], **chosen}
        example = rows[0][0] if rows else 1
        decided = Decision(names, cells, roles, str(sheet.path), example).columns(is_image)
        if decided is None or (not chosen and decided.label is None):
            raise UsageError(
                f"{sheet.path}: which of its {width} columns is the class?",
                details=[f"{sheet.path}: {' | '.join(row)}" for row in cells[:2]],
                hint="--columns image=1,label=2",
            )
        return decided
    return columns


def _third(columns: Columns, sample: Sample, sheet: Sheet) -> None:
    """Decide about the column after the label: a camera, unless its values are of another kind."""
    head = sheet.text[:4096]
    if not sample.values(2) or set(sample.values(2)) == {"-"}:
        return
    parts = [column for column in (2, 1) if splits_of_values("", sample.values(column))]
    if parts:
        columns.split, columns.label = parts[0], 3 - parts[0]
    elif sample.same(1, 2):
        if sample.numeric(1) and not sample.numeric(2):
            columns.display = 2
        columns.remarks.append("column 3 repeats the class")
    elif sample.fractions(2) and all(_is_share(value) for value in sample.values(2)):
        columns.remarks.append("column 3 is a score: not used")
    elif sample.follows(2, 1):
        columns.remarks.append("column 3 is a coarser class: not used")
    elif head.count(",") > head.count("\t"):
        raise UsageError(
            f"{sheet.path}: which column is the class, 2 or 3?",
            details=[f"{sheet.path}: {', '.join(row)}" for row in sample.rows[:2]],
            hint="--columns image=1,label=2 or --columns image=1,label=3; a camera: image=1,label=2,camera=3",
        )
    elif len(set(sample.values(2))) == len(sample.rows) > 4 and not sample.numeric(2):
        columns.remarks.append("column 3 is different in each line: not used")
    else:
        columns.id = 2


def _own(columns: Columns, sample: Sample, sheet: Sheet) -> bool:
    """Return whether it is a list of this program: path, label, id, box."""
    if len(columns.names) != 4 or "\t" not in sheet.text[:4096] or not any(map(box_of, sample.columns[3])):
        return False
    columns.box, columns.convention = [3], XYXY
    columns.id = None if set(sample.values(2)) <= {"-"} else 2
    return True


def _boxes(columns: Columns, sample: Sample) -> bool:
    """Return whether four numbers follow or precede the label."""
    if len(columns.names) != 6:
        return False
    if all(map(sample.numeric, (2, 3, 4, 5))) and (sample.could_be_label(1) or not sample.could_be_label(5)):
        columns.box = [2, 3, 4, 5]
    elif all(map(sample.numeric, (1, 2, 3, 4))):
        columns.label, columns.box = 5, [1, 2, 3, 4]
        if not sample.numeric(5):
            columns.convention = XYXY  # as keras-retinanet has it: path,x1,y1,x2,y2,class
    return bool(columns.box)


def _trailing_numbers(words: Sequence[str]) -> int:
    count = 0
    for word in reversed(words):
        if not is_number(word):
            break
        count += 1
    return count


def _is_share(text: str) -> bool:
    return is_number(text) and 0 <= float(text) <= 1


def _is_whole(text: str) -> bool:
    return whole_number(whole_label(text), signed=True) is not None


def _word(separator: str) -> str:
    return {" ": "blanks", "\t": "tabs", ",": "commas"}.get(separator, separator)


def relative_root(base: str, paths: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the folder that paths which all lead out of `base` share, and the paths below it; None for others."""
    if not paths or not all(path.startswith(("/", "../")) or os.path.isabs(path) for path in paths):
        return None
    whole = [os.path.normpath(os.path.join(os.path.abspath(base), path)) for path in paths]
    shared = os.path.commonpath({os.path.dirname(path) for path in whole})
    return shared, [os.path.relpath(path, shared).replace(os.sep, "/") for path in whole]
