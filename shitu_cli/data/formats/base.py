"""What a reader of a source format returns, and the helpers that readers share."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

from shitu_cli.data.images import IMAGE_SUFFIXES
from shitu_cli.data.problems import Problems
from shitu_cli.errors import DataError

Box = tuple[float, float, float, float]
# "eval": query and gallery at once, each picture against all others; "" leaves the split to this program.
SPLITS = ("train", "val", "test", "query", "gallery", "eval", "")
_OTHER_PICTURES = {".heic", ".heif", ".jxl", ".svg", ".ico", ".psd", ".raw", ".cr2", ".nef", ".dng", ".pdf"}
_SKIPPED_DIRS = {"__MACOSX", "@eaDir"}


@dataclass
class ReadOptions:
    """`columns` maps image, label, split, id, box to column names; `protocol` chooses among official splits."""

    columns: dict[str, str] = field(default_factory=dict)
    protocol: str | None = None
    image_root: Path | None = None


class Rows:
    """Labelled pictures of a source, column by column; paths are below `root`, labels are names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        self.ids: dict[int, str] = {}
        self.boxes: dict[int, Box] = {}
        self.files: list[str] = []
        self.lines = array("q")
        self.display: dict[str, str] = {}
        self._ids_for_all = 0

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
    ) -> None:
        """One picture; `id` is its camera, sequence or the like, `file` and `line` say where it is listed."""
        number = len(self.paths)
        self.paths.append(path)
        self.labels.append(intern(label))
        self.splits.append(split)
        self.files.append(file)
        self.lines.append(line)
        if id is not None:
            self.ids[number] = intern(id)
        if box is not None:
            self.boxes[number] = box

    def where(self, number: int) -> str:
        """`file:line`, or the picture itself."""
        return f"{self.files[number]}:{self.lines[number]}" if self.files[number] else self.paths[number]

    def take(self, numbers: list[int]) -> Rows:
        """The rows at `numbers`, in that order."""
        taken = Rows(self.root)
        taken.display = self.display
        for number in numbers:
            taken.add(
                self.paths[number],
                self.labels[number],
                self.splits[number],
                id=self.ids.get(number),
                box=self.boxes.get(number),
                file=self.files[number],
                line=self.lines[number],
            )
        return taken


@dataclass(frozen=True)
class Format:
    """`detect` looks whether a directory (or file) is of this format, `read` reads it."""

    name: str
    layout: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, Problems, ReadOptions], Rows]


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def walk_images(root: Path, problems: Problems) -> Iterator[str]:
    """Paths of files with a picture's name below `root`, sorted, with forward slashes.

    Links are followed unless they lead back to a folder above. Folders without any picture are reported, the uppermost
    of each.
    """
    above: set[str] = set()

    def visit(folder: str, prefix: str) -> Generator[str, None, bool]:
        """Whether it held any picture."""
        real = os.path.realpath(folder)
        if real in above:
            problems.add("link-loop", folder, f"leads to {real}")
            return True  # as far as one can tell
        above.add(real)
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        found, empty = False, []
        for entry in ordered:
            if entry.name.startswith(".") or entry.name in _SKIPPED_DIRS:
                if _is_hidden_picture(entry):
                    problems.add("hidden", entry.path)
                continue
            if entry.is_dir():
                if (yield from visit(entry.path, f"{prefix}{entry.name}/")):
                    found = True
                else:
                    empty.append(entry.path)
            elif is_image_name(entry.name):
                found = True
                yield prefix + entry.name
            elif os.path.splitext(entry.name)[1].lower() in _OTHER_PICTURES:
                problems.add("other-format", entry.path)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                problems.add("dead-link", entry.path, f"leads to {os.readlink(entry.path)}")
        above.discard(real)
        for path in empty if found else ():
            problems.add("no-pictures", path, _content(path))
        return found

    if not (yield from visit(str(root), "")):
        problems.add("no-pictures", str(root), _content(str(root)))


def _is_hidden_picture(entry: os.DirEntry[str]) -> bool:
    """Whether it holds pictures that a user may miss; what systems hide beside pictures (._x.jpg) is none."""
    if entry.name.startswith("._") or entry.name in (*_SKIPPED_DIRS, ".thumbnails", ".ipynb_checkpoints"):
        return False
    return any(map(is_image_name, os.listdir(entry.path))) if entry.is_dir() else is_image_name(entry.name)


def _content(folder: str) -> str:
    """What a folder without pictures holds instead."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return f"holds {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "empty"


def read_text(path: Path, problems: Problems) -> str:
    """A list's text in whatever encoding it has; DataError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        problems.add("encoding", str(path), "UTF-16")
        return data.decode("utf-16", "replace").lstrip("\ufeff")
    try:
        return data.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError:
        pass
    if _mostly_utf8(data):  # some file names are of another encoding: they are kept byte for byte
        return data.decode("utf-8", "surrogateescape").lstrip("\ufeff")
    for encoding in ("gb18030", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        problems.add("encoding", str(path), encoding)
        return text
    raise AssertionError("latin-1 decodes everything")


def _mostly_utf8(data: bytes) -> bool:
    """Whether more of the lines that are not plain ASCII are UTF-8 than not."""
    balance = 0
    for line in data.split(b"\n"):
        if not line.isascii():
            try:
                line.decode("utf-8")
                balance += 1
            except UnicodeDecodeError:
                balance -= 1
    return balance > 0


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text one by one: a list of them all would hold a long file twice."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    if start < len(text):
        yield text[start:]


def whole_label(label: str) -> str:
    """Spreadsheets write whole numbers as 3.0."""
    return label[:-2] if label.endswith(".0") and label[:-2].isdigit() else label


def find_folder(root: Path, *names: str) -> Path | None:
    """`root` itself or a folder up to two levels below that holds all `names`."""
    candidates = [root, *sorted(p for p in root.glob("*") if p.is_dir()), *sorted(root.glob("*/*/"))]
    for folder in candidates:
        if all((folder / name).exists() for name in names):
            return folder
    return None
