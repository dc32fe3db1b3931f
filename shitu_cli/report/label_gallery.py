"""The gallery of `reports/prepare.html`, to see and correct wrong labels in; `gallery.js` builds it from data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import numpy as np

from shitu_cli.preparation.audit import Look
from shitu_cli.preparation.corrections import spelling
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.report.page import escape, section, thumbnail
from shitu_cli.reporting import visible
from shitu_cli.runtime.threads import compute_threads

MOST = 600  # images on the page
COMPARED = 200_000  # images up to which their colours are compared
OFFERED = 2_000  # classes that are offered while a label is typed
PAIRS, SMALL, SAME, OTHER = range(4)  # what is suspected first
_CONTROLS = """
<noscript><p>The gallery needs JavaScript.</p></noscript>
<div id="tools" hidden>
<label>show <select id="view">
<option value="pairs">the same image in two classes</option><option value="suspects">suspects first</option>
<option value="unlike">unlike their class in colour first</option><option value="smallest">smallest first</option>
<option value="largest">largest first</option><option value="classes">by class</option></select></label>
<label>of <select id="only"><option value="">all classes</option></select></label>
<span id="count" role="status"></span><button type="button" id="save">Download corrections.csv</button>
</div><div id="cards"></div><datalist id="classes"></datalist>
<dialog id="dialog" aria-labelledby="about"><p><span id="about"></span>
<button type="button" id="close">Close</button></p><div id="large"></div></dialog>
"""


def style() -> str:
    """Return the style sheet of the gallery."""
    return files(__package__).joinpath("gallery.css").read_text(encoding="utf-8")


def script() -> str:
    """Return the script of the gallery."""
    return files(__package__).joinpath("gallery.js").read_text(encoding="utf-8")


def label_gallery(prepared: Prepared, command: str) -> str:
    """Return the section; `command` applies the corrections that it writes."""
    pairs = _pairs(prepared)
    reasons = _reasons(prepared, pairs)
    unlike = unlike_class(prepared.rows.labels, prepared.looks)
    numbers = choose(prepared.rows.labels, reasons, unlike, MOST)
    position = {number: at for at, number in enumerate(numbers)}
    with ThreadPoolExecutor(compute_threads(), thread_name_prefix="shitu-page") as pool:
        images = list(pool.map(lambda number: _image(prepared, number, reasons, unlike), numbers))
    applied = prepared.corrections
    data = {
        "images": images,
        "pairs": [[position[a], position[b]] for a, b, _ in pairs if a in position and b in position],
        "classes": sorted(filter(_is_text, prepared.names))[:OFFERED],
        "earlier": applied.labels if applied else {},
    }
    # Escapes leave nothing in it that ends the element, and nothing that a browser hides.
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    return section(
        "Labels",
        f"<p>{escape(_shown(len(prepared.rows), len(reasons), len(numbers)))} Tick images to leave out or give another "
        f"label, download the table of corrections, and apply it; your files stay as they are:</p>"
        f"<p><code>{escape(command)}</code></p>",
        _CONTROLS,
        f'<script type="application/json" id="labels">{text}</script>',
    )


def _shown(images: int, suspects: int, shown: int) -> str:
    if shown == images:
        return f"All {images:,} images, {suspects:,} of them suspects."
    rest = f"{images - shown:,} are not shown."
    if suspects > shown:
        return f"{shown:,} of {suspects:,} suspects among {images:,} images: {rest}"
    return f"{shown:,} of {images:,} images: all {suspects:,} suspects, and some of each class; {rest}"


def _pairs(prepared: Prepared) -> list[tuple[int, int, str]]:
    """Return the pairs of alike images in two classes, identical ones first."""
    labels = prepared.rows.labels
    pairs = [(group[0], other, "identical to") for group in prepared.alike.identical for other in group[1:]]
    pairs += [(a, b, "nearly the same as") for a, b in prepared.alike.near]
    return [(a, b, how) for a, b, how in pairs if labels[a] != labels[b]][: MOST // 2]


def _reasons(prepared: Prepared, pairs: Sequence[tuple[int, int, str]]) -> dict[int, tuple[int, list[str]]]:
    """Return what speaks against images: the rank of the worst reason, and all of them in words."""
    rows = prepared.rows
    reasons: dict[int, tuple[int, list[str]]] = {}

    def add(number: int, rank: int, reason: str) -> None:
        before, texts = reasons.get(number, (rank, []))
        reasons[number] = (min(before, rank), [*texts, reason])

    for first, second, how in pairs:
        for a, b in ((first, second), (second, first)):
            add(a, PAIRS, f"{how} {visible(rows.paths[b])}, which is {visible(rows.shown(rows.labels[b]))}")
    for number, look in enumerate(prepared.looks):
        if "tiny" in look.notes:
            add(number, SMALL, "tiny")
        if "extreme-aspect" in look.notes:
            add(number, SMALL, "odd shape")
    for group in prepared.alike.identical:
        for number in group[1:]:
            if rows.labels[number] == rows.labels[group[0]] and rows.paths[number] != rows.paths[group[0]]:
                add(number, SAME, f"identical to {visible(rows.paths[group[0]])}")
    return reasons


def unlike_class(labels: Sequence[str], looks: Sequence[Look]) -> np.ndarray:
    """Return how far the colours of each image are from the mean of its class [N]: multiples of the usual distance.

    Colours are those of 4 x 4 fields. 0 for images that were not decoded, for classes of fewer than 4 images and for
    very large data sets.
    """
    unlike = np.zeros(len(labels))
    if len(labels) > COMPARED:
        return unlike
    members: dict[str, list[int]] = {}
    for number, look in enumerate(looks):
        if look.colours:
            members.setdefault(labels[number], []).append(number)
    for numbers in members.values():
        if len(numbers) >= 4:
            colours = np.frombuffer(b"".join(looks[n].colours for n in numbers), np.uint8).reshape(len(numbers), -1)
            distances = np.abs(colours - colours.mean(axis=0)).mean(axis=1)
            unlike[numbers] = distances / max(float(np.median(distances)), 4.0)
    return unlike


def choose(
    labels: Sequence[str], reasons: dict[int, tuple[int, list[str]]], unlike: np.ndarray, most: int
) -> list[int]:
    """Return the images to show: suspects by rank, then in turn from each class the one most unlike it."""
    chosen = sorted(reasons, key=lambda number: (reasons[number][0], -unlike[number], number))[:most]
    if len(chosen) == most:
        return chosen
    classes: dict[str, list[int]] = {}
    for number in sorted(set(range(len(labels))) - set(chosen), key=lambda number: (-unlike[number], number)):
        members = classes.setdefault(labels[number], [])
        if len(members) < most:
            members.append(number)
    turns = sorted((turn, label, number) for label, some in classes.items() for turn, number in enumerate(some))
    return chosen + [number for _, _, number in turns[: most - len(chosen)]]


def _image(
    prepared: Prepared, number: int, reasons: dict[int, tuple[int, list[str]]], unlike: np.ndarray
) -> dict[str, Any]:
    """Return an image as the script takes it; `path` is None where a table in UTF-8 cannot name it."""
    rows, look = prepared.rows, prepared.looks[number]
    named, file, box = spelling(rows, number), prepared.image_root / rows.paths[number], rows.boxes.get(number)
    rank, why = reasons.get(number, (OTHER, []))
    label = rows.shown(rows.labels[number])
    return {
        "path": named if _is_text(named) else None,
        "shown": visible(named),
        "label": visible(label),
        "original": label,
        "width": look.width,
        "height": look.height,
        "box": box,
        "rank": rank,
        "why": why,
        "unlike": round(float(unlike[number]), 3),
        "thumb": thumbnail(file, box, side=144),
        "source": file.absolute().as_uri(),
    }


def _is_text(path: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in path)
