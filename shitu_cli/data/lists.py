"""Image lists: `path<TAB>label[<TAB>id[<TAB>x1,y1,x2,y2]]` on each line, stored compactly for millions of lines."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from shitu_cli.errors import Command, DataError
from shitu_cli.files import atomic_write
from shitu_cli.inputs import StrPath, box_of, read_lines, read_text, whole_number
from shitu_cli.reporting import counted, shortened
from shitu_cli.stores import join

MAX_SHOWN = 50
CHUNK = 1 << 14  # images whose paths or lines are put together at a time


@dataclass
class ImageList:
    """Images with dense labels.

    `labels` int64 [N] (-1: no class, in a gallery only); `ids` int64 [N] or None: camera or sequence, images of
    one label and one id are not compared; `boxes` float32 [N, 4] x1, y1, x2, y2 in pixels or None; a row of NaN
    means the whole image. `lines` int32 [N] are their lines in `source`, counted from 1.
    """

    labels: np.ndarray
    ids: np.ndarray | None = None
    boxes: np.ndarray | None = None
    source: Path | None = None
    lines: np.ndarray | None = None
    _text: bytes = field(default=b"", repr=False)
    _offsets: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64), repr=False)

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        ids: Sequence[int] | np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        source: Path | None = None,
        lines: np.ndarray | None = None,
    ) -> ImageList:
        """Return a list with these columns, all of one length."""
        text, lengths = bytearray(), array("q", [0])
        for start in range(0, len(paths), CHUNK):
            chunk = paths[start : start + CHUNK]
            whole = "".join(chunk)
            text += whole.encode("utf-8", "surrogateescape")
            lengths.extend(
                map(len, chunk if whole.isascii() else (p.encode("utf-8", "surrogateescape") for p in chunk))
            )
        as_ids = None if ids is None else np.asarray(ids, np.int64)
        as_boxes = None if boxes is None else np.asarray(boxes, np.float32).reshape(-1, 4)
        return cls(np.asarray(labels, np.int64), as_ids, as_boxes, source, lines, bytes(text), np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Return the path as written in the list."""
        start, stop = self._offsets[index], self._offsets[index + 1]
        return self._text[start:stop].decode("utf-8", "surrogateescape")

    def paths(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the paths from the image `start` to before `stop`, as written in the list."""
        ends = self._offsets[start : None if stop is None else stop + 1].tolist()
        return [self._text[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(ends)]

    def location(self, index: int, image_root: str | os.PathLike[str]) -> str:
        """Return the location of the image (`stores`); relative paths are below `image_root`."""
        return join(os.fspath(image_root), self.path(index))

    def box(self, index: int) -> tuple[float, float, float, float] | None:
        """Return the box of the image in pixels, None for the whole image."""
        if self.boxes is None or np.isnan(self.boxes[index, 0]):
            return None
        x1, y1, x2, y2 = (float(value) for value in self.boxes[index])
        return x1, y1, x2, y2

    def place(self, index: int) -> str:
        """Return where the image is listed, for messages: `lists/train_list.txt:12`, or its number without a file."""
        if self.source is None or self.lines is None:
            return f"image {index + 1}"
        return f"{self.source}:{self.lines[index]}"

    def take(self, indices: Sequence[int] | np.ndarray) -> ImageList:
        """Return the images at `indices`, in that order."""
        rows = np.asarray(indices, np.int64)
        ids = None if self.ids is None else self.ids[rows]
        boxes = None if self.boxes is None else self.boxes[rows]
        lines = None if self.lines is None else self.lines[rows]
        return ImageList.of([self.path(i) for i in rows], self.labels[rows], ids, boxes, self.source, lines)


def read_list(path: Path, *, delimiter: str | None = None) -> ImageList:
    """Read a list of this program or of PaddleClas (separated by tab, else by the last spaces).

    `delimiter` forces a separator. Raises DataError with every malformed line as `file:line: reason`.
    """
    path = Path(path)
    text = read_lines(path, keep_bytes=True, hint=[Command("prepare", "./data"), " writes the lists"])
    paths: list[str] = []
    labels: list[int] = []
    ids: list[int] = []
    lines = array("i")
    boxes: dict[int, tuple[float, ...]] = {}
    problems: list[str] = []
    with_ids = False
    for number, line in enumerate(text, 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        try:
            name, rest = _columns(line, delimiter)
            label = _integer(rest[0], "label")
            image_id = -1 if len(rest) < 2 or rest[1] == "-" else _integer(rest[1], "id")
            if len(rest) == 3:
                boxes[len(paths)] = _box(rest[2])
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        with_ids |= len(rest) > 1 and rest[1] != "-"
        paths.append(name)
        labels.append(label)
        ids.append(image_id)
        lines.append(number)
    if problems:
        raise DataError(
            f"{path}: {len(problems)} of {len(problems) + len(paths)} lines cannot be read",
            details=shortened(problems, MAX_SHOWN),
            hint=["write path<TAB>label on each line, or let ", Command("prepare", "./data"), " write the lists"],
        )
    corners = None
    if boxes:
        corners = np.full((len(paths), 4), np.nan, np.float32)
        for index, box in boxes.items():
            corners[index] = box
    return ImageList.of(paths, labels, ids if with_ids else None, corners, path, np.array(lines, np.int32))


def _columns(line: str, delimiter: str | None) -> tuple[str, list[str]]:
    """Return the path and the columns after it: label, id, box."""
    if delimiter is None and "\t" not in line:
        # Without tabs the path may hold spaces: the numbers at the end are the columns.
        words = line.strip().split(" ")
        tail: list[str] = []
        while len(words) > 1 and len(tail) < 2 and whole_number(words[-1], signed=True) is not None:
            tail.insert(0, words.pop())
        name = " ".join(words).rstrip()
        if not tail:
            raise ValueError(f"expected path and label, got {line.strip()[:80]!r}")
        return name, tail
    path, *rest = line.split(delimiter or "\t")
    # Between tabs, spaces at the ends of the path belong to it.
    parts = [path.strip() if delimiter else path, *(part.strip() for part in rest)]
    if not 2 <= len(parts) <= 4 or not parts[0]:
        raise ValueError(f"expected path, label[, id[, box]], got {len(parts)} column{'s' if len(parts) != 1 else ''}")
    return parts[0], parts[1:]


def _integer(text: str, what: str) -> int:
    number = whole_number(text, signed=True)
    if number is None:
        raise ValueError(f"{what} {text[:40]!r} is not a whole number")
    return number


def _box(text: str) -> tuple[float, ...]:
    box = box_of(text)
    if box is None or not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"box {text[:60]!r} is not x1,y1,x2,y2 with x1 < x2 and y1 < y2")
    return box


def write_list(path: Path, images: ImageList) -> None:
    """Write a list for `read_list`, whole or not at all; DataError for a path with a tab or a line break."""
    with atomic_write(path) as file:
        for start in range(0, len(images), CHUNK):
            names = images.paths(start, start + CHUNK)
            labels = images.labels[start : start + CHUNK].tolist()
            lines = [f"{name}\t{label}" for name, label in zip(names, labels, strict=True)]
            if images.ids is not None or images.boxes is not None:
                lines = [line + _id_and_box(images, number) for number, line in enumerate(lines, start)]
            for name in names:
                if "\t" in name or "\n" in name or "\r" in name:
                    raise DataError(
                        f"{name!r}: a list cannot hold a file name with a tab or a line break", hint="rename the file"
                    )
            file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _id_and_box(images: ImageList, index: int) -> str:
    """Return the columns after the label, each with the tab before it; an id of `-` means none."""
    box = images.box(index)
    if images.ids is None and box is None:
        return ""
    columns = f"\t{images.ids[index]}" if images.ids is not None else "\t-"
    return columns if box is None else f"{columns}\t{','.join(f'{value:g}' for value in box)}"


def read_label_map(path: Path) -> dict[str, int]:
    """Return class name → dense label, in the order of the file; DataError names the malformed lines."""
    return parse_label_map(read_text(path, keep_bytes=True), path)


def parse_label_map(text: str, path: StrPath) -> dict[str, int]:
    """Return the names and labels of the text of a label map as `read_label_map` does; `path` is for messages."""
    names: dict[str, int] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        label, separator, name = line.removesuffix("\r").partition("\t")
        if not separator and " " in line:
            label, separator, name = line.removesuffix("\r").partition(" ")
        number_of = whole_number(label, signed=True)
        if not separator or number_of is None:
            problems.append(f"{path}:{number}: expected label<TAB>name, got {line[:80]!r}")
        elif name in names:
            problems.append(f"{path}:{number}: {name!r} has label {names[name]} already")
        else:
            names[name] = number_of
    if problems:
        raise DataError(
            f"{path}: {counted(len(problems), 'line')} cannot be read", details=shortened(problems, MAX_SHOWN)
        )
    return names


def is_distractor(label: str) -> bool:
    """Return whether a label marks images of no class, which only a gallery may hold."""
    return label == "-1"


def class_names(list_path: Path) -> dict[int, str]:
    """Return label → class name from the label map beside a list; empty if there is none.

    Raises DataError for a label of two names.
    """
    path = list_path.with_name("label_map.txt")
    names: dict[int, str] = {}
    for name, number in read_label_map(path).items() if path.is_file() else ():
        if (other := names.setdefault(number, name)) != name:
            raise DataError(
                f"{path}: the label {number} has two names, {other!r} and {name!r}",
                hint="remove the line with the wrong name",
            )
    return names


def write_label_map(path: Path, names: Mapping[str, int]) -> None:
    """Write `label<TAB>name` lines, ordered by label."""
    with atomic_write(path) as file:
        for name, label in sorted(names.items(), key=lambda item: item[1]):
            file.write(f"{label}\t{name}\n".encode("utf-8", "surrogateescape"))


def relative_to(path: str | os.PathLike[str], root: Path) -> str:
    """Return `path` relative to `root` with forward slashes, or unchanged if it is not below it."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return Path(path).as_posix()
