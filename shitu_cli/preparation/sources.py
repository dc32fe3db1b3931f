"""Pictures that a user names on the command line: files, folders, lists, patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shitu_cli.data.lists import class_names
from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.formats.base import Box, ReadOptions, is_image_name, walk_images
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.textlist import TEXT_LIST
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted


@dataclass
class Pictures:
    """Files with their labels ("" where none is known) and boxes (None: the whole picture)."""

    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    boxes: list[Box | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def add(self, file: str | Path, label: str = "", box: Box | None = None) -> None:
        self.files.append(str(file))
        self.labels.append(label)
        self.boxes.append(box)

    def take(self, numbers: Sequence[int]) -> Pictures:
        """The pictures at `numbers`, in that order."""
        chosen = Pictures()
        for n in numbers:
            chosen.add(self.files[n], self.labels[n], self.boxes[n])
        return chosen

    def described(self) -> str:
        """How many there are, and of which labels: 60 pictures of 6 labels."""
        labels = set(self.labels)
        count = counted(len(self), "picture")
        if labels == {""}:
            return f"{count} without label"
        if len(labels) == 1:
            return f"{count} of label {labels.pop()}"
        unknown = f" ({self.labels.count(''):,} without)" if "" in labels else ""
        return f"{count} of {counted(len(labels - {''}), 'label')}{unknown}"

    def name(self, number: int) -> str:
        """The file, with its box where it has one: parts of one picture are told apart."""
        box = self.boxes[number]
        return self.files[number] if box is None else f"{self.files[number]}#{','.join(f'{v:g}' for v in box)}"


def find_pictures(sources: Sequence[str], image_root: Callable[[Path], Path | None] = lambda path: None) -> Pictures:
    """All pictures of files, folders, lists (`path label`) and glob patterns, in order.

    The label of a picture in a folder is the path from that folder to the one it lies in; directly inside, the
    folder's own name. `image_root` tells where the paths of a list of the workspace count from, None for other lists.
    Raises UsageError for a source that is not there, DataError for a list with lines that cannot be read.
    """
    found = Pictures()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            before = len(found)
            for name in walk_images(path, Problems()):
                found.add(path / name, name.rpartition("/")[0] or os.path.basename(os.path.abspath(path)))
            if len(found) == before:
                raise UsageError(f"no pictures in {source}")
        elif path.suffix.lower() in (".txt", ".csv", ".tsv", ".lst") and path.is_file():
            _add_list(path, found, image_root(path))
        elif path.is_file():
            found.add(path)
        else:
            matches = [m for m in sorted(glob.glob(source, recursive=True)) if is_image_name(m)]
            if not matches:
                raise UsageError(f"no such picture, folder or list: {source}")
            for match in matches:
                found.add(match)
    return found


def _add_list(path: Path, found: Pictures, image_root: Path | None) -> None:
    problems = Problems()
    rows = TEXT_LIST.read(Source(path, ReadOptions(image_root=image_root)), problems)
    bad = [
        f"{where}: {detail}"
        for _, kind, cases in problems.ordered()
        if kind.level == "error"
        for where, detail in cases.examples
    ]
    if bad:
        raise DataError(f"{path}: {counted(problems.count('error'), 'line')} cannot be read", details=bad[:20])
    names = rows.display
    if image_root is not None:
        names = {str(number): name for number, name in class_names(path).items()}
    for number in range(len(rows)):
        label = rows.labels[number]
        found.add(os.path.join(rows.root, rows.paths[number]), names.get(label, label), rows.boxes.get(number))
