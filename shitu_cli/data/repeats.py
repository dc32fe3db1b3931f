"""Images that lists name more than once: the lists of `prepare` have none, those that people write may."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from shitu_cli.data.dataset import RecDataset
from shitu_cli.reporting import counted, shortened

_SHOWN = 3


def remarks_on_repeats(lists: Sequence[RecDataset]) -> list[str]:
    """Return remarks on lines that name an image again: with its label in one list, or with another one in any."""
    again, contradicting = list[str](), list[str]()
    for lines in _several(lists).values():
        labels = {part.images.labels[n] for part, n in lines}
        if len(labels) > 1:
            contradicting.append(", ".join(f"{part.images.place(n)} says {part.images.labels[n]}" for part, n in lines))
            continue
        for part in lists:
            places = [part.images.place(n) for other, n in lines if other is part]
            again += [f"{place}, also at {places[0]}" for place in places[1:]]
    remarks = []
    if contradicting:
        what = counted(len(contradicting), "image has", "images have")
        remarks.append(f"{what} several labels, of which only one can be right: {_first(contradicting)}")
    if again:
        what = counted(len(again), "line names an image again and counts", "lines name images again and count")
        remarks.append(f"{what} each time (remove repeated lines): {_first(again)}")
    return remarks


def _first(texts: Sequence[str]) -> str:
    return "; ".join(shortened(texts, _SHOWN))


def _several(lists: Sequence[RecDataset]) -> dict[object, list[tuple[RecDataset, int]]]:
    """Return the lines of each image (and box in it) that several lines name."""
    # Hashes first: the paths of millions of lines, nearly all of them different, would not be compact.
    hashes = [np.fromiter((hash(_key(part, n)) for n in range(len(part))), np.int64, len(part)) for part in lists]
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    lines: dict[object, list[tuple[RecDataset, int]]] = defaultdict(list)
    for part, own in zip(lists, hashes, strict=True):
        for n in np.flatnonzero(np.isin(own, values[counts > 1])).tolist():
            lines[_key(part, n)].append((part, n))
    return {key: several for key, several in lines.items() if len(several) > 1}


def _key(part: RecDataset, number: int) -> tuple[str, object]:
    return os.path.normpath(part.location(number)), part.images.box(number)
