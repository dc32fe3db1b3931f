"""Settle which images train and which evaluate: as the source says, else as `split` chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from shitu_cli.data.lists import is_distractor
from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.alike import Alike
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.box_folders import class_folders
from shitu_cli.preparation.formats.folders_beside import are_named
from shitu_cli.preparation.formats.splits import split_words
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.split import Split, choose_kind, split_images
from shitu_cli.reporting import counted


def settle_split(rows: Rows, alike: Alike, choices: Choices, problems: Problems) -> Split:
    """Return the source's own split where it has one, else a chosen one.

    Raises UsageError if the user asks for a split although the source has one, DataError if nothing can be evaluated.
    """
    if set(rows.splits) <= {"", "train"}:
        split = _chosen(rows, alike, choices, problems)
        if split.kind == "closed":
            _note_without_query(rows, split, problems)
        return split
    if choices.split != "auto":
        own = ", ".join(sorted(set(rows.splits) - {""}))
        raise UsageError(
            f"--split {choices.split}: the source has a split of its own ({own})",
            hint="use it with --split auto, or name the folder or list of the training images only",
        )
    by_origin: dict[int, list[int]] = {}
    for number, origin in enumerate(rows.origins):
        by_origin.setdefault(origin, []).append(number)
    if all(len({rows.splits[number] for number in numbers}) == 1 for numbers in by_origin.values()):
        by_origin = {0: list(range(len(rows)))}  # each source is one split of the same data set
    parts = [_official(rows, numbers, problems) for numbers in by_origin.values()]
    return Split(
        sorted(n for part in parts for n in part.train),
        sorted(n for part in parts for n in part.query),
        sorted(n for part in parts for n in part.gallery),
        "official",
        "; ".join(dict.fromkeys(part.reason for part in parts if part.query)),
    )


def _chosen(rows: Rows, alike: Alike, choices: Choices, problems: Problems) -> Split:
    """Return the split that this program chooses; DataError if it should hold out images but cannot."""
    split = _split_of_classes(rows, alike, choices)
    if split.query or split.kind == "none" or not split.train:
        return split
    counts = Counter(rows.labels[n] for n in split.train)
    if len(counts) < 2:
        return split  # reported where classes are counted
    why = "the classes share images so that none can be taken without leaving another class empty"
    if not rows.boxes:
        why = "the images of each class are nearly the same, and a query would only find itself again"
    examples, wrong = [], problems.lines("error")
    first = "correct what is named here; or " if wrong else ""
    if max(counts.values()) < 2:
        why = f"each of the {len(counts):,} classes has a single image, and a query needs another one to find"
        examples = [f"{rows.place(n)} is {rows.shown(rows.labels[n])!r}" for n in split.train[:2]]
        if not wrong and any(rows.files):
            first = "if the class is another value, name its file, or its column with --columns label=NAME; or "
    raise DataError(
        f"no image can be held out for evaluation: {why}",
        details=[*examples, *wrong],
        hint=f"{first}add images; or train without evaluation: --split none",
    )


def _split_of_classes(rows: Rows, alike: Alike, choices: Choices) -> Split:
    """Return the split of the images that have a class; the others are trained, so that they are reported there."""
    by_path: dict[str, list[int]] = {}
    for number in rows.boxes:
        by_path.setdefault(rows.paths[number], []).append(number)
    together: list[Sequence[int]] = [*alike.identical, *alike.near]
    one_image: list[Sequence[int]] = [boxes for boxes in by_path.values() if len(boxes) > 1]
    labels, paths, kept = rows.labels, rows.paths, list[int]()
    if any(map(is_distractor, set(labels))):
        kept = [number for number, label in enumerate(labels) if not is_distractor(label)]
        labels, paths = [labels[n] for n in kept], [paths[n] for n in kept]
        at = {number: place for place, number in enumerate(kept)}
        together = [[at[n] for n in group if n in at] for group in together]
        one_image = [[at[n] for n in group if n in at] for group in one_image]
    classes = len(set(labels))
    kind, reason = choose_kind(classes) if choices.split == "auto" else (choices.split, "as requested")
    split = split_images(
        labels,
        paths,
        kind=kind,
        reason=reason,
        share=choices.share,
        seed=choices.seed,
        alike=together,
        one_image=one_image,
    )
    if not kept:
        return split
    train, query, gallery = ([kept[n] for n in part] for part in (split.train, split.query, split.gallery))
    return replace(split, train=sorted({*range(len(rows))} - {*kept} | {*train}), query=query, gallery=gallery)


def _note_without_query(rows: Rows, split: Split, problems: Problems) -> None:
    """Report the classes of which no image could become a query: an evaluation says nothing about them."""
    with_query = {rows.labels[n] for n in split.query}
    for label, count in sorted(Counter(rows.labels).items()):
        if label not in with_query and count > 1 and not is_distractor(label):
            problems.add("no-query", rows.shown(label), counted(count, "image"))


def _note_other_names(rows: Rows, train: Sequence[int], evaluated: Sequence[int], problems: Problems) -> None:
    """Report that one part calls its classes by numbers, and the other by names: they may be the same classes."""
    training, evaluation = ({rows.shown(rows.labels[n]) for n in numbers} for numbers in (train, evaluated))
    if {all(map(str.isdecimal, training)), all(map(str.isdecimal, evaluation))} == {True, False}:
        problems.add("other-names", f"{min(training)!r} in training", f"{min(evaluation)!r} in evaluation")


def _note_other_numbers(rows: Rows, first: Sequence[int], second: Sequence[int], problems: Problems) -> None:
    """Report images of one folder under two labels, or of folders that share no word under one: numbers differ.

    Only of folders with names of their own, each of which has one label and each label one folder in either part.
    """
    folders, others = _labels_of_folders(rows, first), _labels_of_folders(rows, second)
    if not are_named(folders) or not are_named(others):
        return
    shared = sorted(folders.keys() & others.keys())
    pairs = [(folders[folder], others[folder]) for folder in shared] or _of_one_number(rows, folders, others)
    for a, b in pairs if len(pairs) > 1 else ():
        label, other = rows.shown(rows.labels[a]), rows.shown(rows.labels[b])
        if not shared:
            problems.add("other-numbers", rows.place(b), f"{label!r} here and at {rows.place(a)}")
        elif label != other:
            problems.add("other-numbers", rows.place(b), f"{other!r} here, {label!r} at {rows.place(a)}")


def _of_one_number(rows: Rows, folders: dict[str, int], others: dict[str, int]) -> list[tuple[int, int]]:
    """Return the images of one number in two parts without a common folder; [] where folders may be called anyhow."""
    at = {label: number for number in folders.values() if (label := rows.labels[number]).isdecimal()}
    pairs = [(at[label], number) for number in others.values() if (label := rows.labels[number]) in at]
    if any(any(map(str.isdigit, folder)) for folder in (*folders, *others)):
        return []  # random names
    return [] if any(_words(rows.paths[a]) & _words(rows.paths[b]) for a, b in pairs) else pairs


def _words(path: str) -> set[str]:
    return {word for folder in class_folders(path) for word in split_words(folder)[1]}


def _labels_of_folders(rows: Rows, numbers: Sequence[int]) -> dict[str, int]:
    """Return the first image of each folder; {} unless each folder has one label and each label one folder."""
    first: dict[str, int] = {}
    by_label: dict[str, str] = {}
    for number in numbers:
        folder, label = "/".join(class_folders(rows.paths[number])), rows.labels[number]
        if rows.labels[first.setdefault(folder, number)] != label or by_label.setdefault(label, folder) != folder:
            return {}
    return first


def _official(rows: Rows, numbers: Sequence[int], problems: Problems) -> Split:
    """Return the split of one source; a source without one is for training only."""
    where: dict[str, list[int]] = {}
    for number in numbers:
        where.setdefault(rows.splits[number], []).append(number)
    if where.keys() <= {"", "train"}:
        return Split(list(numbers), [], [], "official", "")
    train = sorted(where.get("train", []) + where.get("", []))
    for part, other in (("train", "val"), ("train", "test"), ("train", "query"), ("query", "gallery")):
        _note_other_numbers(rows, train if part == "train" else where.get(part, []), where.get(other, []), problems)
    if "query" in where or "gallery" in where:
        query, gallery = where.get("query", []), where.get("gallery", []) or train
        for unused in ("val", "test"):
            if unused in where:
                problems.add("not-evaluated", unused, counted(len(where[unused]), "image"))
        return Split(train, query or gallery, gallery, "official", "query and gallery as the source has them")
    name = next(split for split in ("eval", "val", "test") if split in where)
    evaluated = where[name]
    if name == "val" and "test" in where:
        problems.add("not-evaluated", "test", counted(len(where["test"]), "image"))
    classes = {rows.labels[n] for n in evaluated}
    common = classes & {rows.labels[n] for n in train}
    if name != "eval" and len(common) * 2 > len(classes):
        reason = f"queries from {name}, gallery = the training images, as their classes are the same"
        return Split(train, evaluated, train, "official", reason)
    if not common and name != "eval":
        _note_other_names(rows, train, evaluated, problems)
    trained = "trained too" if common else "not trained"
    reason = f"the evaluation's classes are {trained}: each of its images is searched among the others"
    return Split(train, evaluated, list(evaluated), "official", reason)
