"""The gallery of `reports/prepare.html`, to see and correct wrong labels in; `gallery.js` builds it from data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.preparation.alike import IDENTICAL, NEAR
from shitu_cli.preparation.comparison import COMPARED, Comparison, by_colours
from shitu_cli.preparation.corrections import spelling
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.report.page import thumbnail
from shitu_cli.reporting import visible
from shitu_cli.runtime.threads import compute_threads, image_threads
from shitu_cli.stores import absolute, is_stored

MOST = 600  # images on the page
OFFERED = 2_000  # classes that are offered while a label is typed
PAIR, LIKELIER, ODD_SIZE, REPEATED, UNSUSPECTED = range(5)  # ranks of suspicion, the strongest first
_ALIKE = {IDENTICAL: "identical to", NEAR: "nearly the same as"}
_ODD = {"tiny": "tiny", "extreme-aspect": "odd shape"}


@dataclass(frozen=True)
class LabelGallery:
    """What gallery.html shows: `data` for the script, how many images are `shown`, what they were compared `by`."""

    data: dict[str, Any]
    shown: str
    by: str
    command: str


def label_gallery(prepared: Prepared, command: str) -> LabelGallery:
    """Return the gallery; `command` applies the corrections that it writes."""
    rows = prepared.rows
    comparison = prepared.comparison or by_colours(rows.labels, prepared.looks)
    pairs = _pairs(prepared)
    ranks = _ranks(prepared, pairs, comparison)
    numbers = _without_repeats(rows, choose(rows.labels, ranks, comparison.scores, MOST))
    reasons = _reasons(prepared, pairs, comparison, set(numbers))
    position = {spelling(rows, number): at for at, number in enumerate(numbers)}

    def image(number: int) -> dict[str, Any]:
        rather = rows.shown(comparison.likelier[number]) if number in comparison.likelier else ""
        suspicion = {"rank": ranks.get(number, UNSUSPECTED), "why": reasons.get(number, []), "rather": rather}
        return {**_image(prepared, number), **suspicion, "unlike": round(float(comparison.scores[number]), 3)}

    with image_threads(compute_threads(), "page") as pool:
        images = list(pool.map(image, numbers))
    names = [tuple(spelling(rows, number) for number in pair[:2]) for pair in pairs[:MOST]]
    applied = prepared.corrections
    data = {
        "images": images,
        "pairs": [[position[name] for name in pair] for pair in names if position.keys() >= set(pair)],
        "classes": sorted(filter(_is_text, prepared.names))[:OFFERED],
        "earlier": applied.labels if applied else {},
    }
    shown = _summary(_count_images(rows), len(_without_repeats(rows, ranks)), len(numbers))
    return LabelGallery(data, shown, comparison.by, command)


def _without_repeats(rows: Rows, numbers: Iterable[int]) -> list[int]:
    """Return the numbers without repeated images: an image may be in two lists."""
    return list({spelling(rows, number): number for number in reversed(list(numbers))}.values())[::-1]


def _count_images(rows: Rows) -> int:
    """Return the number of images and boxes; for very large data sets, that of their lines."""
    return len(rows) if len(rows) > COMPARED else len(_without_repeats(rows, range(len(rows))))


def _summary(images: int, suspects: int, shown: int) -> str:
    if shown == images:
        return f"All {images:,} images; {suspects:,} of them should be checked."
    rest = f"{images - shown:,} are not shown."
    if suspects > shown:
        return f"{shown:,} of {suspects:,} images to check, of {images:,} in all; {rest}"
    return f"{shown:,} of {images:,} images: all {suspects:,} to check, and some of each class; {rest}"


def _pairs(prepared: Prepared) -> list[tuple[int, int, str]]:
    """Return the pairs of alike images in two classes, identical ones first."""
    labels, paths = prepared.rows.labels, prepared.rows.paths
    # Several boxes of one file are no pair.
    return [(a, b, how) for a, b, how in prepared.alike.pairs() if labels[a] != labels[b] and paths[a] != paths[b]]


def _repeats(prepared: Prepared) -> Iterator[tuple[int, int]]:
    """Yield each image that repeats another one of its class, and that one."""
    rows = prepared.rows
    for first, *others in prepared.alike.identical:
        for number in others:
            if rows.labels[number] == rows.labels[first] and rows.paths[number] != rows.paths[first]:
                yield number, first


def _ranks(prepared: Prepared, pairs: Sequence[tuple[int, int, str]], comparison: Comparison) -> dict[int, int]:
    """Return the suspects, pair by pair, with the rank of the strongest suspicion."""
    ranks = {number: PAIR for a, b, _ in pairs for number in (a, b)}
    for number in comparison.suspects():
        ranks.setdefault(number, LIKELIER)
    for number, look in enumerate(prepared.looks):
        if look.notes and not _ODD.keys().isdisjoint(look.notes):
            ranks.setdefault(number, ODD_SIZE)
    for number, _ in _repeats(prepared):
        ranks.setdefault(number, REPEATED)
    return ranks


def _reasons(
    prepared: Prepared, pairs: Sequence[tuple[int, int, str]], comparison: Comparison, chosen: set[int]
) -> dict[int, list[str]]:
    """Return the suspicions against the chosen images in words."""
    rows = prepared.rows
    reasons: dict[int, list[str]] = {}
    for first, second, how in pairs:
        for a, b in ((first, second), (second, first)):
            if a in chosen:
                label = visible(rows.shown(rows.labels[b]))
                reasons.setdefault(a, []).append(f"{_ALIKE[how]} {visible(rows.paths[b])}, which is {label}")
    for number in chosen:
        if number in comparison.likelier:
            reasons.setdefault(number, []).append(f"looks more like {visible(rows.shown(comparison.likelier[number]))}")
        words = [_ODD[note] for note in prepared.looks[number].notes if note in _ODD]
        reasons.setdefault(number, []).extend(words)
    for number, first in _repeats(prepared):
        if number in chosen:
            reasons[number].append(f"identical to {visible(rows.paths[first])}")
    return reasons


def choose(labels: Sequence[str], ranks: Mapping[int, int], unlike: np.ndarray, most: int) -> list[int]:
    """Return the images to show: suspects by rank, then in turn from each class the one that fits it least.

    In very large data sets, only a sample of the unsuspicious ones is considered.
    """
    chosen = sorted(ranks, key=lambda number: ranks[number])[:most]
    step = -(-len(labels) // COMPARED)
    others = [number for number in range(0, len(labels), max(1, step)) if number not in ranks]
    classes: dict[str, list[int]] = {}
    for number in sorted(others, key=lambda number: -unlike[number]):
        classes.setdefault(labels[number], []).append(number)
    turns = sorted((turn, label, number) for label, some in classes.items() for turn, number in enumerate(some[:most]))
    return chosen + [number for _, _, number in turns[: most - len(chosen)]]


def _image(prepared: Prepared, number: int) -> dict[str, Any]:
    """Return an image as the script takes it; `path` is None if a table in UTF-8 cannot name it."""
    rows, look = prepared.rows, prepared.looks[number]
    named, file, box = spelling(rows, number), absolute(rows.location(number)), rows.boxes.get(number)
    label = rows.shown(rows.labels[number])
    return {
        "path": named if _is_text(named) else None,
        "shown": visible(named),
        "label": visible(label),
        "original": label,
        "width": look.width,
        "height": look.height,
        "box": box,
        "thumb": thumbnail(file, box, side=144),
        "source": "" if is_stored(file) else Path(file).as_uri(),
    }


def _is_text(path: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in path)
