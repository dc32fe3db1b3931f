"""From a source to trustworthy lists: read, look at every image, judge, split, number the classes."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shitu_cli.data.lists import ImageList
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.inputs import check_input
from shitu_cli.preparation.audit import Alike, Look, LookCache, find_alike, look_at_all, report_looks
from shitu_cli.preparation.formats import all_formats, read_source
from shitu_cli.preparation.formats.base import ANNOTATIONS, DATASET, FOLDERS, TABLE, Format, ReadOptions, Rows
from shitu_cli.preparation.formats.boxes import fits
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import KINDS, Problems
from shitu_cli.preparation.split import Split, choose_kind, split_images
from shitu_cli.reporting import Reporter, counted

WITH_PROTOCOLS = ("veriwild", "cub", "cars196", "aircraft")  # formats with several official splits
MAX_READINGS = 6  # lines that say what was read as what
_SUSPECT = re.compile(r"[\t\n\r\0]|\.\.|^/").search  # of paths that need a closer look
UNUSABLE = ("missing", "empty-file", "not-an-image", "truncated", "unreadable", "too-large")


@dataclass(frozen=True)
class Choices:
    """What the user asked for. `split` auto, open, closed or none; `fix` leaves out what cannot be used;
    `keep_apart` makes classes of one name in several sources two."""

    format: str | None = None
    split: str = "auto"
    share: float = 0.2
    seed: int = 0
    fix: bool = False
    quick: bool = False
    keep_apart: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)


@dataclass
class Prepared:
    """Lists with dense labels, and everything there is to tell. `names` label → class name, training classes first."""

    image_root: Path
    format: str
    train: ImageList
    query: ImageList | None
    gallery: ImageList | None
    names: dict[str, int]
    class_num: int
    split: str
    problems: Problems
    left_out: int
    rows: Rows
    looks: list[Look]
    alike: Alike

    @property
    def classes(self) -> int:
        """Classes that have training pictures."""
        return len(np.unique(self.train.labels))


def read_sources(sources: Sequence[Path], choices: Choices, problems: Problems) -> tuple[Rows, str]:
    """The rows of one source, or of several merged with labels kept apart by source."""
    found = []
    for source in sources:
        if not source.exists():
            raise UsageError(f"no such folder or file: {source}", hint="check the path; quote it if it holds blanks")
        if not source.is_dir():
            check_input(source, error=UsageError)  # a pipe would be waited for, a device has no end
        if source.is_dir() and not any(os.scandir(source)):
            raise DataError(f"{source} is empty", hint="put the pictures of each class into a folder of its name there")
        whole = Source(source, choices.read)

        def check(chosen: Format, whole: Source = whole) -> None:
            if len(sources) > 1 and chosen.name not in WITH_PROTOCOLS:  # it is for another source
                whole.options = dataclasses.replace(whole.options, protocol=None)
            _check_options(chosen, dataclasses.replace(choices, read=whole.options))

        made, rows = read_source(whole, problems, choices.format, check)
        if not len(rows):
            raise DataError(
                f"no labelled images in {source} (read as {made.name}: {made.layout})",
                details=[
                    f"{where}: {detail or KINDS[kind].text}"
                    for kind, f in problems.found.items()
                    for where, detail in f.examples[:5]
                ],
                hint=[
                    "put the images of each class into a folder of its name; ",
                    Command("prepare", "--formats"),
                    " lists other layouts",
                ],
            )
        found.append((source, made, rows))
    if len(found) == 1:
        return found[0][2], found[0][1].name
    if choices.read.protocol is not None and not any(made.name in WITH_PROTOCOLS for _, made, _ in found):
        raise UsageError(f"--protocol {choices.read.protocol}: none of the sources has several")
    return _merge(found, keep_apart=choices.keep_apart), " + ".join(made.name for _, made, _ in found)


def described(rows: Rows) -> list[str]:
    """Return what was read as what, and what lies beside unused, in a line each."""
    shown = [*rows.readings[:MAX_READINGS]]
    if len(rows.readings) > MAX_READINGS:
        shown.append(f"... and {len(rows.readings) - MAX_READINGS:,} more files, read in the same way")
    unused = [f"not used: {name} ({why})" for name, why in sorted(rows.unused.items())]
    shown += unused[:MAX_READINGS]
    if len(unused) > MAX_READINGS:
        shown.append(f"... and {len(unused) - MAX_READINGS:,} more that are not used")
    return shown


def _check_options(made: Format, choices: Choices) -> None:
    """Options that the format would ignore are refused."""
    format_name = made.name
    if choices.read.protocol is not None and format_name not in WITH_PROTOCOLS:
        raise UsageError(f"--protocol {choices.read.protocol}: {format_name} has only one")
    ignored = choices.read.columns.keys() - made.columns if made.rank != TABLE else ()
    if ignored:
        raise UsageError(f"--columns {', '.join(sorted(ignored))}=...: {format_name} has none", hint="--format table")
    if choices.read.depth is not None and made.rank != FOLDERS:
        raise UsageError(f"--depth is for folders of classes, not for {format_name}", hint="--format class-tree")
    if choices.read.image_root is not None and made.rank not in (ANNOTATIONS, TABLE):
        raise UsageError(f"--image-root is for lists, tables and annotations, not for {format_name}")


def _merge(parts: Sequence[tuple[Path, Format, Rows]], *, keep_apart: bool) -> Rows:
    """One data set of several sources: classes of the same name are one, unless kept apart or only numbers."""
    root = Path(os.path.commonpath([str(rows.root.resolve()) for _, _, rows in parts]))
    names = {source: source.resolve().name for source, _, _ in parts}
    if len(set(names.values())) < len(names):  # a/images and b/images
        common = os.path.commonpath([str(source.resolve()) for source, _, _ in parts])
        names = {source: source.resolve().relative_to(common).as_posix() for source, _, _ in parts}
    apart = keep_apart or any(_numbered(chosen, rows) for _, chosen, rows in parts)
    merged = Rows(root)
    for origin, (source, _, rows) in enumerate(parts):
        prefix = os.path.relpath(rows.root.resolve(), root)
        name = names[source]

        def named(label: str, name: str = name) -> str:
            return f"{name}/{label}" if apart and not _distractor(label) else label

        for number in range(len(rows)):
            merged.add(
                f"{prefix}/{rows.paths[number]}",
                named(rows.labels[number]),
                rows.splits[number],
                id=rows.ids.get(number),
                box=rows.boxes.get(number),
                file=rows.files[number],
                line=rows.lines[number],
                origin=origin,
            )
        merged.readings += [f"{name}: {line}" for line in rows.readings]
        merged.label_files += [f"{name}/{file}" for file in rows.label_files]
        merged.unused |= {f"{name}/{file}": why for file, why in rows.unused.items()}
        merged.display |= {named(label): named(shown) for label, shown in rows.display.items()}
    how = "kept apart by source" if apart else "one class where the sources have the same name (--keep-apart: two)"
    merged.readings.append(f"classes: {how}")
    return merged


def _numbered(chosen: Format, rows: Rows) -> bool:
    """Whether its classes are numbers of a data set, which mean something else in another one."""
    return chosen.rank == DATASET or all(_natural(rows.display.get(label, label))[0] == 0 for label in set(rows.labels))


def prepare(
    sources: Sequence[Path],
    choices: Choices,
    reporter: Reporter,
    *,
    known_names: Mapping[str, int] | None = None,
    sample_per_id: int = 1,
    cache: LookCache | None = None,
) -> Prepared:
    """Everything but writing. `known_names` are the labels given before, which stay as they are.

    Raises UsageError for a source that is not there, DataError when nothing in it can be used.
    """
    problems = Problems()
    rows, name = read_sources(sources, choices, problems)
    reporter.info(f"read as {name}: {counted(len(rows), 'labelled image')} below {rows.root}")
    for line in described(rows):
        reporter.info(f"  {line}")
    before = len(rows)
    rows = _check_lines(rows, problems, choices)
    looks = look_at_all(
        [os.path.join(rows.root, path) for path in rows.paths],
        reporter,
        cache=cache or LookCache(None),
        decode=not choices.quick,
    )
    report_looks(looks, [_place(rows, n) for n in range(len(rows))], problems)
    _check_boxes(rows, looks, problems)
    usable = [n for n in range(len(rows)) if looks[n].problem not in UNUSABLE and not _bad_box(rows, looks, n)]
    rows, looks = rows.take(usable), [looks[n] for n in usable]
    alike = find_alike(looks)
    dropped = _check_alike(rows, alike, problems)
    if choices.fix and dropped:
        kept = [n for n in range(len(rows)) if n not in dropped]
        rows, looks = rows.take(kept), [looks[n] for n in kept]
        alike = find_alike(looks)
    if not len(rows):
        raise DataError(
            f"none of the {before:,} pictures can be used",
            details=[f"{kind}: {f.count} x, first {f.examples[0][0]}" for kind, _, f in problems.ordered()],
            hint=_where_are_they(name),
        )
    split = _split(rows, alike, choices, problems)
    if not split.train:
        raise DataError(
            "there are no pictures to train on", hint=[Command("prepare", "--formats"), " lists the layouts"]
        )
    unknown = [n for n in split.train if _distractor(rows.labels[n])]
    for n in unknown:
        problems.add("untrained", _place(rows, n))
    if unknown:
        gone = set(unknown)
        split = dataclasses.replace(split, train=[n for n in split.train if n not in gone])
    _check_classes(rows, split, problems, sample_per_id)
    names, class_num = number_classes(rows, split, _still_known(rows, known_names or {}, reporter))
    ids = _ids(rows)
    lists = [_image_list(rows, part, names, ids) for part in (split.train, split.query, split.gallery)]
    return Prepared(
        image_root=rows.root,
        format=name,
        train=lists[0],
        query=lists[1] if split.query else None,
        gallery=lists[2] if split.query else None,
        names=names,
        class_num=class_num,
        split=f"{split.kind}: {split.reason}",
        problems=problems,
        left_out=before - len(rows),
        rows=rows,
        looks=looks,
        alike=alike,
    )


def _where_are_they(format_names: str) -> str:
    """The way out where no image can be used: only some formats take --image-root."""
    ranks = {known.rank for known in all_formats() if known.name in format_names.split(" + ")}
    if ranks <= {ANNOTATIONS, TABLE}:
        return "is the image root right? --image-root names it"
    return "are the images unpacked, and where this layout has them? shitu prepare --formats describes it"


def _still_known(rows: Rows, known: Mapping[str, int], reporter: Reporter) -> dict[str, int]:
    """The numbers given before, unless none of these classes is among them: then this is another data set."""
    shown = {rows.display.get(label, label) for label in set(rows.labels)}
    if known and not shown & known.keys():
        reporter.info(f"none of the {len(known)} classes known before is here: classes are numbered anew")
        return {}
    return dict(known)


def _place(rows: Rows, number: int) -> str:
    listed = rows.where(number)
    path = rows.paths[number]
    return listed if listed == path else f"{listed} ({path})"


def _check_lines(rows: Rows, problems: Problems, choices: Choices) -> Rows:
    """What the lines alone tell: repeated and contradicting ones, paths that lead elsewhere, labels that look alike."""
    kept = []
    for number, path in enumerate(rows.paths):
        if _SUSPECT(path) is not None:
            if any(sign in path for sign in "\t\n\r\0"):
                problems.add("bad-name", repr(path))
                continue
            if _outside(rows.root, path):
                problems.add("outside-root", _place(rows, number))
                continue
        kept.append(number)
    if len(set(rows.paths)) < len(rows):
        kept = _without_repeated(rows, kept, problems)
    _similar_labels(rows, problems)
    return rows if len(kept) == len(rows) else rows.take(kept)


def _without_repeated(rows: Rows, numbers: Sequence[int], problems: Problems) -> list[int]:
    """Report lines that name one image again, in one split; return the others."""
    # One table per split, by path alone where there is no box: tuples as keys would double the memory of millions.
    first: dict[str, dict[object, int]] = {}
    conflicting: set[tuple[str, object]] = set()
    kept = []
    for number in numbers:
        split, key = rows.splits[number], _key(rows, number)
        other = first.setdefault(split, {}).setdefault(key, number)
        if other == number:
            kept.append(number)
        elif rows.labels[other] == rows.labels[number]:
            problems.add("duplicate-line", _place(rows, number), f"also at {rows.where(other)}")
        else:
            conflicting.add((split, key))
            labels = f"{rows.labels[other]!r} at {rows.where(other)}, {rows.labels[number]!r} here"
            problems.add("label-conflict", _place(rows, number), labels)
    return [n for n in kept if (rows.splits[n], _key(rows, n)) not in conflicting] if conflicting else kept


def _key(rows: Rows, number: int) -> object:
    """What makes an image: its path, and its box if it has one."""
    return (rows.paths[number], rows.boxes[number]) if number in rows.boxes else rows.paths[number]


def _outside(root: Path, path: str) -> bool:
    whole = os.path.normpath(os.path.join(root, path))
    return os.path.commonpath([os.path.abspath(root), os.path.abspath(whole)]) != os.path.abspath(root)


def _similar_labels(rows: Rows, problems: Problems) -> None:
    folded: dict[str, str] = {}
    for label in sorted(set(rows.labels)):
        plain = unicodedata.normalize("NFKC", label).casefold()
        other = folded.setdefault(" ".join(plain.split()), label)
        if other != label:
            problems.add("similar-labels", f"{other!r} and {label!r}")


def _check_boxes(rows: Rows, looks: list[Look], problems: Problems) -> None:
    for number, (x1, y1, x2, y2) in rows.boxes.items():
        look = looks[number]
        if not look.width:
            continue
        bad = _bad_box(rows, looks, number)
        if bad or not fits((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)), (look.width, look.height)):
            shown = f"{x1:g},{y1:g},{x2:g},{y2:g} in {look.width} x {look.height}"
            problems.add("bad-box" if bad else "cut-box", _place(rows, number), shown)


def _bad_box(rows: Rows, looks: list[Look], number: int) -> bool:
    box, look = rows.boxes.get(number), looks[number]
    if box is None or not look.width:
        return False
    return not (box[0] < box[2] and box[1] < box[3] and box[0] < look.width and box[1] < look.height)


def _check_alike(rows: Rows, alike: Alike, problems: Problems) -> set[int]:
    """Report duplicates by what they mean; returns the images that `fix` leaves out."""
    dropped: set[int] = set()
    pairs = [(group[0], other, "identical") for group in alike.identical for other in group[1:]]
    pairs += [(a, b, "nearly the same") for a, b in alike.near]
    for a, b, how in pairs:
        roles = {_role(rows.splits[a]), _role(rows.splits[b])}
        query = a if _role(rows.splits[a]) == "query" else b
        if rows.paths[a] == rows.paths[b] and roles != {"train", "query"}:
            continue  # one file with several boxes, or in query and gallery at once
        where, detail = _place(rows, b), f"{how}: {_place(rows, a)}"
        if rows.labels[a] != rows.labels[b]:
            problems.add("label-noise", where, f"{rows.labels[b]!r}, {detail} is {rows.labels[a]!r}")
        if roles == {"train", "query"}:
            problems.add("leak", where, detail)
        elif roles == {"query", "gallery"}:
            if rows.labels[a] == rows.labels[b] and rows.ids.get(a) == rows.ids.get(b) is not None:
                continue  # excluded from the ranking by its id
            problems.add("twin", where, detail)
        elif rows.labels[a] == rows.labels[b] and len(roles) == 1:
            problems.add("duplicate" if how == "identical" else "near-duplicate", where, detail)
        else:
            continue
        if how == "identical":
            dropped.add(query if len(roles) == 2 else b)
    return dropped


def _role(split: str) -> str:
    return {"": "train", "train": "train", "gallery": "gallery"}.get(split, "query")


def _split(rows: Rows, alike: Alike, choices: Choices, problems: Problems) -> Split:
    """The source's own split where it has one, else one of ours."""
    if set(rows.splits) <= {"", "train"}:
        kind, reason = choose_kind(len(set(rows.labels))) if choices.split == "auto" else (choices.split, "as asked")
        split = split_images(
            rows.labels,
            rows.paths,
            kind=kind,
            reason=reason,
            share=choices.share,
            seed=choices.seed,
            alike=[*alike.identical, *alike.near],
            one_image=_boxes_of_images(rows),
        )
        _refuse_empty(split, rows, choices)
        return split
    if choices.split != "auto":
        own = ", ".join(sorted(set(rows.splits) - {""}))
        raise UsageError(
            f"--split {choices.split}: the source has a split of its own ({own})",
            hint="take that one with --split auto, or name the folder or list of the training pictures only",
        )
    by_origin: dict[int, list[int]] = {}
    for number, origin in enumerate(rows.origins):
        by_origin.setdefault(origin, []).append(number)
    parts = [_official(rows, numbers, problems) for numbers in by_origin.values()]
    if len(parts) == 1:
        return parts[0]
    whole = Split([], [], [], "official", "; ".join(dict.fromkeys(part.reason for part in parts if part.query)))
    for part in parts:
        for joined, of_part in ((whole.train, part.train), (whole.query, part.query), (whole.gallery, part.gallery)):
            joined.extend(of_part)
    return Split(sorted(whole.train), sorted(whole.query), sorted(whole.gallery), whole.kind, whole.reason)


def _official(rows: Rows, numbers: Sequence[int], problems: Problems) -> Split:
    """The split that one source has; without one all of its images are trained."""
    where: dict[str, list[int]] = {}
    for number in numbers:
        where.setdefault(rows.splits[number], []).append(number)
    if where.keys() <= {"", "train"}:
        return Split(list(numbers), [], [], "official", "")
    train = sorted(where.get("train", []) + where.get("", []))
    if "query" in where or "gallery" in where:
        query = sorted(where.get("query", []))
        gallery = sorted(where.get("gallery", [])) or train
        for unused in ("val", "test"):
            if unused in where:
                problems.add("not-evaluated", unused, counted(len(where[unused]), "picture"))
        chosen, reason = query or gallery, "query and gallery as the source has them"
        return Split(train, chosen, gallery, "official", reason)
    name = next(split for split in ("eval", "val", "test") if split in where)
    chosen = where[name]
    if name == "val" and "test" in where:
        problems.add("not-evaluated", "test", counted(len(where["test"]), "picture"))
    common = {rows.labels[n] for n in chosen} & {rows.labels[n] for n in train}
    if name != "eval" and len(common) * 2 > len({rows.labels[n] for n in chosen}):
        reason = f"queries from {name}, gallery = the training pictures, as their classes are the same"
        return Split(train, chosen, train, "official", reason)
    trained = "trained too" if common else "not trained"
    reason = f"the evaluation's classes are {trained}: each of its pictures is searched among the others"
    return Split(train, chosen, list(chosen), "official", reason)


def _boxes_of_images(rows: Rows) -> list[list[int]]:
    """The boxes of each image that has several."""
    by_path: dict[str, list[int]] = {}
    for number in rows.boxes:
        by_path.setdefault(rows.paths[number], []).append(number)
    return [group for group in by_path.values() if len(group) > 1]


def _refuse_empty(split: Split, rows: Rows, choices: Choices) -> None:
    """DataError where nothing could be kept for evaluation although the user did not say `--split none`."""
    if split.query or split.kind == "none" or not split.train:
        return
    counts = Counter(rows.labels[n] for n in split.train)
    if max(counts.values()) < 2:
        why = f"each of the {len(counts):,} classes has a single image, and a query needs another one to find"
    elif len(counts) < 2:
        return  # said where classes are counted
    else:
        why = "the classes share images so that none can be taken without leaving another class empty"
    raise DataError(
        f"no image can be kept for evaluation: {why}",
        hint="add images; or train without evaluation: --split none",
    )


def _check_classes(rows: Rows, split: Split, problems: Problems, sample_per_id: int) -> None:
    counts = Counter(rows.labels[n] for n in split.train)
    if len(counts) < 2:
        only = next(iter(counts))
        raise DataError(
            f"only one class to train on: {only!r}",
            hint="telling classes apart needs at least two: one folder per class, or lists with several labels",
        )
    for label, count in sorted(counts.items()):
        if count == 1:
            problems.add("singleton", rows.display.get(label, label))
        elif count < sample_per_id:
            problems.add("few-for-sampler", rows.display.get(label, label), f"{count} of {sample_per_id}")
    middle = float(np.median(list(counts.values())))
    label, most = counts.most_common(1)[0]
    if most > 20 * middle:
        problems.add("imbalance", rows.display.get(label, label), f"{most} pictures, median {middle:g}")
    in_gallery = Counter(rows.labels[n] for n in split.gallery)
    searched = set(split.gallery)
    itself = {rows.labels[n] for n in split.query if n in searched}
    asked = Counter(rows.labels[n] for n in split.query)
    for label in sorted(asked):
        if in_gallery[label] - (1 if label in itself else 0) < 1:
            problems.add("absent-in-gallery", rows.display.get(label, label), counted(asked[label], "query", "queries"))


def _natural(label: str) -> tuple[int, int, str]:
    """Numbers by value, before names."""
    whole = label.isascii() and label.removeprefix("-").isdigit() and len(label) < 19
    return (0, int(label), label) if whole else (1, 0, label)


def number_classes(rows: Rows, split: Split, known: dict[str, int]) -> tuple[dict[str, int], int]:
    """Class name → dense label: those known keep theirs, then training classes, then those only evaluated.

    Returns the names and the number of classes that a head needs (largest training label plus one).
    """
    names = dict(known)
    following = max(names.values(), default=-1) + 1
    trained = {rows.labels[n] for n in split.train}
    for labels in (trained, {rows.labels[n] for part in (split.query, split.gallery) for n in part} - trained):
        for label in sorted(labels, key=_natural):
            shown = rows.display.get(label, label)
            if _distractor(label):
                continue
            if shown not in names:
                names[shown] = following
                following += 1
    return names, max(names[rows.display.get(label, label)] for label in trained) + 1


def _distractor(label: str) -> bool:
    return label == "-1"


def _image_list(rows: Rows, numbers: list[int], names: Mapping[str, int], ids: Mapping[int, int]) -> ImageList:
    classes = {
        label: -1 if _distractor(label) else names[rows.display.get(label, label)]
        for label in {rows.labels[n] for n in numbers}
    }
    labels = [classes[rows.labels[n]] for n in numbers]
    boxes = None
    if rows.boxes:
        boxes = np.full((len(numbers), 4), np.nan, np.float32)
        for at, n in enumerate(numbers):
            if n in rows.boxes:
                boxes[at] = rows.boxes[n]
    own_ids = [ids.get(n, -1) for n in numbers] if any(n in ids for n in numbers) else None
    return ImageList.of([rows.paths[n] for n in numbers], labels, own_ids, boxes)


def _ids(rows: Rows) -> dict[int, int]:
    """Ids as numbers, the same in all lists: numbers stay what they are, names are counted from one million."""
    dense: dict[str, int] = {}
    return {
        number: int(text)
        if text.isascii() and text.isdigit() and len(text) < 19
        else 10**6 + dense.setdefault(text, len(dense))
        for number, text in rows.ids.items()
    }
