"""From a source to trustworthy lists: read, look at every image, judge, split, number the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from shitu_cli.data.lists import ImageList, is_distractor
from shitu_cli.errors import Command, DataError, Message
from shitu_cli.preparation.alike import Alike, find_alike
from shitu_cli.preparation.audit import Look, LookCache, look_at_all, report_looks
from shitu_cli.preparation.checks import check_alike, check_boxes, check_classes, check_lines
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.comparison import Comparison
from shitu_cli.preparation.corrections import Applied, apply_corrections, check_place
from shitu_cli.preparation.formats.base import ANNOTATIONS, TABLE, Format, Rows
from shitu_cli.preparation.numbering import image_list, number_classes, number_ids
from shitu_cli.preparation.official import settle_split
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.reading import describe, read_sources
from shitu_cli.preparation.split import Split
from shitu_cli.preparation.unlabelled import one_class
from shitu_cli.reporting import Reporter, counted

UNUSABLE = ("missing", "empty-file", "not-an-image", "truncated", "unreadable", "too-large")


@dataclass
class Prepared:
    """Lists with dense labels, and everything to report. `names` maps classes to labels, training classes first.

    `comparison` is set if features were compared.
    """

    image_root: Path
    format: str
    train: ImageList
    query: ImageList | None
    gallery: ImageList | None
    names: dict[str, int] = field(repr=False)
    class_num: int
    split: str
    problems: Problems = field(repr=False)
    left_out: int
    rows: Rows = field(repr=False)
    looks: list[Look] = field(repr=False)
    alike: Alike = field(repr=False)
    corrections: Applied | None = field(default=None, repr=False)
    comparison: Comparison | None = field(default=None, repr=False)

    @property
    def classes(self) -> int:
        """The number of classes that have training images."""
        return len(np.unique(self.train.labels))


def read_and_split(
    sources: Sequence[Path],
    choices: Choices,
    reporter: Reporter,
    *,
    known_names: Mapping[str, int] | None = None,
    sample_per_id: int = 1,
    cache: LookCache | None = None,
) -> Prepared:
    """Read, check and split the sources; write nothing. `known_names` are labels of earlier runs, which are kept.

    Raises UsageError if the user has to decide something, DataError when nothing in the sources can be used.
    """
    problems = Problems()
    if choices.corrections is not None:
        check_place(choices.corrections, sources)
    rows, formats = read_sources(sources, choices, problems)
    name = " + ".join(chosen.name for chosen in formats)
    reporter.info(f"read as {name}: {counted(len(rows), 'labelled image')} below {rows.root}")
    for line in describe(rows):
        reporter.info(f"  {line}")
    applied = None
    if choices.corrections is not None:
        rows, applied = apply_corrections(rows, choices.corrections, sources)
        reporter.info(f"  {applied}")
    if problem := one_class(rows, formats, sources, problems):
        raise problem
    before = len(rows)
    rows = check_lines(rows, problems)
    rows, looks, alike = _look(rows, choices, problems, reporter, cache)
    if not len(rows):
        raise DataError(
            f"none of the {before:,} images can be used",
            details=problems.lines("error", "warning", "note"),
            hint=_where_are_they(formats),
        )
    split = _without_distractors(settle_split(rows, alike, choices, problems), rows, problems)
    check_classes(rows, split, problems, sample_per_id)
    names, class_num = number_classes(rows, split, _known_here(rows, known_names or {}, reporter))
    ids = number_ids(rows)
    train, query, gallery = (image_list(rows, part, names, ids) for part in (split.train, split.query, split.gallery))
    return Prepared(
        image_root=rows.root,
        format=name,
        train=train,
        query=query if split.query else None,
        gallery=gallery if split.query else None,
        names=names,
        class_num=class_num,
        split=f"{split.kind}: {split.reason}",
        problems=problems,
        left_out=before - len(rows),
        rows=rows,
        looks=looks,
        alike=alike,
        corrections=applied,
    )


def _look(
    rows: Rows, choices: Choices, problems: Problems, reporter: Reporter, cache: LookCache | None
) -> tuple[Rows, list[Look], Alike]:
    """Return the rows whose images can be used, with the look of each, and the images that are alike."""
    paths = [rows.location(number) for number in range(len(rows))]
    looks = look_at_all(paths, reporter, cache=cache or LookCache(None), decode=not choices.quick)
    report_looks(looks, rows.place, problems)
    outside = check_boxes(rows, looks, problems)
    usable = [n for n in range(len(rows)) if looks[n].problem not in UNUSABLE and n not in outside]
    rows, looks = rows.take(usable), [looks[n] for n in usable]
    alike = find_alike(looks)
    dropped = check_alike(rows, alike, problems)
    if choices.fix and dropped:
        kept = [n for n in range(len(rows)) if n not in dropped]
        rows, looks = rows.take(kept), [looks[n] for n in kept]
        alike = find_alike(looks)
    return rows, looks, alike


def _without_distractors(split: Split, rows: Rows, problems: Problems) -> Split:
    """Return the split without training images and queries of no class; DataError if there are none to train on."""
    kept = {}
    for kind, part in {"untrained": split.train, "unasked": split.query}.items():
        kept[kind] = [n for n in part if not is_distractor(rows.labels[n])]
        for n in part if len(kept[kind]) < len(part) else ():
            if is_distractor(rows.labels[n]):
                problems.add(kind, rows.place(n))
    trained = kept["untrained"]
    if not trained:
        raise DataError(
            "there are no images to train on: "
            + ("all are queries or gallery" if split.query or split.gallery else "none has a class"),
            hint="put such images into train/ beside the others; or name the folder or list to train on alone",
        )
    return replace(split, train=trained, query=kept["unasked"])


def _where_are_they(formats: Sequence[Format]) -> Message:
    """Return the way out where no image can be used: only some formats take --image-root."""
    if {chosen.rank for chosen in formats} <= {ANNOTATIONS, TABLE}:
        return "is the image root right? --image-root names it"
    return [
        "are the images unpacked, and in the folders that this layout has? ",
        Command("prepare", "--formats"),
        " describes it",
    ]


def _known_here(rows: Rows, earlier: Mapping[str, int], reporter: Reporter) -> Mapping[str, int]:
    """Return the earlier numbers of classes; {} if none of these classes is here, as in another data set."""
    if earlier and earlier.keys().isdisjoint(map(rows.shown, set(rows.labels))):
        reporter.info(
            f"none of the {len(earlier)} classes of the last run is in these images: classes are numbered from 0 again"
        )
        return {}
    return earlier
