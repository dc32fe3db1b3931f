"""Boxes in images that folders sort: which of both are the classes, where the boxes are called `object` or the like."""

from __future__ import annotations

from collections import Counter

from shitu_cli.errors import UsageError
from shitu_cli.preparation.formats.annotations import STRUCTURE
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.boxes import plain_name
from shitu_cli.preparation.formats.folders_beside import are_named, is_decided
from shitu_cli.preparation.formats.source import Source, fold
from shitu_cli.preparation.formats.splits import split_of_folder
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted, short_list

# What annotators call a box whose class they leave to somebody else.
_GENERAL_TEXT = (
    "object objects obj product products item items thing things target targets goods good article articles sku skus "
    "box boxes bbox bndbox roi region instance foreground fg subject entity class label default unknown none shape "
    "rectangle produkt artikel ware objekt objet produit objeto producto oggetto prodotto 商品 物体 目标 产品 物品 前景"
)
_GENERAL = frozenset(_GENERAL_TEXT.split())


def refuse_general_names(source: Source, rows: Rows, name: str) -> None:
    """Refuse boxes most of which are called `object` or the like, in folders that have names of their own.

    Where they have other names, say that the folders do not count. `name` is that of the format. Boxes of one class
    are refused elsewhere.
    """
    if is_decided(source) or not rows.boxes or len(set(rows.labels)) < 2:
        return
    folders = {path.rpartition("/")[0]: class_folders(path) for path in rows.paths}
    innermost = sorted({parts[-1] for parts in folders.values() if parts})
    names = Counter(rows.shown(rows.labels[number]) for number in rows.boxes)
    if not are_named(innermost) or {fold(name) for name in innermost} <= {fold(name) for name in names}:
        return
    general = {label for label in names if plain_name(label).rstrip("0123456789") in _GENERAL}
    if 2 * sum(names[label] for label in general) <= names.total():
        shown = short_list(innermost)
        rows.readings.append(f"folders such as {shown} are not the classes of the boxes (--depth 1 makes them so)")
        return
    number = next(n for n in rows.boxes if rows.shown(rows.labels[n]) in general)
    shown = short_list([f"{label!r} ({count:,})" for label, count in names.most_common()])
    raise UsageError(
        f"{source.path}: its boxes are called {shown}, its folders {short_list(innermost)}: which of the two are the "
        "classes?",
        details=[f"{rows.where(number)}: a box in {rows.paths[number]} is {rows.shown(rows.labels[number])!r}"],
        hint="--depth 1 if the folders are, and each box is an image of its folder's class; --format class-tree if "
        f"whole images are; --format {name} if the names of the boxes are the classes",
    )


def label_by_folders(rows: Rows, depth: int, problems: Problems) -> Rows:
    """Return the rows with the first `depth` folders of each image as its class; report images outside of any."""
    labels = {path: "/".join(class_folders(path)[:depth]) for path in set(rows.paths)}
    for path in sorted(path for path, label in labels.items() if not label):
        problems.add("unlabelled", path)
    rows = rows.take([number for number, path in enumerate(rows.paths) if labels[path]])
    rows.labels, rows.display = [labels[path] for path in rows.paths], {}
    if rows.paths:
        what = counted(len(set(rows.labels)), "class", "classes")
        example = f"as {rows.paths[0]} is {rows.labels[0]}"
        rows.readings.append(f"classes: the folders ({what}), {example}; the names of the boxes are not used")
    return rows


def class_folders(path: str) -> list[str]:
    """Return the folders of a path that are no splits and do not only group files by kind."""
    folders = path.split("/")[:-1]
    return [folder for folder in folders if fold(folder) not in STRUCTURE and not split_of_folder(folder)]
