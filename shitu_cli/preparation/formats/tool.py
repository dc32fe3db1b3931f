"""Base of the readers of annotation tools: a file, an image in it, and the Format that is made from a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.annotations import Annotation, Annotations
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import Convention, Size
from shitu_cli.preparation.formats.delimited import read_table
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, Recogniser, annotation_files, files_with, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.formats.text_files import read_json_lines, read_large_json
from shitu_cli.preparation.formats.values import choose_attribute, label_text
from shitu_cli.preparation.problems import Problems


class AnnotationFile:
    """An annotation file: `name` is relative to the source's base, `unit` names its entries in messages.

    `split` is the one of its name or folder; entries may have others.
    """

    def __init__(self, annotations: Annotations, name: str, unit: str | None) -> None:
        self.annotations, self.name, self.path = annotations, name, annotations.path(name)
        self.problems, self.columns = annotations.problems, annotations.source.options.columns
        alone = annotations.source.path.is_file()
        self.split = "" if alone or annotations.per_image else split_of(name)
        if unit is not None:
            annotations.units[name] = unit

    def json(self) -> Any:
        """Return what a JSON file holds."""
        return read_large_json(self.path, limit=JSON_LIMIT)

    def records(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the rows of a table or the objects of a file with one in each line, with their line numbers."""
        if self.path.suffix.lower() not in (".csv", ".tsv"):
            return list(read_json_lines(self.path, self.problems))
        header, rows = read_table(self.path, self.problems)
        return [(line, dict(zip(header, cells, strict=True))) for line, cells in rows]

    def bad(self, entry: int, detail: str) -> None:
        """Report an entry that cannot be read."""
        self.problems.add("bad-annotation", self.annotations.where(self.name, entry), detail)

    def empty(self, entry: int, image: str) -> None:
        """Note an image in which nothing is annotated."""
        self.problems.add("no-objects", self.annotations.where(self.name, entry), image)

    def find(self, name: str, entry: int, split: str = "", size: Size | None = None) -> ImageEntry | None:
        """Return the image that an entry names; report a missing one, and return None."""
        split = split or self.split
        path = self.annotations.find(name, self.name, entry, split)
        return None if path is None else ImageEntry(self, path, entry, split, size)

    def find_empty(self, name: str, entry: int) -> None:
        """Note an image in which nothing is annotated, if it is there."""
        path = self.annotations.tree.find(name, self.annotations.near(self.name)).path
        if path is not None:
            self.annotations.listed.add(path)
            self.empty(entry, path)

    def own_image(self, spelt: str | None = None, split: str = "", size: Size | None = None) -> ImageEntry | None:
        """Return the image that this file belongs to, by its own name or the one in it; report a missing one."""
        notes = self.annotations
        if spelt is not None:
            path = notes.image_of(self.name, spelt)
        else:
            path = notes.settle(notes.pair(self.name), self.name, self.name, 0)
        return None if path is None else ImageEntry(self, path, 0, split, size)

    def choose(self, examples: dict[str, str]) -> str | None:
        """Return the attribute that holds the class: the user's choice, or the only one; see `choose_attribute`."""
        return choose_attribute(examples, self.columns.get("label"), str(self.path))


@dataclass
class ImageEntry:
    """An image that an entry of a file is about; `split` and `size` are what the entry says of it."""

    file: AnnotationFile
    path: str
    entry: int
    split: str = ""
    size: Size | None = None

    def label(self, label: object, entry: int | None = None) -> None:
        """Add the label of the whole image."""
        self._add(label_text(label), None, None, entry)

    def box(
        self,
        label: object,
        values: Sequence[float] | None,
        convention: Convention,
        otherwise: str,
        entry: int | None = None,
    ) -> None:
        """Add a box of four numbers; where there are no such numbers, report `otherwise`."""
        if values is None or len(values) != 4:
            self.bad(otherwise, entry)
        else:
            self._add(label_text(label), tuple(values), convention, entry)

    def bad(self, detail: str, entry: int | None = None) -> None:
        """Report what cannot be read."""
        self.file.bad(self.entry if entry is None else entry, detail)

    def empty(self) -> None:
        """Note that nothing is annotated in the image."""
        self.file.empty(self.entry, self.path)

    def _add(self, label: str, box: tuple[float, ...] | None, convention: Convention | None, entry: int | None) -> None:
        entry, name = self.entry if entry is None else entry, self.file.name
        if not label:
            self.file.bad(entry, f"the label is empty ({self.path})")
            return
        # The entry or the file says it, or the folder of the image, or that of the file.
        split = self.split or split_of(self.path.rpartition("/")[0]) or split_of(name.rpartition("/")[0])
        self.file.annotations.items.append(Annotation(self.path, label, name, entry, split, box, convention, self.size))


def files_ending(*suffixes: str, inside: str = "") -> Callable[[Source], list[str]]:
    """Return a function that lists a source's files with these suffixes, if given only in folders called `inside`."""

    def files(source: Source) -> list[str]:
        candidates = annotation_files(source, *suffixes)
        return [file for file in candidates if inside in file.split("/")[:-1]] if inside else candidates

    return files


def per_file(
    read: Callable[[AnnotationFile], None], unit: str | None = None
) -> Callable[[Annotations, Sequence[str]], None]:
    """Return a reader of several files; if each image has a file, a damaged one is reported and left out."""

    def read_all(annotations: Annotations, files: Sequence[str]) -> None:
        for name in files:
            try:
                read(AnnotationFile(annotations, name, unit))
            except DataError as error:
                if not annotations.per_image:
                    raise
                annotations.problems.add("bad-annotation", error.message)

    return read_all


def annotation_format(
    name: str,
    layout: str,
    *,
    tool: str,
    files: Callable[[Source], list[str]],
    is_one: Recogniser,
    read: Callable[[Annotations, Sequence[str]], None],
    needs: str,
    per_image: bool = False,
    most: bool = False,
    columns: frozenset[str] = frozenset(),
) -> Format:
    """Return the format of an annotation tool.

    Args:
        name: Its name for --format.
        layout: What its files look like, for `shitu prepare --formats`.
        tool: Its name for users.
        files: The files of a source that may be its own.
        is_one: Whether a file is, by its name and its first and last bytes.
        read: Adds what files say; see `per_file`.
        needs: The files that a source of this format needs, for the error if it has none.
        per_image: Each image has a file of its own: all candidates are read as soon as one of them is recognised.
        most: More than half of those that hold anything must be recognised.
        columns: The roles of --columns that it takes.
    """

    def detect(source: Source) -> bool:
        candidates = files(source)
        if per_image:
            hits = [is_one(file, head) for file in spread(candidates) if (head := source.head(file)).strip()]
            return sum(hits) > (len(hits) // 2 if most else 0)
        return bool(files_with(source, candidates, is_one))

    def read_source(source: Source, problems: Problems) -> Rows:
        annotations = Annotations(source, problems, tool, per_image=per_image)
        own = files(source) if per_image else files_with(source, files(source), is_one)
        if not own:
            raise DataError(f"{source.path}: no {needs}")
        read(annotations, own)
        return annotations.rows()

    return Format(name, layout, detect, read_source, ANNOTATIONS, columns)
