"""Settle which images train and which evaluate: as the source says, else as `split` chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from shitu_cli.data.lists import is_distractor
from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.alike import Alike
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.formats.base import Rows
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
    kind, reason = choose_kind(len(set(rows.labels))) if choices.split == "auto" else (choices.split, "as requested")
    by_path: dict[str, list[int]] = {}
    for number in rows.boxes:
        by_path.setdefault(rows.paths[number], []).append(number)
    split = split_images(
        rows.labels,
        rows.paths,
        kind=kind,
        reason=reason,
        share=choices.share,
        seed=choices.seed,
        alike=[*alike.identical, *alike.near],
        one_image=[boxes for boxes in by_path.values() if len(boxes) > 1],
    )
    if split.query or split.kind == "none" or not split.train:
        return split
    counts = Counter(rows.labels[n] for n in split.train)
    if len(counts) < 2:
        return split  # reported where classes are counted
    why = "the classes share images so that none can be taken without leaving another class empty"
    if not rows.boxes:
        why = "the images of each class are nearly the same, and a query would only find itself again"
    examples, wrong = [], problems.lines("error")
    correct = "correct what is named here; or " if wrong else ""
    if max(counts.values()) < 2:
        why = f"each of the {len(counts):,} classes has a single image, and a query needs another one to find"
        examples = [f"{rows.place(n)} is {rows.shown(rows.labels[n])!r}" for n in split.train[:2]]
    raise DataError(
        f"no image can be held out for evaluation: {why}",
        details=[*examples, *wrong],
        hint=f"{correct}add images; or train without evaluation: --split none",
    )


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


def _official(rows: Rows, numbers: Sequence[int], problems: Problems) -> Split:
    """Return the split of one source; a source without one is for training only."""
    where: dict[str, list[int]] = {}
    for number in numbers:
        where.setdefault(rows.splits[number], []).append(number)
    if where.keys() <= {"", "train"}:
        return Split(list(numbers), [], [], "official", "")
    train = sorted(where.get("train", []) + where.get("", []))
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
