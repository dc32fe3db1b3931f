"""Refuse folders that would be classes by their place, but are something else by their names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import split_words
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted, short_list

Label = tuple[str, ...]  # the folders that name a class
DATE = re.compile(
    r"(?:19|20)\d{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:[0-3]\d)?|(?:19|20)\d{2}|[0-3]?\d[-_.][01]?\d[-_.](?:19|20)?\d{2}"
)
# Folders of cameras and of albums by year: 100CANON, 101APPLE, Photos from 2024.
_CAMERA = re.compile(
    r"[1-9]\d\d(?:CANON|APPLE|MSDCF|NIKON|_?PANA|_FUJI|OLYMP|GOPRO|MEDIA|ANDRO|PHOTO|LEICA|RICOH|PENTX|CLOUD)|"
    r"Photos from (?:19|20)\d\d"
)
SAMPLE = 500  # images


def refuse_pairs(source: Source, groups: Mapping[tuple[str, ...], Mapping[str, str]]) -> None:
    """Refuse folders that name a split and a class each, such as train_cat, train_dog, test_cat and test_dog.

    `groups` map the words of folders beside the split to those folders with their splits.
    """
    pairs = [group for rest, group in groups.items() if rest and {"train"} < set(group.values())]
    if len(pairs) > 1 and source.options.depth is None:
        raise UsageError(
            f"{source.path}: its folders name a split and a class at once, such as {' and '.join(pairs[0])}",
            hint="make a folder for each split, with a folder for each class in it; or --depth 1 if each is a class",
        )


def refuse_folds(source: Source, labels: Sequence[tuple[Label, Label]]) -> None:
    """Refuse folders called alike that hold splits of the same classes, as for cross-validation.

    `labels` are those of the images, apart in the folders above and below those of the splits.
    """
    above = sorted({outer for outer, inner in labels if outer and inner})
    below = Counter(inner for _, inner in {pair for pair in labels if all(pair)})
    if len(above) > 1 and len({split_words(outer[-1]) for outer in above}) == 1 and max(below.values()) == len(above):
        first, most = "/".join(above[0]), max(below, key=lambda inner: (below[inner], inner))
        depth = max(len(outer) + len(inner) for outer, inner in labels)
        raise UsageError(
            f"{source.path}: are {short_list(['/'.join(outer) for outer in above])} several splits of the same images?",
            details=[f"otherwise {first}/{'/'.join(most)} is a class of its own"],
            hint=["to read one of them: ", Command("prepare", source.base / first), f"; or, if not, --depth {depth}"],
        )


def refuse_copies(source: Source, labels: Mapping[Label, str]) -> None:
    """Refuse a folder that holds most classes that are beside it again, as archives that hold themselves do.

    `labels` are the classes with their folders.
    """
    inside: dict[Label, list[Label]] = defaultdict(list)
    for label in labels:
        inside[label[:-1]].append(label)
    for outer, inner in inside.items():
        pairs = [(other, label) for label in inner if outer and (other := (*outer[:-1], label[-1])) in labels]
        if len(pairs) > 1 and 2 * len(pairs) >= len(inner):
            first, again = (labels[label] for label in pairs[0])
            folder = source.base / again.rpartition("/")[0]
            raise UsageError(
                f"{folder}: {counted(len(pairs), 'folder')} in it have the names of folders beside it: are they "
                "the same classes?",
                details=[f"{first} and {again} would be read as two classes"],
                hint=[
                    "to read these alone: ",
                    Command("prepare", folder),
                    f"; or --depth {len(pairs[0][1])} if they are other classes",
                ]
                if folder.is_dir()
                else f"leave them out of the archive; or --depth {len(pairs[0][1])} if they are other classes",
            )


def refuse_sorting(source: Source, labels: Mapping[str, Label]) -> None:
    """Refuse folders that only sort images: by date, or 0/1/2 above 012ab.jpg by their names.

    `labels` are the folders with the classes that they would be.
    """
    if source.options.depth is not None:
        return
    for pattern, what in (DATE, "dates"), (_CAMERA, "those of a camera or an album"):
        if len(labels) > 1 and all(pattern.fullmatch(part) for label in labels.values() for part in label):
            raise DataError(
                f"{source.path}: its folders are {what}, such as {next(iter(labels))}, which are not classes",
                hint="put the images of each class into a folder named after it; or --depth 1 if these are the classes",
            )
    deep = {folder for folder, label in labels.items() if len(label) >= 2}
    if not deep or any(len(part) > 2 for label in labels.values() for part in label):
        return
    images = [path for path in source.tree.images if path.rpartition("/")[0] in deep]
    sample = images[:: max(1, len(images) // SAMPLE)]
    letters = {folder: "".join(label) for folder, label in labels.items()}
    sorted_by_name = sum(path.rpartition("/")[2].startswith(letters[path.rpartition("/")[0]]) for path in sample)
    if sorted_by_name > 0.9 * len(sample):
        raise DataError(
            f"{source.path}: its folders only sort the images by the letters of their names, as in {sample[0]}: they "
            "are not classes",
            hint="put the table with the labels beside them; or --depth 1 if these folders are the classes",
        )


def note_same_names(labels: Collection[Label], problems: Problems) -> None:
    """Report folders that have one name in several others, each of which is a class, such as two of customer A."""
    same: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        same[label[-1]].append("/".join(label))
    for name, classes in same.items():
        if len(classes) > 1:
            problems.add("same-folder-name", name, short_list(classes))
