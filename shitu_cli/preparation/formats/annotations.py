"""Collect what annotation files say about the images of a source, check it against the images, turn it into rows."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shitu_cli.data.images import decode_image, is_image_name
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.boxes import MIN_SIDE, Convention, Size, check_convention
from shitu_cli.preparation.formats.discovery import spread
from shitu_cli.preparation.formats.source import (
    Match,
    Source,
    Tree,
    fold,
    plain_path,
    report_missing,
    stem_of,
)
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted, short_list

SAMPLE = 200  # images of a file whose sizes are compared with its boxes
# Folders that group files by kind: images/train and labels/train belong together, and so do train/images and so on.
STRUCTURE = {
    *("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data", "obj_train_data", "obj_valid_data"),
    *("labels", "label", "annotations", "annotation", "annos", "anno", "ann", "xmls", "xml", "jsons", "json"),
    *("labelme", "yolo", "voc", "txt", "txts", "bboxes", "boxes"),
}
# Names of folders that hold annotations beside those of the images.
_ASIDE = {"annotations", "annotation", "annos", "anno", "labels", "label", "meta", "metadata", "lists", "json", "csv"}


@dataclass(slots=True)
class Annotation:
    """A label of an image or, with `box`, of a part of it; `size` is the size of the image that the file states."""

    image: str
    label: str
    file: str
    entry: int
    split: str = ""
    box: tuple[float, ...] | None = None
    convention: Convention | None = None
    size: Size | None = None


class Annotations:
    """Collects what the files of one tool say. Files are named relative to the source's base.

    `units` say what the entries of a file are called in messages, such as `annotations[{}]`; without one they are
    lines. With `per_image` each image has a file of its own. `remarks` are shown to the user.
    """

    def __init__(self, source: Source, problems: Problems, tool: str, *, per_image: bool = False) -> None:
        self.source, self.problems, self.tool, self.per_image = source, problems, tool, per_image
        self.tree = _image_tree(source)
        self.items: list[Annotation] = []
        self.units: dict[str, str] = {}
        self.listed: set[str] = set()
        self.remarks: list[str] = []
        self._sizes: dict[str, Size | None] = {}

    def path(self, file: str) -> Path:
        """Return the path of a file of the source."""
        return self.source.base / file

    def where(self, file: str, entry: int) -> str:
        """Return the place of an entry for messages."""
        unit = self.units.get(file)
        return f"{self.path(file)}:{entry}" if unit is None else f"{self.path(file)}: {unit.format(entry)}"

    def near(self, file: str) -> str:
        """Return the folder of a file relative to the tree of the images, "" for one outside of it."""
        folder = os.path.relpath(self.path(file).parent, self.tree.root).replace(os.sep, "/")
        return "" if folder == "." or folder.startswith("..") else folder

    # --- Which image an entry means ---

    def find(self, name: str, file: str, entry: int, split: str = "") -> str | None:
        """Return the image that a file names; report none or several, and return None."""
        match = self.tree.find(name, self.near(file))
        if match.path is None and match.how == "several":
            match = self._of_split(name, split or split_of(file)) or match
        return self.settle(match, name, file, entry)

    def pair(self, file: str) -> Match:
        """Return the image that an annotation file of one image belongs to, by its name and folder."""
        folder, _, name = file.rpartition("/")
        stem = os.path.splitext(name)[0]
        candidates = self.tree.stems.get(stem_of(stem), [])
        if is_image_name(stem):  # a.jpg.json
            candidates = [path for path in candidates if fold(path.rpartition("/")[2]) == fold(stem)] or candidates
        near = self.near(file)
        for chosen in (
            [path for path in candidates if path.rpartition("/")[0] == (near or folder)],
            [path for path in candidates if _other_folders(path) == _other_folders(f"{near}/{name}")],
            candidates,
        ):
            if len(chosen) == 1:
                return Match(chosen[0])
            if len(chosen) > 1:
                return Match(None, "several", tuple(chosen[:3]))
        return Match(None)

    def image_of(self, file: str, spelt: str) -> str | None:
        """Return the image of an annotation file of one image: the one with its own name, else the one that it names.

        Report no image, or two different ones, and return None.
        """
        match = self.pair(file)
        plain = plain_path(spelt)
        if plain and (match.path is None or stem_of(plain) != stem_of(match.path)):
            other = self.tree.find(posixpath.basename(plain), self.near(file))
            if match.path is not None and other.path is not None and other.path != match.path:
                detail = f"it is beside {match.path} but names {other.path}: which image is meant?"
                self.problems.add("bad-annotation", str(self.path(file)), detail)
                return None
            if match.path is None and other.path is not None:
                match = other
        return self.settle(match, plain or posixpath.basename(file), file, 0)

    def settle(self, match: Match, name: str, file: str, entry: int) -> str | None:
        """Return the path of the image; report one that is not there."""
        if match.path is None:
            report_missing(match, self.where(file, entry), name, self.problems)
        else:
            self.listed.add(match.path)
        return match.path

    def _of_split(self, name: str, split: str) -> Match | None:
        """Return the one image of this name in the folders of a split."""
        plain = fold(posixpath.basename(name.replace("\\", "/")))
        candidates = [path for path in self.tree.stems.get(stem_of(plain), []) if split and split_of(path) == split]
        if is_image_name(plain):
            candidates = [path for path in candidates if fold(path.rpartition("/")[2]) == plain]
        return Match(candidates[0]) if len(candidates) == 1 else None

    def size(self, image: str) -> Size | None:
        """Return width and height of an image as it is shown; None if it cannot be decoded."""
        if image not in self._sizes:
            self._sizes[image] = self.tree.size(image) or _decoded_size(self.tree.root / image)
        return self._sizes[image]

    # --- Checking all of them ---

    def rows(self) -> Rows:
        """Return all annotations as rows; raises DataError or UsageError if they contradict themselves."""
        self.problems.take(self.tree.problems, without=("no-images",))
        whole = [item for item in self.items if item.box is None]
        boxes = [item for item in self.items if item.box is not None]
        if whole and boxes:
            self._refuse_both(whole[0], boxes[0], len(whole), len(boxes))
        self._refuse_two_files()
        self._settle_splits()
        rows = Rows(self.tree.root)
        rows.units = {str(self.path(file)): unit for file, unit in self.units.items()}
        rows.label_files = sorted({item.file for item in self.items})
        paths = {file: str(self.path(file)) for file in rows.label_files}
        for item in self._boxes_that_fit(boxes) if boxes else self._single(whole):
            box = None if item.box is None else (item.box[0], item.box[1], item.box[2], item.box[3])
            rows.add(item.image, item.label, item.split, box=box, file=paths[item.file], line=item.entry)
        rows.readings += [self._reading(rows), *self.remarks]
        for image in self.tree.images:
            if image not in self.listed:
                self.problems.add("unannotated", str(self.tree.root / image))
        return rows

    def _reading(self, rows: Rows) -> str:
        """Return a line that says how the files were read."""
        conventions = sorted({item.convention.text for item in self.items if item.convention})
        files = rows.label_files
        what = f"boxes ({' and '.join(conventions)})" if conventions else "labels of whole images"
        names = ", ".join(files[:3]) + (f" and {len(files) - 3:,} more files" if len(files) > 3 else "")
        classes, images = len(set(rows.labels)), len(set(rows.paths))
        return (
            f"{names}: {self.tool}, {len(rows):,} {what} of {counted(classes, 'class', 'classes')} in "
            f"{counted(images, 'image')}"
        )

    def _refuse_both(self, whole: Annotation, box: Annotation, wholes: int, boxes: int) -> None:
        raise UsageError(
            f"{self.path(whole.file)} labels whole images ({wholes:,}) and boxes in images ({boxes:,}): which of them "
            "are the classes?",
            details=[
                f"{self.where(whole.file, whole.entry)}: {whole.image} is {whole.label!r}",
                f"{self.where(box.file, box.entry)}: a box in {box.image} is {box.label!r}",
            ],
            hint="export only one of the two from the tool, and prepare that",
        )

    def _refuse_two_files(self) -> None:
        """Refuse two annotation files for one image: only the user knows which of them counts."""
        first: dict[str, str] = {}
        for item in self.items:
            other = first.setdefault(item.image, item.file)
            if other != item.file:
                raise UsageError(
                    f"{item.image} is labelled in {self.path(other)} and in {self.path(item.file)}: which of them "
                    "counts?",
                    hint=[
                        "name the file to read, as in: ",
                        Command("prepare", self.path(item.file)),
                        "; or move the other away",
                    ],
                )

    def _settle_splits(self) -> None:
        """Drop splits without training images; leave out images that belong to no split."""
        splits = {item.split for item in self.items}
        if {"", "train"} < splits:
            for image in dict.fromkeys(item.image for item in self.items if not item.split):
                self.problems.add("beside-splits", image)
            self.items = [item for item in self.items if item.split]
        elif not splits & {"", "train"} and not {"query", "gallery"} <= splits:
            for item in self.items:
                item.split = ""

    def _single(self, items: list[Annotation]) -> Iterator[Annotation]:
        """Yield the labels of images that have one; report several."""
        by_image: dict[str, dict[str, Annotation]] = {}
        for item in items:
            by_image.setdefault(item.image, {}).setdefault(item.label, item)
        for image, labels in by_image.items():
            first = next(iter(labels.values()))
            if len(labels) == 1:
                yield first
                continue
            where = self.where(first.file, first.entry)
            self.problems.add("several-labels", where, f"{image}: {short_list(labels, 4)}")

    def _boxes_that_fit(self, items: list[Annotation]) -> Iterator[Annotation]:
        """Yield boxes as corners in pixels; files that contradict their images are refused or reported."""
        by_file: dict[tuple[str, Convention | None], list[Annotation]] = defaultdict(list)
        for item in items:
            by_file["" if self.per_image else item.file, item.convention].append(item)
        resized: set[str] = set()
        for (file, convention), group in by_file.items():
            assert convention is not None
            resized |= self._resized(group)
            sample = [
                (item.box, size, self.where(item.file, item.entry))
                for item in spread(group, SAMPLE)
                if item.image not in resized and item.box is not None and (size := self.size(item.image))
            ]
            check_convention(str(self.path(file)), sample, convention)
        for item in items:
            if item.image not in resized and self._in_pixels(item):
                yield item

    def _in_pixels(self, item: Annotation) -> bool:
        """Turn a box into corners in pixels and return True; report an invalid one and return False."""
        assert item.box is not None and item.convention is not None
        size = None
        if item.convention.whole is not None and (size := self.size(item.image)) is None:
            self.problems.add("unreadable", item.image, "its size is needed to place its boxes")
            return False
        x1, y1, x2, y2 = item.convention.corners(item.box, size)
        if x1 > x2 or y1 > y2:
            shown = ",".join(f"{value:g}" for value in item.box)
            self.problems.add("bad-box", self.where(item.file, item.entry), f"{shown} ({item.convention.text})")
        elif min(x2 - x1, y2 - y1) < MIN_SIDE:
            shown = f"{x2 - x1:.3g} x {y2 - y1:.3g} pixels in {item.image}"
            self.problems.add("tiny-box", self.where(item.file, item.entry), shown)
        else:
            item.box = tuple(float(round(value, 2)) for value in (max(0.0, x1), max(0.0, y1), x2, y2))
            return True
        return False

    def _resized(self, items: Sequence[Annotation]) -> set[str]:
        """Report images of another size than their annotations state; check all of them if one of a sample differs."""
        stated = {item.image: (item.size, item) for item in items if item.size is not None}
        if not any(self._differs(image, stated[image][0]) for image in spread(list(stated), SAMPLE)):
            return set()
        resized = {image for image, (size, _) in stated.items() if self._differs(image, size)}
        for image in sorted(resized):
            size, item = stated[image]
            actual = self.size(image) or (0, 0)
            turned = ", turned by its EXIF data" if size == actual[::-1] else ""
            detail = f"{image}: {size[0]} x {size[1]} in the annotation, {actual[0]} x {actual[1]} here{turned}"
            self.problems.add("other-size", self.where(item.file, item.entry), detail)
        return resized

    def _differs(self, image: str, size: Size) -> bool:
        actual = self.size(image)
        return actual is not None and min(size) > 0 and actual != size


def _other_folders(path: str) -> tuple[str, ...]:
    """Return the folders of a path without those that only group files by kind."""
    return tuple(part for part in fold(path).split("/")[:-1] if part and part not in STRUCTURE)


def _image_tree(source: Source) -> Tree:
    """Return the tree in which the images of a source are looked for."""
    if source.options.image_root is not None:
        return Tree(source.options.image_root)
    if source.path.is_file() and not source.tree.images and source.base.resolve().name.lower() in _ASIDE:
        return Tree(source.base.resolve().parent)
    return source.tree


def _decoded_size(path: Path) -> Size | None:
    """Return the size of an image whose header does not hold it."""

    try:
        height, width = decode_image(path).shape[:2]
    except DataError:
        return None
    return width, height
