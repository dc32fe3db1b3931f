"""Folders: one per class, with folders of splits above or below them, or none."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shitu_cli.errors import Command, UsageError
from shitu_cli.preparation.formats.base import FOLDERS, Format, Rows
from shitu_cli.preparation.formats.folder_checks import (
    DATE,
    note_same_names,
    refuse_copies,
    refuse_folds,
    refuse_pairs,
    refuse_sorting,
)
from shitu_cli.preparation.formats.masks import holds_masks, masks_beside
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import split_of_folder, split_words
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted, short_list

REPEATED = 0.5  # share of inner folder names that repeat below several outer folders, from which they are not classes
MOST_SOURCES = 9  # folders that are worth naming one by one


@dataclass
class _Folder:
    """A folder with images in it or below it; `images` counts those in it."""

    path: str
    images: int = 0
    below: dict[str, _Folder] = field(default_factory=dict)

    def total(self) -> int:
        return self.images + sum(folder.total() for folder in self.below.values())

    def all(self) -> Iterator[_Folder]:
        yield self
        for folder in self.below.values():
            yield from folder.all()


@dataclass
class _Place:
    """The meaning of a folder: its split, and the folders that name its class, `above` of which are above the split."""

    folder: _Folder
    split: str = ""
    label: tuple[str, ...] = ()
    above: int = 0


class Layout:
    """The meaning of a source's folders: `places` are those with images in them, `beside` others with the reason."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.root = _folders(source.tree.images)
        self.places: list[_Place] = []
        self.beside: dict[str, str] = {}
        self.split_folders: dict[str, set[str]] = defaultdict(set)
        self.depth_remark = ""
        self._level([_Place(self.root)])

    def _level(self, places: list[_Place]) -> None:
        """Interpret folders of the same level and role, and all below them."""
        self._drop_masks(places)
        again = [self._without_repetition(place, places) for place in places]
        if again != places:
            self._level(again)
            return
        if splits := self._splits(places):
            self._into_splits(places, splits)
            return
        if not any(place.label for place in places) and (inside := self._inside(places)):
            self._level(inside)
            return
        self.places += [place for place in places if place.folder.images]
        below = [
            _Place(folder, place.split, (*place.label, name), place.above)
            for place in places
            for name, folder in place.folder.below.items()
        ]
        if below:
            self._level(below)

    def _drop_masks(self, places: list[_Place]) -> None:
        for place in places:
            for name, folder in list(place.folder.below.items()):
                if holds_masks(self.source, folder.path, is_leaf=not folder.below):
                    del place.folder.below[name]
                    self.beside[folder.path] = f"masks of other images ({folder.total():,})"

    def _splits(self, places: list[_Place]) -> dict[str, str]:
        """Return the split of each name of the folders below; {} if these are not splits."""
        if any(place.split for place in places):
            return {}
        names = sorted({name for place in places for name in place.folder.below})
        words = {name: split_words(name) for name in names}
        groups: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
        for name, (split, rest) in words.items():
            if split:
                groups[rest][name] = split
        for group in groups.values():
            different = set(group.values())
            nested = any(place.folder.below[n].below for place in places for n in group if n in place.folder.below)
            whole = len(group) == len(names)
            several = ("train" in different and len(different) > 1) or {"query", "gallery"} <= different
            if several and (nested or whole or all(place.label for place in places)):
                return group
        refuse_pairs(self.source, groups)
        return {}

    def _without_repetition(self, place: _Place, places: Sequence[_Place]) -> _Place:
        """Return the only folder below that of a split, if it repeats the name of the split: seg_train/seg_train.

        Images in test/test have no class then; if `places` have test/ as a class elsewhere too, it is one.
        """
        if not place.split or place.folder.images or len(place.folder.below) != 1:
            return place
        name, folder = next(iter(place.folder.below.items()))
        again = split_words(name)[0] == place.split and (folder.below or not place.label)
        if not again or any(name in other.folder.below for other in places if other is not place):
            return place
        self.split_folders[place.split].add(folder.path)
        return _Place(folder, place.split, place.label, place.above)

    def _into_splits(self, places: list[_Place], splits: dict[str, str]) -> None:
        inside = []
        for place in places:
            for name, folder in place.folder.below.items():
                if name in splits:
                    for part, split in _query_and_gallery(folder, splits[name]):
                        inside.append(_Place(part, split, place.label, len(place.label)))
                        self.split_folders[split].add(part.path)
                else:
                    self.beside[folder.path] = f"beside the splits ({counted(folder.total(), 'image')})"
            if place.folder.images:
                self.beside[place.folder.path] = ""
        self._level(inside)

    def _inside(self, places: list[_Place]) -> list[_Place]:
        """Return the only folder below each, as archives often have it; [] if some have several."""
        inside = []
        for place in places:
            if place.folder.images or len(place.folder.below) != 1:
                return []
            folder = next(iter(place.folder.below.values()))
            if not folder.below:
                return []  # a single class
            inside.append(_Place(folder, place.split))
        return inside

    def settle_depth(self, depth: int | None) -> None:
        """Decide how many folders make the class; UsageError if two readings are possible."""
        if depth is not None:
            for place in self.places:
                place.label = place.label[:depth]
            return
        refuse_folds(self.source, [(place.label[: place.above], place.label[place.above :]) for place in self.places])
        while True:
            free = [place for place in self.places if len(place.label) - place.above >= 2]
            deepest = max((len(place.label) for place in free), default=0)
            inner = [place for place in free if len(place.label) == deepest]
            if not inner:
                return
            outer = {place.label[:-1] for place in inner}
            direct = {place.label for place in self.places} & outer
            parents: dict[str, set[tuple[str, ...]]] = defaultdict(set)
            for place in inner:
                parents[place.label[-1]].add(place.label[:-1])
            pairs = sum(map(len, parents.values()))
            repeated = sum(len(above) for above in parents.values() if len(above) > 1)
            dates = all(DATE.fullmatch(name) for name in parents)
            same = repeated == pairs and len(outer) > 1
            if dates or (direct == outer and same):
                self.depth_remark = (
                    f"folders {', '.join(sorted(parents)[:3])} below the classes are not classes themselves "
                    f"(--depth {deepest} makes them so)"
                )
                for place in inner:
                    place.label = place.label[:-1]
                continue
            if direct or repeated > REPEATED * pairs:
                raise self._two_depths(inner, direct, deepest)
            refuse_copies(self.source, {place.label: place.folder.path for place in self.places})
            return

    def _two_depths(self, inner: Sequence[_Place], direct: set[tuple[str, ...]], depth: int) -> UsageError:
        chosen = next((place for place in inner if place.label[:-1] in direct), inner[0])
        example = chosen.folder.path
        why = (
            f"images are in {'/'.join(chosen.label[:-1])}/ and in folders below it"
            if direct
            else f"several folders hold one called {chosen.label[-1]}"
        )
        return UsageError(
            f"{self.source.path}: which level of folders is the class? {why}",
            details=[
                f"--depth {depth - 1}: {example}/ belongs to the class {'/'.join(chosen.label[:-1])}",
                f"--depth {depth}: {example}/ belongs to the class {'/'.join(chosen.label)}",
            ],
            hint=[f"--depth {depth - 1} or --depth {depth}", *self._as_sources(inner, direct)],
        )

    def _as_sources(self, inner: Sequence[_Place], direct: set[tuple[str, ...]]) -> list[str | Command]:
        """Return the way to make one class of folders of one name, as of two cameras; [] if there is none."""
        above = sorted({place.folder.path.rpartition("/")[0] for place in inner})
        several = len({place.label[-1] for place in inner}) > 1
        folders = [self.source.base / path for path in above]
        if direct or not several or self.split_folders or len(above) > MOST_SOURCES or not folders[0].is_dir():
            return []
        merge = Command("prepare", "--merge", *folders)
        parts = "; if these folders are splits, rename them to train and test" if len(above) < 4 else ""
        return [f"; or, if {inner[0].label[-1]} is one class: ", merge, parts]


def _query_and_gallery(folder: _Folder, split: str) -> list[tuple[_Folder, str]]:
    """Return the folders query and gallery in that of a split, if it holds nothing else; else itself."""
    parts = [(inner, split_of_folder(name)) for name, inner in folder.below.items()]
    return parts if not folder.images and {part for _, part in parts} == {"query", "gallery"} else [(folder, split)]


def _folders(images: Sequence[str]) -> _Folder:
    """Return the tree of folders that hold images."""
    root = _Folder("")
    for path, count in Counter(path.rpartition("/")[0] for path in images).items():
        folder = root
        for part in path.split("/") if path else ():
            folder = folder.below.setdefault(part, _Folder(posixpath.join(folder.path, part)))
        folder.images += count
    return root


def read_classes(source: Source, problems: Problems) -> Rows:
    """Return the images of a folder with their folders as classes; see `Layout`."""
    from shitu_cli.preparation.formats.labelnames import name_classes

    rows, layout = class_rows(source, problems)
    _move_root(rows)
    say_classes(rows, layout)
    name_classes(rows, source, ())
    problems.take(source.tree.problems)
    for name, why in _unread(source).items():
        problems.add("unread-list", str(source.base / name), why)
        rows.unused.setdefault(name, why)
    return rows


def class_rows(source: Source, problems: Problems) -> tuple[Rows, Layout]:
    """Return the images of the tree of a source with their classes and splits, and how its folders were read."""
    layout = Layout(source)
    refuse_sorting(source, {place.folder.path: place.label for place in layout.places if place.label})
    layout.settle_depth(source.options.depth)
    if source.options.depth is None:
        note_same_names({place.label for place in layout.places if place.label}, problems)
    rows = Rows(source.base)
    at = {place.folder.path: place for place in layout.places}
    top = {path for path, why in layout.beside.items() if not why}
    for path, why in layout.beside.items():
        if why.startswith("beside"):
            problems.add("beside-splits", str(source.base / path), why.partition("(")[2].rstrip(")"))
        elif why:
            rows.unused[path] = why
    masks = masks_beside(source)
    if masks:
        rows.unused[masks[0]] = f"one of {counted(len(masks), 'mask')} of images beside them"
    above = tuple(f"{path}/" for path, why in layout.beside.items() if why.startswith("masks"))
    rows.masks = frozenset((*masks, *(path for path in source.tree.images if path.startswith(above))))
    for path in source.tree.images:
        folder = path.rpartition("/")[0]
        place = at.get(folder)
        if path in rows.masks:
            continue
        if place is None:
            if folder in top:
                problems.add("beside-splits", str(source.base / path))
        elif place.label:
            rows.add(path, "/".join(place.label), place.split)
        else:
            problems.add("unlabelled", str(source.base / path))
    return rows, layout


def _unread(source: Source) -> dict[str, str]:
    from shitu_cli.preparation.formats.discovery import unread_sidecars
    from shitu_cli.preparation.formats.sheets import Sheets

    return {**Sheets.of(source).unused, **unread_sidecars(source)}


def _move_root(rows: Rows) -> None:
    """Make paths relative to the deepest folder that holds all images and is neither a class nor a split."""
    if not rows.paths:
        return
    tails = {(label.count("/") + 1) for label in rows.labels}
    first = rows.paths[0].split("/")[:-1]
    common = 0
    while common < len(first) and all(path.split("/", common + 1)[common] == first[common] for path in rows.paths):
        common += 1
        if common >= len(first) - max(tails):
            break
    if common and set(rows.splits) == {""}:
        prefix = "/".join(first[:common]) + "/"
        rows.root = rows.root / prefix
        rows.paths = [path.removeprefix(prefix) for path in rows.paths]


def say_classes(rows: Rows, layout: Layout) -> None:
    """Add to the readings how the folders were read."""
    if not rows.paths:
        return
    path, label = rows.paths[0], rows.labels[0]
    text = f"folders: the class of {path} is {label}"
    if layout.split_folders:
        splits = [f"{split} = {short_list(sorted(folders))}" for split, folders in sorted(layout.split_folders.items())]
        text += f"; splits: {'; '.join(splits)}"
    rows.readings.append(text)
    if layout.depth_remark:
        rows.readings.append(layout.depth_remark)


def _detect_splits(source: Source) -> bool:
    return source.path.is_dir() and bool(Layout(source).split_folders)


def _detect_classes(source: Source) -> bool:
    return source.path.is_dir()


SPLIT_TREE = Format(
    "split-tree",
    "train/<class>/*.jpg with val/, test/, or query/ and gallery/ beside it, at any level; classes may be nested",
    _detect_splits,
    read_classes,
    FOLDERS,
)
CLASS_TREE = Format(
    "class-tree", "<class>/*.jpg, nested or not; --depth says how deep", _detect_classes, read_classes, FOLDERS
)
