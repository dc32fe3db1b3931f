"""Source formats of `shitu prepare`. To add one: write a file with a Format and name it in FORMATS."""

from __future__ import annotations

import csv
import os
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from itertools import combinations

from shitu_cli.data.images import is_image_name
from shitu_cli.errors import Command, DataError, ShituError, UsageError
from shitu_cli.extensions import extension_names, load_extension
from shitu_cli.preparation.formats.aircraft import AIRCRAFT
from shitu_cli.preparation.formats.aliproduct import ALIPRODUCT
from shitu_cli.preparation.formats.archives import ARCHIVES
from shitu_cli.preparation.formats.base import ANNOTATIONS, DATASET, FOLDERS, PACKED, Format, Rows
from shitu_cli.preparation.formats.base import TABLE as TABLE_RANK
from shitu_cli.preparation.formats.box_folders import label_by_folders, refuse_general_names
from shitu_cli.preparation.formats.box_tables import BOX_TABLE
from shitu_cli.preparation.formats.cars import CARS
from shitu_cli.preparation.formats.coco import COCO
from shitu_cli.preparation.formats.createml import CREATE_ML
from shitu_cli.preparation.formats.cub import CUB
from shitu_cli.preparation.formats.cvat import CVAT
from shitu_cli.preparation.formats.deepfashion2 import DEEP_FASHION2
from shitu_cli.preparation.formats.fiftyone import FIFTYONE
from shitu_cli.preparation.formats.gldv2 import GLDV2
from shitu_cli.preparation.formats.groundtruth import GROUND_TRUTH
from shitu_cli.preparation.formats.huggingface import HUGGING_FACE
from shitu_cli.preparation.formats.icartoon import ICARTOON
from shitu_cli.preparation.formats.inshop import INSHOP
from shitu_cli.preparation.formats.labelme import LABELME
from shitu_cli.preparation.formats.labelnames import report_empty_words, tidy_names
from shitu_cli.preparation.formats.labelstudio import LABEL_STUDIO
from shitu_cli.preparation.formats.logodet import LOGODET
from shitu_cli.preparation.formats.pets import PETS
from shitu_cli.preparation.formats.plain_tables import PLAIN_TABLE
from shitu_cli.preparation.formats.products10k import PRODUCTS10K
from shitu_cli.preparation.formats.reid import MARKET1501, VERI776
from shitu_cli.preparation.formats.sop import SOP
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import splits_of_names
from shitu_cli.preparation.formats.supervisely import SUPERVISELY
from shitu_cli.preparation.formats.table import TABLE, TEXT_LIST, labels_most
from shitu_cli.preparation.formats.tiny_imagenet import TINY_IMAGENET
from shitu_cli.preparation.formats.tree import CLASS_TREE, SPLIT_TREE
from shitu_cli.preparation.formats.unreadable import archives_beside, unread_files
from shitu_cli.preparation.formats.veriwild import VERIWILD
from shitu_cli.preparation.formats.via import VIA
from shitu_cli.preparation.formats.voc import VOC
from shitu_cli.preparation.formats.yolo import YOLO
from shitu_cli.preparation.problems import Problems

GROUP = "shitu.formats"  # of entry points

# Of the public data sets the first that recognises a source reads it: no two of them have the same files.
FORMATS: tuple[Format, ...] = (
    *(ALIPRODUCT, GLDV2, VERIWILD, LOGODET, ICARTOON, SOP, INSHOP),
    *(CUB, CARS, PRODUCTS10K, MARKET1501, VERI776, PETS, TINY_IMAGENET, AIRCRAFT),
    *(COCO, VOC, YOLO, LABELME, CREATE_ML, CVAT, VIA, LABEL_STUDIO, GROUND_TRUTH, SUPERVISELY, FIFTYONE),
    *(ARCHIVES, DEEP_FASHION2, HUGGING_FACE, BOX_TABLE, PLAIN_TABLE),
    *(TABLE, TEXT_LIST, SPLIT_TREE, CLASS_TREE),
)


# Errors that damaged files cause in readers, beyond those that these check for.
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, EOFError),
    *(struct.error, csv.Error, ElementTree.ParseError),
)
FEW = 0.2  # share of the images that another reading may label beside, without being asked about


def all_formats() -> tuple[Format, ...]:
    """Return those of installed packages, then those of this program; ConfigError if one does not fit."""
    added = (load_extension(GROUP, name, Format) for name in extension_names(GROUP))
    return (*(extension for extension in added if extension is not None), *FORMATS)


def find_format(source: Source, name: str | None = None) -> Format:
    """Return the format named, or the one that reads the source.

    Raises UsageError for an unknown name, for a source of no known layout, and where two formats read it differently.
    """
    if name is not None:
        return _named(name)
    if source.options.columns:
        roles = source.options.columns.keys()
        takers = (candidate for candidate in FORMATS if candidate.columns and roles <= candidate.columns)
        return next((candidate for candidate in (*takers, TABLE, TEXT_LIST) if candidate.detect(source)), TABLE)
    for rank in (DATASET, PACKED, ANNOTATIONS, TABLE_RANK, FOLDERS):
        candidates = [candidate for candidate in all_formats() if candidate.rank == rank and candidate.detect(source)]
        if candidates:
            source.memo["annotated"] = rank == ANNOTATIONS
            beside = [TABLE] if rank == ANNOTATIONS and labels_most(source) else []
            return candidates[0] if rank in (DATASET, PACKED, FOLDERS) else _agreeing(source, candidates, beside)
    if is_image_name(source.path.name) and not source.path.is_dir():
        raise UsageError(
            f"{source.path} is an image: name the folder or the list of all images",
            hint=[
                Command("prepare", source.path.parent),
                ", if the images of each class are in a folder named after it",
            ],
        )
    raise UsageError(f"{source.path}: unknown layout", hint=[Command("prepare", "--formats"), " lists them"])


def read_source(
    source: Source,
    problems: Problems,
    name: str | None = None,
    check: Callable[[Format], None] = lambda chosen: None,
) -> tuple[Format, Rows]:
    """Find the format of a source and read it; every command that reads a source calls this.

    `check` may refuse the format before it reads. Raises DataError or UsageError, and nothing else whatever the files
    hold: an error that a reader does not expect comes from damage, and is reported with the file.
    """
    chosen = None
    source.format_named = name is not None
    try:
        chosen = find_format(source, name)
        check(chosen)
        rows = chosen.read(source, problems)
        if chosen.rank == ANNOTATIONS and source.options.depth is not None:
            rows = label_by_folders(rows, source.options.depth, problems)
        elif chosen.rank == ANNOTATIONS:
            refuse_general_names(source, rows, chosen.name)
        if chosen.rank == ANNOTATIONS and source.path.is_dir():
            rows.unused = unread_files(source) | rows.unused
        if chosen.rank in (ANNOTATIONS, TABLE_RANK, FOLDERS):
            rows.unused = archives_beside(source, rows.paths) | rows.unused
        if set(rows.splits) <= {""} and splits_of_names(rows.paths):
            rows.readings.append(
                f"splits: only folders are taken as splits, not names of images such as {rows.paths[-1]}"
            )
        tidy_names(rows, problems)
        report_empty_words(rows, problems)
        return chosen, rows
    except _DAMAGE as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        read_as = f" as {chosen.name}" if chosen is not None else ""
        raise DataError(
            f"{problems.reading or source.path}: cannot be read{read_as} ({what})",
            hint=["is the file whole? copy it again; ", Command("prepare", "--formats"), " lists what is read"],
        ) from error


def _named(name: str) -> Format:
    for candidate in all_formats():
        if candidate.name == name:
            return candidate
    raise UsageError(
        f"--format {name}: expected one of {', '.join(f.name for f in all_formats())}",
        hint=Command("prepare", "--formats"),
    )


def _agreeing(source: Source, candidates: Sequence[Format], beside: Sequence[Format]) -> Format:
    """Return the first of several formats, if all of them that can read the source read the same labels.

    Those `beside` are never chosen, but must not contradict it with files of their own.
    """
    if len(candidates) + len(beside) == 1:
        return candidates[0]
    readings = _readings(source, candidates)
    if not readings:
        return candidates[0]  # which says why it cannot be read
    used = {file for _, rows in readings for file in rows.label_files}
    others_beside = [reading for reading in _readings(source, beside) if not used & set(reading[1].label_files)]
    # The first that labels nearly all that any of them labels: annotations of boxes say more than a table.
    most = max((len(set(rows.paths)) for _, rows in readings), default=0)
    readings.sort(key=lambda reading: len(set(reading[1].paths)) < (1 - FEW) * most)
    for (first, rows), (other, others) in combinations([*readings, *others_beside], 2):
        if (example := _contradiction(rows, others)) is not None:
            raise UsageError(
                f"{source.path}: two ways to read it, as {first.name} and as {other.name}",
                details=[f"{first.name}: {example[0]}", f"{other.name}: {example[1]}"],
                hint=f"--format {first.name} or --format {other.name}; or move the files of the other away",
            )
        _refuse_halves(source, (first, rows), (other, others))
    return readings[0][0]


def _readings(source: Source, formats: Sequence[Format]) -> list[tuple[Format, Rows]]:
    """Return the formats that can read the source, each with its rows."""
    readings = []
    for candidate in formats:
        try:
            rows = candidate.read(Source(source.path, source.options), Problems())
        except ShituError:
            continue
        if len(rows):
            readings.append((candidate, rows))
    return readings


def _refuse_halves(source: Source, first: tuple[Format, Rows], second: tuple[Format, Rows]) -> None:
    """Refuse two readings each of which labels many images that the other does not."""
    paths, others = ({os.path.abspath(rows.root / path) for path in rows.paths} for _, rows in (first, second))
    if len(others - paths) <= FEW * max(len(paths), len(others)):
        return
    examples = [(paths - others or paths, *first), (others - paths, *second)]
    raise UsageError(
        f"{source.path}: {first[0].name} labels {len(paths):,} images, {second[0].name} {len(others):,} others",
        details=[f"{reader.name}: {rows.label_files[0]}: {min(only)}" for only, reader, rows in examples],
        hint=f"--format {first[0].name} or --format {second[0].name}; or move the files of the other away",
    )


def _contradiction(rows: Rows, others: Rows) -> tuple[str, str] | None:
    """Return an image that two readings label differently, as both say it; None if they agree."""
    first: dict[str, dict[str, int]] = {}
    for number, path in enumerate(rows.paths):
        label = rows.shown(rows.labels[number])
        first.setdefault(os.path.abspath(rows.root / path), {}).setdefault(label, number)
    for number, path in enumerate(others.paths):
        labels = first.get(os.path.abspath(others.root / path))
        label = others.shown(others.labels[number])
        if labels is not None and label not in labels:
            row = next(iter(labels.values()))
            return (
                f"{rows.where(row)}: {rows.paths[row]} is {', '.join(labels)}",
                f"{others.where(number)}: {path} is {label}",
            )
    return None
