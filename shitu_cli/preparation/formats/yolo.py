"""YOLO detection and segmentation: a .txt for each image, `class x y width height` or a polygon, in shares of it."""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.inputs import MIB, whole_number
from shitu_cli.inputs.yaml_files import read_yaml
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows, lines_of, read_text
from shitu_cli.preparation.formats.boxes import CXCYWH_SHARE, XYXY_SHARE, around, numbers
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, split_of, spread
from shitu_cli.preparation.formats.source import Source, plain_path, without_suffix
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.problems import Problems

_OBJECT = re.compile(rb"\s*\d{1,6}(?:[ \t]+-?\d*\.?\d+(?:e[+-]?\d+)?){4,}[ \t\r]*(?:\n|$)", re.I)
_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "names.txt", "predefined_classes.txt")
_LISTS = re.compile(r"(?:train|trainval|val|valid|validation|test)\.txt", re.I)
_SPLITS = ("train", "val", "test")


def _label_files(source: Source) -> list[str]:
    """The .txt files that carry an image's name."""
    if source.path.is_file():
        return [file for file in source.tree.files if file.lower().endswith(".txt")] if _is_config(source) else []
    stems = {without_suffix(path.rpartition("/")[2]) for path in source.tree.images}
    names = {path.rpartition("/")[2] for path in source.tree.images}
    found = []
    for file in annotation_files(source, ".txt"):
        stem = posixpath.splitext(posixpath.basename(file))[0]
        if stem in stems or stem in names:
            found.append(file)
    return found


def _is_config(source: Source) -> bool:
    if source.path.suffix.lower() not in (".yaml", ".yml"):
        return False
    text = head_and_tail(source.path)
    return b"names" in text and b"train" in text


def _detect(source: Source) -> bool:
    if source.path.is_file() and not _is_config(source):
        return False
    filled = [text for file in spread(_label_files(source)) if (text := head_and_tail(source.base / file)).strip()]
    return bool(filled) and sum(bool(_OBJECT.match(text)) for text in filled) * 2 > len(filled)


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "YOLO", per_image=True)
    files = _label_files(source)
    if not files:
        raise DataError(f"{source.path}: no .txt file has the name of an image", hint="images/1.jpg, labels/1.txt")
    config = _config(gathered)
    names, told = _class_names(config, gathered)
    splits = _splits(config, gathered)
    points = _key_points(config)
    for file in files:
        image = gathered.settle(gathered.pair(file), file, file, 0)
        if image is not None:
            _read_file(file, image, _split(image, splits, gathered), names, points, gathered)
    rows = gathered.rows()
    rows.readings.append(told)
    return rows


def _split(image: str, splits: dict[str, str], gathered: Annotated) -> str:
    """The split whose folder or list the config names, the innermost folder first."""
    folder = image
    while folder:
        if folder in splits:
            return splits[folder]
        folder = folder.rpartition("/")[0]
    return splits.get("", "")


def _read_file(file: str, image: str, split: str, names: dict[int, str], points: int, gathered: Annotated) -> None:
    """The objects of one image."""
    empty = True
    for number, line in enumerate(lines_of(read_text(gathered.path(file), gathered.problems)), 1):
        if not line.strip():
            continue
        empty = False
        first, *rest = line.split()
        values = numbers(rest)
        if not (first.isascii() and first.isdigit() and len(first) < 7) or values is None:
            gathered.bad(file, number, f"expected class x y width height, got {line.strip()[:60]!r}")
            continue
        if names and int(first) not in names:
            gathered.bad(file, number, f"class {first}: there are names for 0 to {max(names)}")
            continue
        label = names.get(int(first), str(int(first)))
        if len(values) == 4 or (points and len(values) == 4 + points):
            gathered.add(image, label, file, number, split=split, box=values[:4], convention=CXCYWH_SHARE)
        elif len(values) >= 6 and len(values) % 2 == 0:
            box = around(list(zip(values[::2], values[1::2], strict=True)))
            gathered.add(image, label, file, number, split=split, box=box, convention=XYXY_SHARE)
        else:
            gathered.bad(
                file, number, f"{len(values)} numbers behind the class: a box has 4, a polygon x y of 3 points or more"
            )
    if empty:
        gathered.problems.add("no-objects", str(gathered.path(file)), image)


# --- What stands beside the labels: names of classes and splits ---


def _config(gathered: Annotated) -> tuple[str, dict[str, Any]] | None:
    """The YAML with names and splits, such as data.yaml; UsageError where several differ."""
    found: dict[str, dict[str, Any]] = {}
    for file in _yamls(gathered.source):
        text = head_and_tail(gathered.path(file))
        if b"names" not in text and b"train" not in text:
            continue
        value = read_yaml(gathered.path(file), limit=4 * MIB)
        if isinstance(value, dict) and ("names" in value or {"train", "val"} <= value.keys()):
            found[file] = value
    if not found:
        return None
    if len({str(_names_of(value)) for value in found.values()}) > 1:
        files = sorted(found)
        raise UsageError(
            f"{' and '.join(files[:3])} name the classes differently: which of them counts?",
            hint=["name it: ", Command("prepare", gathered.path(files[0]))],
        )
    file = min(found, key=lambda name: (name.count("/"), "data" not in name.lower(), name))
    return file, found[file]


def _yamls(source: Source) -> list[str]:
    return annotation_files(source, ".yaml", ".yml")[:200]


def _names_of(value: dict[str, Any]) -> dict[int, str]:
    names = value.get("names")
    if isinstance(names, list):
        return {number: words(name) or str(number) for number, name in enumerate(names)}
    if isinstance(names, dict):
        numbered = ((whole_number(str(key)), words(name) or str(key)) for key, name in names.items())
        return {number: name for number, name in numbered if number is not None}
    return {}


def _class_names(config: tuple[str, dict[str, Any]] | None, gathered: Annotated) -> tuple[dict[int, str], str]:
    """Class number → name, and a line that says where the names are from."""
    found: dict[str, dict[int, str]] = {}
    if config is not None and _names_of(config[1]):
        found[config[0]] = _names_of(config[1])
    else:
        for file in gathered.source.tree.files:
            base = posixpath.basename(file).lower()
            if base in _NAMES or base.endswith(".names"):
                lines = [line.strip() for line in lines_of(read_text(gathered.path(file), gathered.problems))]
                while lines and not lines[-1]:
                    lines.pop()
                if lines:
                    found[file] = dict(enumerate(lines))
    if not found:
        return {}, "no names of classes (data.yaml, classes.txt, obj.names): the classes are called by their numbers"
    different = {tuple(sorted(names.items())) for names in found.values()}
    if len(different) > 1:
        raise UsageError(
            f"{' and '.join(sorted(found)[:3])} name the classes differently: which of them counts?",
            details=[f"{file}: {', '.join(list(names.values())[:6])}" for file, names in sorted(found.items())[:5]],
            hint="move the others away",
        )
    file, names = next(iter(sorted(found.items())))
    counts: dict[str, int] = {}
    for number, name in names.items():
        if (other := counts.setdefault(name, number)) != number:
            raise DataError(f"{gathered.path(file)}: classes {other} and {number} are both called {name!r}")
    return names, f"{file}: names of {len(names)} classes"


def _key_points(config: tuple[str, dict[str, Any]] | None) -> int:
    """How many numbers of key points follow a box (kpt_shape: [17, 3] → 51); 0 for none."""
    shape = config[1].get("kpt_shape") if config is not None else None
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and 0 < n < 1000 for n in shape):
        return int(shape[0]) * int(shape[1])
    return 0


def _splits(config: tuple[str, dict[str, Any]] | None, gathered: Annotated) -> dict[str, str]:
    """Folder or image → split, as the config's train, val and test or lists say; {} leaves it to the folders' names.

    Where two splits are one folder (as in coco128) there is no split.
    """
    splits: dict[str, str] = {}
    folders = {path.rpartition("/")[0] for path in gathered.tree.images}
    parents = {parent for folder in folders for parent in _with_parents(folder)}
    for split, file, places in _stated(config, gathered):
        for place in places:
            for target in _targets(place, file, parents, gathered):
                if splits.setdefault(target, split) != split:
                    gathered.problems.add("no-split", file, f"{place} is {splits[target]} and {split}")
                    return {}
    return splits


def _stated(config: tuple[str, dict[str, Any]] | None, gathered: Annotated) -> list[tuple[str, str, list[str]]]:
    """(split, file that says it, folders or lists or images) of the config, or of Darknet's lists."""
    if config is not None and any(split in config[1] for split in (*_SPLITS, "valid")):
        file, value = config
        base = value.get("path")
        stated = []
        for key in (*_SPLITS, "valid"):
            found = value.get(key)
            places = [found] if isinstance(found, str) else found if isinstance(found, list) else []
            texts = [place for place in places if isinstance(place, str) and place.strip()]
            if isinstance(base, str) and base not in (".", ""):
                texts = [posixpath.join(base, text) for text in texts]
            stated.append((split_of(key), file, texts))
        return stated
    if config is not None:
        return []
    lists = [file for file in gathered.source.tree.files if _LISTS.fullmatch(posixpath.basename(file))]
    return [(split_of(posixpath.basename(file)), file, [file]) for file in lists if split_of(posixpath.basename(file))]


def _targets(place: str, file: str, folders: set[str], gathered: Annotated) -> list[str]:
    """The folders or images that a place of a config means: as it stands, or by its end where it is elsewhere."""
    folder = gathered.near(file)
    plain = plain_path(place)
    candidates = [posixpath.normpath(posixpath.join(folder, plain)), posixpath.normpath(plain)]
    parts = [part for part in plain.split("/") if part not in ("..", ".", "")]
    candidates += ["/".join(parts[start:]) for start in range(len(parts))]
    for candidate in candidates:
        if candidate.lower().endswith(".txt"):
            listed = gathered.tree.root / candidate
            if candidate in gathered.tree.files:
                return _listed(candidate, listed, gathered)
        elif candidate in folders:
            return [candidate]
        elif (inside := posixpath.join(folder, candidate)) in folders:
            return [inside]
    return []


def _listed(file: str, path: os.PathLike[str], gathered: Annotated) -> list[str]:
    """The images of a list of a split, one a line."""
    found = []
    for line in lines_of(read_text(gathered.tree.root / file, gathered.problems)):
        if line.strip():
            image = gathered.tree.find(line.strip(), gathered.near(file)).path
            if image is not None:
                found.append(image)
    return found


def _with_parents(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


YOLO = Format(
    "yolo",
    "YOLO: a .txt of `class x y width height` (or polygons) for each image, beside it or in labels/; names and splits "
    "of data.yaml, classes.txt or obj.names, or of folders; every box is an image of its class",
    _detect,
    _read,
    ANNOTATIONS,
)
