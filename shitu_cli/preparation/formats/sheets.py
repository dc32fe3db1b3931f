"""Find the text files of a source that hold its labels, those that only list a split, and those that do neither."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from shitu_cli.errors import Command, DataError, ShituError
from shitu_cli.inputs import whole_number
from shitu_cli.preparation.formats.boxes import plain_name
from shitu_cli.preparation.formats.column_names import IMAGE_NAMES
from shitu_cli.preparation.formats.columns import Columns, Decision
from shitu_cli.preparation.formats.delimited import IMAGE_NAME, SUFFIXES, Sheet, open_sheet
from shitu_cli.preparation.formats.locate import Locator
from shitu_cli.preparation.formats.records import SUFFIXES as RECORD_SUFFIXES
from shitu_cli.preparation.formats.records import in_lines, open_records
from shitu_cli.preparation.formats.source import Source, fold, without_suffix
from shitu_cli.preparation.formats.splits import is_union, split_of_file, split_of_folder, split_words
from shitu_cli.preparation.formats.text_files import rough_text
from shitu_cli.preparation.formats.textlist import decide_list
from shitu_cli.preparation.formats.unlabelled_sheets import no_columns, why_unread
from shitu_cli.preparation.formats.unreadable import unread_files
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import short_list

_SUBMISSION = re.compile(r"submi(?:t|ssion)|predict", re.I)
_NAMES_OF_CLASSES = re.compile(r"class(?:es|_?names?|_?list)|categor(?:y|ies)|label_?(?:map|names)|names", re.I)
_NO_DATA = re.compile(r"^(?:readme|licen[cs]e|requirements|changelog|notes?)\b", re.I)
NAMED_AS_LABELS = re.compile(r"label|annot|meta|class|list|data|image|index|catalog|truth|gt", re.I)
PROBED_LINES = 30
MAX_SHEETS = 500  # text files of one folder that are looked into
MOST_NAMED = 20  # columns that are named
SAMPLE = 200  # rows
IDS = IMAGE_NAMES | {"id", "idcode"}
COVERED = 0.5  # share of the images that a list of any name must label to be taken for the labels


@dataclass
class Labels:
    """A text file that labels or lists images: `columns`, or the error that says what has to be decided first."""

    sheet: Sheet
    role: str
    columns: Columns | None
    error: ShituError | None = None
    problems: Problems = field(default_factory=Problems)
    numbers_lines: bool = False

    def listed(self) -> list[tuple[int, str, str]]:
        """Return line, path and split of each image of a list of paths, or of a table without labels."""
        columns = self.columns
        if columns is not None and columns.split is not None:
            at, splits = columns.split, columns.splits
            return [(line, row[columns.image], splits.get(row[at].lower(), "")) for line, row in self.sheet.rows()]
        if columns is not None and (self.sheet.header is not None or self.numbers_lines):
            return [(line, row[columns.image], self.role) for line, row in self.sheet.rows()]
        lines = enumerate(self.sheet.text.splitlines(), 1)
        return [(number, line.strip(), self.role) for number, line in lines if line.strip()]


class Sheets:
    """The text files of a source: `labelled` ones, `splits` (paths only, with their role), `unused` with the reason."""

    @classmethod
    def of(cls, source: Source) -> Sheets:
        """Return the text files of a source, which are read only once."""
        if not isinstance(source.memo.get("sheets"), cls):
            source.memo["sheets"] = cls(source)
        sheets = source.memo["sheets"]
        assert isinstance(sheets, cls)
        return sheets

    def __init__(self, source: Source) -> None:
        self.source = source
        self.locator = Locator(source)
        self.labelled: list[Labels] = []
        self.splits: list[Labels] = []
        self.unused: dict[str, str] = unread_files(source)
        for path, name in self._candidates():
            self._judge(path, name)
        self._settle_roles()

    def _candidates(self) -> list[tuple[Path, str]]:
        """Return the files that may hold lists; texts of a single image do not."""
        path = self.source.path
        if path.is_file():
            return [(path, path.name)]
        counts: dict[str, int] = {}
        files = []
        for name in self.source.tree.files:
            folder, _, base = name.rpartition("/")
            stem, suffix = os.path.splitext(base)
            is_text = suffix.lower() in SUFFIXES or (
                suffix.lower() in RECORD_SUFFIXES and not self.source.memo.get("annotated")
            )
            if not is_text or _NO_DATA.match(stem) or self._of_one_image(stem, suffix):
                continue
            counts[folder] = counts.get(folder, 0) + 1
            if counts[folder] <= MAX_SHEETS:
                files.append((self.source.base / name, name))
        return files

    def _of_one_image(self, stem: str, suffix: str) -> bool:
        return suffix.lower() in (".txt", ".json") and fold(without_suffix(stem)) in self.source.tree.stems

    def _judge(self, path: Path, name: str) -> None:
        alone = self.source.path.is_file()
        head = rough_text(self.source.head(name))
        if not alone and (not head or not self._names_images(head, name)):
            return
        if not alone and _SUBMISSION.search(path.stem):
            self.unused[name] = "a submission: its labels are placeholders"
            return
        role = split_of_file(name) or split_words(name.rpartition("/")[0].rpartition("/")[2])[0]
        problems = Problems()
        sheet: Sheet | None = None
        try:
            sheet = self._open(path, name, problems)
            if sheet is None:
                self.unused[name] = "names images, in a layout that is not known here"
                return
            folder = sheet.folder
            sheet.exists = lambda path: self.locator.is_file(path, folder)
            sheet.is_known = lambda path: self.locator.is_image(path, folder)
            columns = self._decide(sheet)
        except ShituError as error:
            if sheet is None:
                sheet = Sheet(path, name, "", header=[])
            self.labelled.append(Labels(sheet, role, None, error, problems))
            return
        if columns is not None and (columns.label is not None or columns.one_hot):
            self.labelled.append(Labels(sheet, role, columns, None, problems))
        elif alone:
            self.labelled.append(Labels(sheet, role, None, no_columns(sheet, columns), problems))
        elif columns is not None:
            self.splits.append(Labels(sheet, role, columns))
        elif sheet.header is not None and IMAGE_NAME.search(head):
            self.unused.setdefault(name, "names images, but no column holds one in each row")
        elif sheet.header is None and sum(1 for line in head.splitlines() if IMAGE_NAME.search(line[:2000])) > 1:
            self.unused.setdefault(name, "names images, but its lines are not `path label`: write path<TAB>label")

    def _open(self, path: Path, name: str, problems: Problems) -> Sheet | None:
        """Return the file as a table or list; None for JSON that is neither. DataError if it is all there is."""
        if path.suffix.lower() not in RECORD_SUFFIXES and not in_lines(self.source.head(name)):
            return open_sheet(path, name, problems, self.source.options.encoding, self._is_on_disk)
        sheet = open_records(path, name, problems)
        if sheet is None and self.source.path.is_file():
            raise DataError(
                f"{path}: unknown JSON layout",
                hint=(
                    'write [{"image": "a.jpg", "label": "cat"}, ...]; ',
                    Command("prepare", "--formats"),
                    " lists other layouts",
                ),
            )
        return sheet

    def _is_on_disk(self, word: str) -> bool:
        return fold(word) in self.source.tree.parts

    def _names_images(self, head: str, name: str) -> bool:
        """Return whether some of the first lines name images: by a suffix, or by the name of one that is there."""
        lines = [line for line in head.splitlines()[:PROBED_LINES] if line.strip()]
        if any(IMAGE_NAME.search(line[:2000]) for line in lines):
            return True
        folder = name.rpartition("/")[0]
        cells = [re.split(r"[\t,;|]", line[:2000])[:8] for line in lines[1:8]]
        cells += [line.split()[:1] for line in lines[:8]]
        cells = [[cell.strip(' "') for cell in row] for row in cells]
        hits = sum(any(self.locator.is_image(cell, folder) for cell in row) for row in cells)
        ids = sum(bool(row) and self.locator.is_known(row[0]) for row in cells[: len(lines[1:8])])
        return max(hits, ids) >= max(1, len(lines[1:8]) // 2)

    def _decide(self, sheet: Sheet) -> Columns | None:
        """Return what the columns are, None if it names no images."""
        rows = sheet.sample()
        if not rows:
            if self.source.path.is_file():
                return Columns(["1", "2"], 0, 1)
            return None if sheet.header is not None else self._paths_only(sheet)
        chosen = self.source.options.columns
        folder = sheet.folder

        def is_image(value: str) -> bool:
            return self.locator.is_image(value, folder)

        if sheet.header is None:
            return decide_list(sheet, rows, chosen, is_image)
        if chosen and not self.source.path.is_file() and not set(chosen.values()) <= _names_of(chosen, sheet.header):
            columns = ", ".join(chosen.values())
            self.unused[sheet.name] = f"has no columns {columns}, but {short_list(sheet.header, MOST_NAMED)}"
            return None
        cells = [row for _, row in rows]
        if not chosen and (ids := self._ids(sheet.header, cells, folder)):
            chosen = {"image": ids}
        return Decision(sheet.header, cells, chosen, str(sheet.path), rows[0][0]).columns(is_image)

    def _ids(self, header: list[str], cells: list[Sequence[str]], folder: str) -> str:
        """Return the first column if it numbers images that have the same names in train/ and test/; "" for others."""
        sample = [row[0] for row in cells[:SAMPLE]]
        if plain_name(header[0]) not in IDS or all(self.locator.is_image(value, folder) for value in sample):
            return ""
        folders = {image.rpartition("/")[0].rpartition("/")[2] for image in self.locator.tree.images}
        if not all(map(split_of_folder, folders)):
            return ""
        return header[0] if all(map(self.locator.is_known, sample)) else ""

    def _paths_only(self, sheet: Sheet) -> Columns | None:
        """Return a list of nothing but paths."""
        lines = [line.strip() for line in sheet.text.splitlines() if line.strip()][:200]
        hits = sum(self.locator.is_image(line, sheet.folder) for line in lines)
        return Columns(["1"], 0) if lines and hits * 2 > len(lines) else None

    def _settle_roles(self) -> None:
        """Take several lists of paths for splits, and an index beside queries for the gallery."""
        if any(labels.role == "query" for labels in self.labelled):
            for labels in self.labelled:
                if not labels.role and "index" in labels.sheet.path.stem.lower():
                    labels.role = "gallery"
        self._leave_out_unions()
        self._take_numbered_lines()
        files = self.splits
        self.splits = [file for file in files if file.columns is not None and file.columns.split is not None]
        roles = {file.role for file in files}
        if not self.splits and "train" in roles and len(roles - {""}) > 1:
            self.splits = [file for file in files if file.role]
        used = {file.sheet.name for file in self.splits}
        unread = {file.sheet.name: why_unread(file.sheet) for file in files}
        self.unused |= {name: why for name, why in unread.items() if name not in used}
        self._leave_out_small()
        if len(self.labelled) > 1:
            for labels in [item for item in self.labelled if _NAMES_OF_CLASSES.fullmatch(item.sheet.path.stem)]:
                self.labelled.remove(labels)
                self.unused[labels.sheet.name] = "names of classes"

    def _take_numbered_lines(self) -> None:
        """Take lists for paths alone that only number their lines, as train_cls.txt and val.txt of ImageNet do.

        A list may hold one image of each class, but not where the images to train on share folders.
        """
        lists = [labels for labels in self.labelled if labels.role and _numbers_lines(labels)]
        for labels in lists if any(_shares_folders(labels) for labels in lists if labels.role == "train") else ():
            labels.numbers_lines = True
            self.labelled.remove(labels)
            self.splits.append(labels)

    def _leave_out_unions(self) -> None:
        """Leave out trainval.txt where train.txt and val.txt say which of its images are trained."""
        lists = [*self.splits, *self.labelled]
        unions = {listed.sheet.name for listed in lists if is_union(listed.sheet.name)}
        if unions and {"train", "val"} <= {listed.role for listed in lists if listed.sheet.name not in unions}:
            self.unused |= dict.fromkeys(unions, "train and val together")
            self.splits = [listed for listed in self.splits if listed.sheet.name not in unions]
            self.labelled = [listed for listed in self.labelled if listed.sheet.name not in unions]

    def _leave_out_small(self) -> None:
        """Leave out a file that labels few of the images and whose name does not say that it holds labels."""
        if self.source.path.is_file() or self.source.options.columns:
            return
        for labels in list(self.labelled):
            if labels.role or NAMED_AS_LABELS.search(labels.sheet.path.stem) or labels.sheet.header is not None:
                continue
            rows = sum(1 for _ in labels.sheet.rows())
            if rows < COVERED * len(self.source.tree.images):
                self.labelled.remove(labels)
                self.unused[labels.sheet.name] = (
                    f"labels {rows:,} of {len(self.source.tree.images):,} images; name it to read it"
                )


def _numbers_lines(labels: Labels) -> bool:
    """Return whether the only column of a list after the path counts 0, 1, 2 or 1, 2, 3, line by line."""
    columns, sheet = labels.columns, labels.sheet
    if sheet.header is not None or columns is None or len(columns.names) != 2 or columns.label != 1:
        return False
    first = [row[1] for _, (_, row) in zip(range(PROBED_LINES), sheet.rows(), strict=False)]
    start = int(first[:1] != ["0"])
    if len(first) < 2 or first != [str(n) for n in range(start, start + len(first))]:
        return False
    numbers = [whole_number(row[1]) for _, row in sheet.sample()]
    return all(a is not None and b is not None and a < b for a, b in pairwise(numbers))


def _shares_folders(labels: Labels) -> bool:
    """Return whether the images of a list are in several folders, and most of these hold several of them."""
    folders = Counter(row[0].replace("\\", "/").rpartition("/")[0] for _, row in labels.sheet.sample())
    return len(folders) > 1 and sum(count > 1 for count in folders.values()) * 2 > len(folders)


def _names_of(chosen: dict[str, str], header: list[str]) -> set[str]:
    """Return the values of --columns that this header has."""
    boxes = {part for part in chosen.get("box", "").partition(":")[0].split("+") if part in header}
    values = {value for value in chosen.values() if value in header}
    return values | ({chosen["box"]} if boxes else set())
