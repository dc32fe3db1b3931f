"""YOLO detection and segmentation: a .txt for each image, `class x y width height` or a polygon, in shares of it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Any

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.inputs import MIB, whole_number
from shitu_cli.inputs.yaml_files import read_yaml
from shitu_cli.preparation.formats.annotations import Annotations
from shitu_cli.preparation.formats.base import whole_label
from shitu_cli.preparation.formats.boxes import CXCYWH_SHARE, XYXY_SHARE, around_flat, numbers
from shitu_cli.preparation.formats.discovery import annotation_files
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.formats.source import Source, bare_name, plain_path, without_suffix
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.formats.text_files import read_lines
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, per_file
from shitu_cli.preparation.formats.values import label_text, list_of, object_of

_OBJECT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*\d{1,6}(?:\.0+)?(?:[ \t]+-?\d*\.?\d+(?:e[+-]?\d+)?){4,}[ \t\r]*(?:\n|$)", re.I
)
_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "names.txt", "predefined_classes.txt")
_LISTS = re.compile(r"(?:.*/)?(?:train|trainval|val|valid|validation|test)\.txt", re.I)
_SPLIT_KEYS = ("train", "val", "test", "valid")


def _files(source: Source) -> list[str]:
    """Return the .txt files that carry an image's name, also where the source is the config beside them."""
    if source.path.is_file():
        return [f for f in source.tree.files if f.lower().endswith(".txt")] if _is_config(source) else []
    names = {path.rpartition("/")[2] for path in source.tree.images}
    names |= {without_suffix(name) for name in names}
    return [file for file in annotation_files(source, ".txt") if bare_name(file) in names]


def _is_config(source: Source) -> bool:
    head = source.head(source.path.name) if source.path.suffix.lower() in (".yaml", ".yml") else b""
    return b"names" in head and b"train" in head


def _read(annotations: Annotations, files: Sequence[str]) -> None:
    config = _Config(annotations)
    annotations.remarks.append(config.remark)
    per_file(lambda file: _read_image(file, config))(annotations, files)


def _read_image(file: AnnotationFile, config: _Config) -> None:
    image = file.own_image()
    if image is None:
        return
    image.split = config.split(image.path)
    lines = list(read_lines(file.path, file.problems))
    if not lines:
        file.problems.add("no-objects", str(file.path), image.path)
    for number, line in lines:
        first, *rest = line.split()
        values, label = numbers(rest), whole_number(whole_label(first), digits=6)
        if label is None or values is None:
            image.bad(f"expected class x y width height, got {line[:60]!r}", number)
        elif config.names and label not in config.names:
            image.bad(f"class {first}: there are names for 0 to {max(config.names)}", number)
        elif len(values) in (4, 4 + config.key_points):
            image.box(config.names.get(label, label), values[:4], CXCYWH_SHARE, "", number)
        else:
            otherwise = f"{len(values)} numbers after the class: a box has 4, a polygon x y of 3 points or more"
            if len(values) == 5:  # what a detector found is no label until somebody has looked at it
                otherwise += "; if the fifth is a detector's confidence, check the boxes and take that number away"
            image.box(config.names.get(label, label), around_flat(values, 3), XYXY_SHARE, otherwise, number)


class _Config:
    """The settings beside the labels: `names` of classes by number, splits, how many key point numbers follow a box.

    They come from a YAML such as data.yaml, else from classes.txt or the like and from Darknet's lists. `remark` says
    where the names are from. Raises UsageError if several files differ, DataError if two classes have one name.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.file, self.value = self._find()
        self.names, self.remark = self._class_names()
        shape = list_of(self.value.get("kpt_shape"))  # [17, 3]: 51 numbers
        is_shape = len(shape) == 2 and all(isinstance(n, int) and 0 < n < 1000 for n in shape)
        self.key_points = int(shape[0] * shape[1]) if is_shape else 0
        self._splits = self._split_places()

    def split(self, image: str) -> str:
        """Return the split whose folder or list is stated, the innermost folder first; "" leaves it to the folders."""
        place = image
        while place and place not in self._splits:
            place = place.rpartition("/")[0]
        return self._splits.get(place, "")

    def _find(self) -> tuple[str, dict[str, Any]]:
        """Return the YAML with names and splits, "" without one."""
        configs: dict[str, dict[str, Any]] = {}
        for file in annotation_files(self.annotations.source, ".yaml", ".yml")[:200]:
            head = self.annotations.source.head(file)
            if b"names" in head or b"train" in head:
                value = object_of(read_yaml(self.annotations.path(file), limit=4 * MIB))
                if "names" in value or {"train", "val"} <= value.keys():
                    configs[file] = value
        files = sorted(configs, key=lambda name: (name.count("/"), "data" not in name.lower(), name))
        if len({str(_names_of(value)) for value in configs.values()}) > 1:
            raise UsageError(
                f"{' and '.join(sorted(files)[:3])} name the classes differently: which of them counts?",
                hint=["name it: ", Command("prepare", self.annotations.path(min(files)))],
            )
        return (files[0], configs[files[0]]) if files else ("", {})

    def _class_names(self) -> tuple[dict[int, str], str]:
        by_file = {self.file: _names_of(self.value)} if _names_of(self.value) else self._name_files()
        if not by_file:
            return {}, "no names of classes (data.yaml, classes.txt, obj.names): classes are called by their numbers"
        file, names = min(by_file.items())
        if any(other != names for other in by_file.values()):
            raise UsageError(
                f"{' and '.join(sorted(by_file)[:3])} name the classes differently: which of them counts?",
                details=[f"{file}: {', '.join(list(by_file[file].values())[:6])}" for file in sorted(by_file)[:5]],
                hint="move the others away",
            )
        first: dict[str, int] = {}
        for number, name in names.items():
            if (other := first.setdefault(name, number)) != number:
                path = self.annotations.path(file)
                raise DataError(
                    f"{path}: classes {other} and {number} are both called {name!r}",
                    hint="give each class a name of its own in that file",
                )
        others = [other for other, listed in self._name_files().items() if file == self.file and listed != names]
        unlike = f"; those of {', '.join(others)}, which differ, are not used" if others else ""
        return names, f"{file}: names of {len(names)} classes{unlike}"

    def _name_files(self) -> dict[str, dict[int, str]]:
        """Return the names of the files that hold one in each line."""
        by_file = {}
        for file in self.annotations.source.tree.files:
            base = posixpath.basename(file).lower()
            if base in _NAMES or base.endswith(".names"):
                text = read_list_text(self.annotations.path(file), self.annotations.problems)
                lines = [line.strip() for line in text.rstrip().split("\n")]
                if any(lines):
                    by_file[file] = dict(enumerate(lines))
        return by_file

    def _split_places(self) -> dict[str, str]:
        """Return folder or image → split; {} if two splits are one folder, as in coco128."""
        splits: dict[str, str] = {}
        folders = {path.rpartition("/")[0] for path in self.annotations.tree.images}
        folders |= {folder[:end] for folder in folders for end, sign in enumerate(folder) if sign == "/"}
        for split, file, places in self._stated():
            for place in places:
                for target in self._targets(place, file, folders):
                    if splits.setdefault(target, split) != split:
                        self.annotations.problems.add("no-split", file, f"{place} is {splits[target]} and {split}")
                        return {}
        return splits

    def _stated(self) -> list[tuple[str, str, list[str]]]:
        """Return (split, file that says it, folders or lists or images) of the config, or of Darknet's lists."""
        if not self.file:
            lists = [file for file in self.annotations.source.tree.files if _LISTS.fullmatch(file)]
            return [(split_of(posixpath.basename(file)), file, [file]) for file in lists]
        stated = []
        base = self.value.get("path")
        base = base if isinstance(base, str) and base not in (".", "") else ""
        for key in _SPLIT_KEYS:
            places = self.value.get(key)
            texts = [p for p in ([places] if isinstance(places, str) else list_of(places)) if isinstance(p, str)]
            stated.append((split_of(key), self.file, [posixpath.join(base, text) for text in texts if text.strip()]))
        return stated

    def _targets(self, place: str, file: str, folders: set[str]) -> list[str]:
        """Return the folders or images that a place means, by its whole path or else by the end of it."""
        folder, plain = self.annotations.near(file), plain_path(place)
        parts = [part for part in plain.split("/") if part not in ("..", ".", "")]
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        for candidate in (posixpath.normpath(posixpath.join(folder, plain)), posixpath.normpath(plain), *ends):
            inside = posixpath.join(folder, candidate)
            if candidate.lower().endswith(".txt"):
                if candidate in self.annotations.tree.files:
                    return self._listed(candidate)
            elif candidate in folders or inside in folders:
                return [candidate if candidate in folders else inside]
        return []

    def _listed(self, file: str) -> list[str]:
        """Return the images of a list, one a line."""
        tree, near = self.annotations.tree, self.annotations.near(file)
        lines = read_lines(tree.root / file, self.annotations.problems)
        return [image for _, line in lines if (image := tree.find(line, near).path) is not None]


def _names_of(value: dict[str, Any]) -> dict[int, str]:
    names = value.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    numbered = ((whole_number(str(key)), label_text(name) or str(key)) for key, name in object_of(names).items())
    return {number: name for number, name in numbered if number is not None}


YOLO = annotation_format(
    "yolo",
    "YOLO: a .txt of `class x y width height` (or polygons) for each image, beside it or in labels/; names and splits "
    "of data.yaml, classes.txt or obj.names, or of folders; every box is an image of its class",
    tool="YOLO",
    files=_files,
    is_one=lambda name, head: _OBJECT.match(head) is not None,
    read=_read,
    needs=".txt file with the name of an image, as in images/1.jpg and labels/1.txt",
    per_image=True,
    most=True,
)
