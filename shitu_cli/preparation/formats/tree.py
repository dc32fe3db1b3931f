"""Folders: one per class, below folders of splits or not."""

from __future__ import annotations

import os
from pathlib import Path

from shitu_cli.preparation.formats.base import FOLDERS, Format, Rows, is_image_name, walk_images
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.textlist import unread_lists
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
    "query": "query",
    "gallery": "gallery",
}


def _folders(root: Path) -> dict[str, str]:
    """Sub-folder → split, for names that are splits."""
    if not root.is_dir():
        return {}
    named = {entry.name: SPLIT_NAMES.get(entry.name.lower()) for entry in os.scandir(root) if entry.is_dir()}
    return {name: split for name, split in named.items() if split is not None}


def _descend(root: Path) -> Path:
    """Through folders that hold nothing but one folder, as archives often make them."""
    while True:
        entries = [entry for entry in os.scandir(root) if not entry.name.startswith((".", "__MACOSX"))]
        if len(entries) != 1 or not entries[0].is_dir():
            return root
        inside = [entry for entry in os.scandir(entries[0].path) if not entry.name.startswith(".")]
        if not any(entry.is_dir() for entry in inside):
            return root  # a single class
        root = Path(entries[0].path)


def _detect_splits(source: Source) -> bool:
    root = source.path
    if not root.is_dir():
        return False
    root = _descend(root)
    folders = _folders(root)
    found = set(folders.values())
    if not ("train" in found or {"query", "gallery"} <= found):
        return False
    # Pictures right inside them, and other folders beside them: classes, one of which is called train.
    nested = any(entry.is_dir() for name in folders for entry in os.scandir(root / name))
    return nested or len(_shown_folders(root)) == len(folders)


def _shown_folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _read_splits(source: Source, problems: Problems) -> Rows:
    root = _descend(source.path)
    rows = Rows(root)
    folders = _folders(root)
    for folder, split in sorted(folders.items()):
        _add(rows, folder, split, problems)
    for folder in _shown_folders(root):
        count = 0 if folder in folders else sum(1 for _ in walk_images(root / folder, Problems()))
        if count:
            problems.add("beside-splits", str(root / folder), counted(count, "picture"))
    for entry in os.scandir(root):
        if entry.is_file() and is_image_name(entry.name):
            problems.add("beside-splits", entry.path)
    return rows


def _detect_classes(source: Source) -> bool:
    return source.path.is_dir()


def _read_classes(source: Source, problems: Problems) -> Rows:
    rows = Rows(_descend(source.path))
    for path, why in unread_lists(rows.root).items():
        problems.add("unread-list", str(path), why)
    _add(rows, "", "", problems)
    return rows


def _add(rows: Rows, folder: str, split: str, problems: Problems) -> None:
    """All pictures below a folder; the class is the path between it and the picture."""
    for path in walk_images(rows.root / folder, problems):
        label = path.rpartition("/")[0]
        whole = f"{folder}/{path}" if folder else path
        if label:
            rows.add(whole, label, split)
        else:
            problems.add("unlabelled", str(rows.root / whole))


SPLIT_TREE = Format(
    "split-tree",
    "train/<class>/*.jpg with val/, test/, or query/ and gallery/ beside it; classes may be nested",
    _detect_splits,
    _read_splits,
    FOLDERS,
)
CLASS_TREE = Format("class-tree", "<class>/*.jpg, nested or not", _detect_classes, _read_classes, FOLDERS)
