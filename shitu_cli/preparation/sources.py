"""Images that a user names on the command line: files, folders, lists, patterns."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.data.images import is_image_name, with_box
from shitu_cli.data.lists import class_names, is_distractor, read_list
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.inputs import path_problem
from shitu_cli.reporting import counted, short_list
from shitu_cli.stores import address_of, is_archive, is_stored, real, split_location
from shitu_cli.workspace import CONFIG_NAME, Workspace

if TYPE_CHECKING:  # loading all readers takes longer than searching for one image, which needs none
    from shitu_cli.preparation.formats.base import Box, Format, Rows
    from shitu_cli.preparation.problems import Problems


@dataclass
class ImageFiles:
    """Files with their labels ("" where none is known) and boxes (None: the whole image)."""

    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    boxes: list[Box | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def add(self, file: str | Path, label: str = "", box: Box | None = None) -> None:
        """Add an image; one of no class (a distractor of a gallery) gets no label, which a search would answer with."""
        self.files.append(str(file))
        self.labels.append("" if is_distractor(label) else label)
        self.boxes.append(box)

    def extend(self, others: ImageFiles) -> None:
        self.files += others.files
        self.labels += others.labels
        self.boxes += others.boxes

    def take(self, numbers: Sequence[int]) -> ImageFiles:
        """Return the images at `numbers`, in that order."""
        chosen = ImageFiles()
        for n in numbers:
            chosen.add(self.files[n], self.labels[n], self.boxes[n])
        return chosen

    def described(self) -> str:
        """Return how many there are, and of which labels: 60 images of 6 labels."""
        labels = set(self.labels)
        count = counted(len(self), "image")
        if labels == {""}:
            return f"{count} without label"
        if len(labels) == 1:
            return f"{count} of label {labels.pop()}"
        unknown = f" ({self.labels.count(''):,} without)" if "" in labels else ""
        return f"{count} of {counted(len(labels - {''}), 'label')}{unknown}"

    def name(self, number: int) -> str:
        """Return the file, with its box where it has one, so that parts of one image have different names."""
        return with_box(self.files[number], self.boxes[number])


def find_images(
    sources: Sequence[str],
    image_root: Callable[[Path], str | None] = lambda path: None,
    *,
    folder_labels: bool = True,
    workspace: Workspace | None = None,
) -> ImageFiles:
    """Return all images of files, folders, lists (`path label`) and glob patterns, in order.

    Args:
        sources: What the user names.
        image_root: Where the paths of a list of the workspace count from, None for other lists.
        folder_labels: Give images that no list labels the label of `folder_label`, else none.
        workspace: Folders and lists are read with the options that `prepare` remembers for them there.

    Raises UsageError for a source that is not there or holds no image, DataError for a list with lines that cannot be
    read.
    """
    finder = _Finder(image_root, folder_labels, workspace)
    for source in sources:
        before = len(finder.images)
        try:
            finder.add(source)
        except (OSError, ValueError) as error:  # over-long names, looped links, characters that no path can have
            raise path_problem(source, error, error=UsageError) from None
        if len(finder.images) == before:
            raise UsageError(f"no images in {source}")
    return finder.images


@dataclass
class _Finder:
    """Collects the images of sources."""

    image_root: Callable[[Path], str | None]
    folder_labels: bool
    workspace: Workspace | None
    images: ImageFiles = field(default_factory=ImageFiles)

    def add(self, source: str) -> None:
        path = Path(source)
        if is_stored(source) and is_image_name(source):
            self.images.add(source, _stored_label(source) if self.folder_labels else "")
        elif (is_archive(source) and path.is_file()) or address_of(source) is not None:
            self._add_archives(path)
        elif path.is_dir():
            self._add_folder(path)
        elif path.suffix.lower() in (".txt", ".csv", ".tsv", ".lst") and path.is_file():
            self._add_list(path)
        elif path.is_file():
            self.images.add(path, folder_label(path) if self.folder_labels else "")
        else:
            matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]
            folders = [match for match in matches if "**" not in source and match.is_dir()]
            files = [match for match in matches if is_image_name(match.name) and match.is_file()]
            archives = [match for match in matches if is_archive(match) and match.is_file()]
            if not folders and not files and not archives:
                raise UsageError(f"no such image, folder or list: {source}")
            for archive in archives:
                self._add_archives(archive)
            for folder in folders:
                self._add_folder(folder)
            for file in files:
                self.images.add(file, folder_label(file) if self.folder_labels else "")

    def _add_folder(self, folder: Path) -> None:
        """Add all images of a folder, with the labels and boxes that `prepare` reads; others by their folder."""
        from shitu_cli.preparation.formats.base import FOLDERS, walk_images
        from shitu_cli.preparation.problems import Problems

        names = list(walk_images(folder, Problems()))
        if not names:
            self._add_archives(folder)
            return
        if not self.folder_labels:
            for name in names:
                self.images.add(folder / name)
            return
        chosen, rows, left_out = self._as_prepare_reads(folder)
        numbers: dict[str, list[int]] = {}
        for number, place in enumerate(_places(rows)):
            numbers.setdefault(place, []).append(number)
        for name, place in zip(names, _below(os.path.realpath(folder), names), strict=True):
            for number in numbers.get(place, ()):
                self.images.add(folder / name, rows.shown(rows.labels[number]), rows.boxes.get(number))
            if place not in numbers and place not in left_out:
                # What a table or annotations leave out has no label.
                by_place = chosen is None or chosen.rank == FOLDERS
                self.images.add(folder / name, folder_label(folder / name, folder) if by_place else "")

    def _as_prepare_reads(self, folder: Path) -> tuple[Format | None, Rows, set[str]]:
        """Return the format and the rows of a folder, and the places of images that corrections leave out and of masks.

        There are no rows for a folder without labels, such as a single class folder.
        """
        from shitu_cli.preparation.formats.base import Rows
        from shitu_cli.preparation.formats.source import Source
        from shitu_cli.preparation.problems import Problems

        tree = Source(folder).tree
        if folder.is_dir() and all("/" not in path for path in tree.images) and not tree.files:
            return None, Rows(folder), set()
        try:
            chosen, rows, corrected = self._read(folder, Problems())
        except UsageError as error:
            once = f"{error.hint}; say it once, and it is remembered: "
            raise UsageError(
                error.message,
                details=error.details,
                hint=[once, Command("prepare", folder), " with that option"],
            ) from None
        left_out = set(_places(rows)).difference(_places(corrected)) if corrected is not rows else set()
        return chosen, corrected, left_out.union(_below(os.path.realpath(folder), sorted(rows.masks)))

    def _read(self, path: Path, problems: Problems) -> tuple[Format, Rows, Rows]:
        """Return the format of a source, and its rows without and with corrections, as `prepare` last read it.

        A source that was merged with others is read with them: the names of its classes, and the images that
        corrections mean, depend on all of them.
        """
        from shitu_cli.preparation.choices import Choices
        from shitu_cli.preparation.corrections import apply_corrections
        from shitu_cli.preparation.formats import read_source
        from shitu_cli.preparation.formats.source import Source
        from shitu_cli.preparation.last_options import name_in, reading_of
        from shitu_cli.preparation.reading import read_sources

        choices, sources = reading_of(self.workspace, path) if self.workspace else (Choices(), [path])
        if len(sources) == 1:
            chosen, rows = read_source(Source(path, choices.read), problems, choices.format)
        else:
            rows, formats = read_sources(sources, choices, problems)
        corrected = rows if choices.corrections is None else apply_corrections(rows, choices.corrections, sources)[0]
        if len(sources) == 1:
            return chosen, rows, corrected
        if len(formats) < len(sources):  # shards of one data set: the location says which image is of which
            return formats[0], rows, corrected
        assert self.workspace is not None
        origin = [name_in(self.workspace, source) for source in sources].index(name_in(self.workspace, path))
        parts = [part.take([n for n in range(len(part)) if part.origins[n] == origin]) for part in (rows, corrected)]
        return formats[origin], parts[0], parts[1]

    def _add_archives(self, path: Path) -> None:
        """Add all images of an archive, of a folder of such, or of an address, with the labels that `prepare` reads."""
        from shitu_cli.preparation.formats.archives import ARCHIVES, stored_images
        from shitu_cli.preparation.formats.base import Rows
        from shitu_cli.preparation.formats.source import Source

        source = Source(path)
        if not ARCHIVES.detect(source):
            return
        rows, left_out = Rows(path), set[str]()
        if self.folder_labels:
            _, rows, left_out = self._as_prepare_reads(path)
        numbers: dict[str, list[int]] = {}
        for number in range(len(rows)):
            numbers.setdefault(real(rows.location(number)), []).append(number)
        for location in stored_images(source):
            place = real(location)
            for number in numbers.get(place, ()):
                self.images.add(location, rows.shown(rows.labels[number]), rows.boxes.get(number))
            if place not in numbers and place not in left_out:
                self.images.add(location)

    def _add_list(self, path: Path) -> None:
        from shitu_cli.preparation.problems import Problems

        if path.name == "label_map.txt":
            raise UsageError(f"{path} is a list of classes, not of images", hint="name a list or folder of images")
        image_root = self.image_root(path)
        if image_root is not None:  # one of our own: its columns are separated by tabs, whatever the names hold
            self.images.extend(images_of_list(path, image_root))
            return
        problems = Problems()
        _, _, rows = self._read(path, problems)
        errors = [(kind, cases) for _, kind, cases in problems.ordered() if kind.level == "error"]
        bad = [f"{where}: {detail or kind.text}" for kind, cases in errors for where, detail in cases.examples]
        if bad:
            ways = dict.fromkeys(kind.fix.partition("; or --fix")[0] for kind, _ in errors)
            raise DataError(
                f"{path}: {counted(problems.count('error'), 'line')} cannot be used",
                details=bad[:20],
                hint="; ".join(ways),
            )
        for number, label in enumerate(rows.labels):
            self.images.add(rows.location(number), rows.shown(label), rows.boxes.get(number))


def _places(rows: Rows) -> list[str]:
    """Return the real locations of the images of rows, however their folder is spelt."""
    root = str(rows.root)
    if is_stored(root) or any(map(is_stored, rows.paths)):
        return [real(rows.location(number)) for number in range(len(rows))]
    return _below(os.path.realpath(root), rows.paths)


def _below(root: str, paths: Sequence[str]) -> list[str]:
    return [os.path.normpath(os.path.join(root, path)) for path in paths]


def _stored_label(location: str) -> str:
    """Return the label of a member or of an image at an address: the name of its folder."""
    place, member = split_location(location)
    return posixpath.basename(posixpath.dirname(member or place.partition("://")[2]))


def folder_label(image: Path, root: Path | None = None) -> str:
    """Return the label of an image by its folder: the path from `root` to it, else its name.

    So `data/Leek`, `data/Leek/`, `data/Leek/*.jpg`, `.` inside of it and absolute paths all give Leek. A workspace, a
    home directory and the root of the file system are not classes: "".
    """
    folder = Path(os.path.abspath(image)).parent
    if root is not None and (below := os.path.relpath(folder, os.path.abspath(root))) != os.curdir:
        return below.replace(os.sep, "/")
    if (folder / CONFIG_NAME).is_file() or str(folder) == os.path.expanduser("~"):
        return ""
    return folder.name


def images_of_list(listed: Path, image_root: str) -> ImageFiles:
    """Return the images of a list as training reads it, with the names of their classes."""
    images, names = read_list(listed), class_names(listed)
    nameless = [n for n in sorted({*images.labels.tolist()} - names.keys()) if n >= 0] if names else []
    if nameless:
        path, numbers = listed.with_name("label_map.txt"), short_list(map(str, nameless))
        raise DataError(
            f"{path} has no name for the labels {numbers} of {listed}",
            hint="add a line for each: the number, a tab and the name",
        )
    files = ImageFiles()
    for n in range(len(images)):
        number = int(images.labels[n])
        files.add(images.location(n, image_root), names.get(number, str(number)), images.box(n))
    return files
