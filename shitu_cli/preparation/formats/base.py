"""The rows that a reader of a source format returns, and the helpers that readers share."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

from shitu_cli.data import heif
from shitu_cli.data.header import image_kind, read_header
from shitu_cli.data.images import IMAGE_SUFFIXES, Box, is_image_name
from shitu_cli.errors import ShituError
from shitu_cli.inputs import StrPath, is_input, open_input
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import short_list
from shitu_cli.stores import is_stored, join, read_image

if TYPE_CHECKING:
    from shitu_cli.preparation.formats.source import Source

# "eval": query and gallery at once, each image against all others; "": this program chooses the split.
SPLITS = ("train", "val", "test", "query", "gallery", "eval", "")
# Images of formats that are not read: drawings, pages, negatives of cameras, images of scanners and telescopes.
_OTHER_IMAGES = re.compile(
    r"\.(?:jxl|jxr|svgz?|eps|ai|ico|cur|psd|xcf|pdf|djvu|tga|pcx|dds|exr|hdr|sgi|xbm|xpm|dcm|dicom|nii|fits?|"
    r"raw|cr[23w]|nef|nrw|arw|sr[2fw]|orf|rw2|raf|pef|dng|3fr|iiq|x3f)"
)
_SKIPPED_DIRS = {"__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "#snapshot", "lost+found"}
# Suffixes whose files need not be opened to know that they are not images.
_NO_IMAGES = re.compile(
    r"\.(?:txt|csv|tsv|lst|jsonl?|ndjson|xml|ya?ml|md|html?|py|ipynb|log|ini|mp4|mov|avi|mkv|zip|tar|gz|tgz|7z|rar|xlsx?|"
    r"npy|npz|mat|pkl|bin|db)"
)
MAX_DEPTH = 100  # folders in folders
MAX_HEADER = 1 << 23  # bytes of a file in which its size is looked for: colour profiles and previews may come first


@dataclass
class ReadOptions:
    """How to read a source, as the user says it.

    `columns` maps image, label, split, id, camera, box to column names; `protocol` chooses among official splits;
    `encoding` is that of lists and tables; `depth` the number of folders that make a class. `archives` are those of a
    folder that are read, None for all.
    """

    columns: dict[str, str] = field(default_factory=dict)
    protocol: str | None = None
    image_root: Path | None = None
    encoding: str | None = None
    depth: int | None = None
    archives: frozenset[str] | None = None


class Rows:
    """Labelled images of a source, column by column; paths are below `root`, labels are names.

    `readings` are lines that say how files were read (`train.csv: image = column file, class = column sku`),
    `label_files` the files that hold the labels, relative to the source's base, and `unused` maps files beside them
    to the reason: all are shown to the user. `units` say what the entries of a file are called in messages, such
    as `annotations[{}]`; without one they are lines. `masks` are images, below the source's base, that only paint what
    others show.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        self.ids: dict[int, str] = {}
        self.boxes: dict[int, Box] = {}
        self.files: list[str] = []
        self.lines = array("q")
        self.origins = array("H")  # the source of each row, where several are merged
        self.display: dict[str, str] = {}
        self.readings: list[str] = []
        self.label_files: list[str] = []
        self.unused: dict[str, str] = {}
        self.units: dict[str, str] = {}
        self.masks: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.paths)

    def add(
        self,
        path: str,
        label: str,
        split: str = "",
        *,
        id: str | None = None,
        box: Box | None = None,
        file: str = "",
        line: int = 0,
        origin: int = 0,
    ) -> None:
        """Add an image; `id` is its camera, sequence or the like, `file` and `line` say where it is listed."""
        number = len(self.paths)
        self.paths.append(path)
        self.labels.append(intern(label))
        self.splits.append(split)
        self.files.append(file)
        self.lines.append(line)
        self.origins.append(origin)
        if id is not None:
            self.ids[number] = intern(id)
        if box is not None:
            self.boxes[number] = box

    def add_row(self, other: Rows, number: int, *, path: str, label: str, origin: int) -> None:
        """Add a row of other rows under another path and label."""
        self.add(
            path,
            label,
            other.splits[number],
            id=other.ids.get(number),
            box=other.boxes.get(number),
            file=other.files[number],
            line=other.lines[number],
            origin=origin,
        )

    def extend(
        self, paths: Sequence[str], labels: Sequence[str], splits: Sequence[str], file: str, lines: Sequence[int]
    ) -> None:
        """Add many images of one file at once, without boxes and ids."""
        self.paths.extend(paths)
        self.labels.extend(labels)
        self.splits.extend(splits)
        self.files.extend([file] * len(paths))
        self.lines.extend(lines)
        self.origins.extend([0] * len(paths))

    def where(self, number: int) -> str:
        """Return `file:line`, `file: entry`, or the image itself where no file lists it."""
        file = self.files[number]
        if not file:
            return self.paths[number]
        unit = self.units.get(file)
        return f"{file}:{self.lines[number]}" if unit is None else f"{file}: {unit.format(self.lines[number])}"

    def place(self, number: int) -> str:
        """Return where an image is listed, with its path: `file:line (path)`, or the path alone."""
        listed, path = self.where(number), self.paths[number]
        return listed if listed == path else f"{listed} ({path})"

    def shown(self, label: str) -> str:
        """Return the name of a class by its label."""
        return self.display.get(label, label)

    def location(self, number: int) -> str:
        """Return the location of an image: a file, a member of an archive, or an address (`stores`)."""
        return join(str(self.root), self.paths[number])

    def take(self, numbers: Sequence[int]) -> Rows:
        """Return the rows at `numbers`, in that order."""
        taken = Rows(self.root)
        taken.display, taken.readings = self.display, self.readings
        taken.label_files, taken.unused, taken.units = self.label_files, self.unused, self.units
        for number in numbers:
            path, label, origin = self.paths[number], self.labels[number], self.origins[number]
            taken.add_row(self, number, path=path, label=label, origin=origin)
        return taken


# Where several kinds recognise a source, the labels of the earlier one count. Within a kind all that recognise it must
# agree; data sets are recognised by files that no other has, so the first one reads them.
DATASET, PACKED, ANNOTATIONS, TABLE, FOLDERS = range(5)


@dataclass(frozen=True)
class Format:
    """A layout of labelled images.

    `detect` recognises a source without reading all of it, `read` reads it. `rank` is DATASET for a public
    data set, PACKED for archives that hold images with their labels, ANNOTATIONS for files of an annotation tool (JSON,
    XML, a text file per image), TABLE for lists and tables, FOLDERS where the names of folders are the labels.
    `columns` are the roles of --columns that annotations take: where an image has several attributes, the user says
    which one is the class. Tables take all. `protocols` are the official splits among which --protocol chooses.

    To add one: a file with a Format, named in `formats/__init__.py`. `read` adds a row for each labelled image or box,
    says in `rows.readings` what it took as what, and names the files it used in `rows.label_files`. It reports lines
    that it cannot read to `problems` and never guesses: where two readings are possible it raises UsageError with
    both. Images that a file names are looked up by `source.tree.find`.
    """

    name: str
    layout: str
    detect: Callable[[Source], bool]
    read: Callable[[Source, Problems], Rows]
    rank: int = DATASET
    columns: frozenset[str] = frozenset()
    protocols: tuple[str, ...] = ()


def walk_images(root: Path, problems: Problems) -> Iterator[str]:
    """Yield the images among `walk_files`."""
    return (path for path, is_image in walk_files(root, problems) if is_image)


def walk_files(root: Path, problems: Problems) -> Iterator[tuple[str, bool]]:
    """Yield every file below `root` that is not hidden, sorted, with forward slashes, and whether it is an image.

    The suffix decides, or the first bytes if it is unknown (a.jpg_large, names without suffix). Links are
    followed unless they lead back to a folder above. Folders without any image are reported, the uppermost of each.
    """
    above: set[str] = set()

    def visit(folder: str, prefix: str) -> Generator[tuple[str, bool], None, bool]:
        """Yield the files of a folder; return whether it held any image."""
        real = os.path.realpath(folder)
        if real in above:
            problems.add("link-loop", folder, f"leads to {real}")
            return True  # assumed, as it cannot be looked into
        if len(above) > MAX_DEPTH:
            problems.add("no-access", folder, f"more than {MAX_DEPTH} folders deep")
            return True
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.add("no-access", folder, str(error.strerror or error))
            return True
        above.add(real)
        has_images, empty = False, []
        for entry in ordered:
            if entry.name.startswith(".") or entry.name in _SKIPPED_DIRS:
                if _is_hidden_image(entry):
                    problems.add("hidden", entry.path)
            elif _leads_nowhere(entry):
                problems.add("dead-link", entry.path, f"leads to {os.readlink(entry.path)}")
            elif entry.is_dir():
                if (yield from visit(entry.path, f"{prefix}{entry.name}/")):
                    has_images = True
                else:
                    empty.append(entry.path)
            else:
                kind = _kind_of(entry)
                has_images = has_images or kind == "image"
                if kind in ("other-format", "heic"):
                    problems.add(kind, entry.path)
                yield prefix + entry.name, kind == "image"
        above.discard(real)
        for path in empty if has_images else ():
            problems.add("no-images", path, _content(path))
        return has_images

    if not (yield from visit(str(root), "")):
        problems.add("no-images", str(root), _content(str(root)))


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a link to itself or to something that does not exist."""
    if not entry.is_symlink():
        return False
    try:
        os.stat(entry.path)
    except OSError:
        return True
    return False


def _kind_of(entry: os.DirEntry[str]) -> str:
    """Return image, file, or the kind of problem of an image that is not read here."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES - heif.SUFFIXES:
        return "image"
    if _OTHER_IMAGES.fullmatch(suffix):
        return "other-format"
    if _NO_IMAGES.fullmatch(suffix) or not entry.is_file():
        return "file"
    try:
        with open(entry.path, "rb") as file:
            head = file.read(64)
            kind = image_kind(head)
            # Films and sequences share the container with images, but have no size where images have it.
            if kind == "HEIC" and not read_header(head + file.read(MAX_HEADER)).width:
                return "other-format"
    except OSError:
        return "file"
    if kind == "HEIC" and not heif.is_readable():
        return "heic"
    return "image" if kind is not None or suffix in IMAGE_SUFFIXES else "file"


def upright_size(path: StrPath) -> tuple[int, int] | None:
    """Return width and height of an image as it is shown, from its first bytes; None if these do not hold them."""
    try:
        if is_stored(os.fspath(path)):
            header = read_header(read_image(path))
            return header.upright if header.width else None
        path = Path(path)
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(1 << 16)
            header = read_header(data)
            # The rotation of PNG and WebP may be stored at their end.
            if not header.width or (header.kind in ("PNG", "WebP") and len(data) == 1 << 16):
                header = read_header(data + file.read(MAX_HEADER))
    except (OSError, ShituError):
        return None
    return header.upright if header.width else None


def _is_hidden_image(entry: os.DirEntry[str]) -> bool:
    """Return whether it holds images that a user may miss, unlike what systems hide beside images (._x.jpg)."""
    if entry.name.startswith("._") or entry.name in (*_SKIPPED_DIRS, ".thumbnails", ".ipynb_checkpoints"):
        return False
    try:
        return any(map(is_image_name, os.listdir(entry.path))) if entry.is_dir() else is_image_name(entry.name)
    except OSError:
        return False


def _content(folder: str) -> str:
    """Return what a folder without images holds instead."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return str(error.strerror or error)
    return f"holds {short_list(names)}" if names else "empty"


def first_bytes(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a file, to recognise a format by; empty if it cannot be read."""
    if not is_input(path):
        return b""
    try:
        with open_input(path) as file:
            return file.read(size)
    except (ShituError, OSError):
        return b""


def whole_label(label: str) -> str:
    """Return a label without the .0 that programs append to whole numbers."""
    whole, _, zeros = label.partition(".")
    return whole if zeros and not zeros.strip("0") and whole.removeprefix("-").isdigit() else label
