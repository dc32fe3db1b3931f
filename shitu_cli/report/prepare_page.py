"""Write `reports/prepare.html`: an overview of the dataset, every problem with its image, and the gallery of labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.data.lists import ImageList
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.preparation.problems import Cases, Kind
from shitu_cli.report.chart import curve
from shitu_cli.report.label_gallery import label_gallery
from shitu_cli.report.page import Figure, figure, thumbnail, write_page
from shitu_cli.reporting import counted
from shitu_cli.stores import join

CASES_SHOWN, PAIRS_SHOWN = 12, 20
CLASSES_SHOWN = 400
_INSIDE = re.compile(r" \(")


def write_prepare_page(prepared: Prepared, path: Path, sources: Sequence[Path], command: str) -> None:
    """Write the page; `command` applies the corrections that it makes. EnvironmentProblem if it cannot be written."""
    pairs = _alike(prepared)
    values = {
        "prepared": prepared,
        "lists": [
            [name, f"{len(part):,}", f"{len(_counts(part)):,}"]
            for name, part in (("train", prepared.train), ("query", prepared.query), ("gallery", prepared.gallery))
            if part is not None
        ],
        "problems": [_problem(prepared, *problem) for problem in prepared.problems.ordered()],
        "gallery": label_gallery(prepared, command),
        "alike": [_pair(prepared, *pair) for pair in pairs[:PAIRS_SHOWN]],
        "alike_count": counted(len(pairs), "pair"),
        "charts": _charts(prepared),
        "classes": _classes(prepared),
    }
    about = [", ".join(map(str, sources))]
    write_page(path, "prepare.html", "shitu prepare", about, values, assets=("gallery.css", "gallery.js"))


def _problem(prepared: Prepared, name: str, kind: Kind, cases: Cases) -> dict[str, Any]:
    """Return a problem as the page shows it: images where there are some, else the places."""
    figures, others = [], []
    for where, detail in cases.examples[:CASES_SHOWN]:
        source = _thumbnail(prepared, where)
        if source is None:
            others.append((where, detail))
        else:
            figures.append(Figure(source, f"{where} {detail}"))
    return {
        "name": name,
        "level": kind.level,
        "text": kind.text,
        "fix": kind.fix,
        "count": f"{cases.count:,}",
        "figures": figures,
        "others": others,
        "more": cases.examples[CASES_SHOWN:],
    }


def _thumbnail(prepared: Prepared, where: str) -> str | None:
    """Return the image that a problem's place names: `file:line (path)`, a path below the image root, or a whole one.

    None for a place without an image to show: a class, a folder, a line of a list, a missing or damaged file.
    """
    place = where[:5000]
    names = [place]
    if place.endswith(")"):
        names += [place[match.end() : -1] for match in _INSIDE.finditer(place)]
    for name in names:
        for location in (join(str(prepared.image_root), name), name):
            if "\0" not in name and (source := thumbnail(location)) is not None:
                return source
    return None


def _alike(prepared: Prepared) -> list[tuple[int, int, str]]:
    """Return the pairs of alike images within a class, identical ones first."""
    return [(a, b, how) for a, b, how in prepared.alike.pairs() if _same_class(prepared.rows, a, b)]


def _same_class(rows: Rows, first: int, second: int) -> bool:
    """Return whether two images are of one class, and not boxes of one file; the gallery shows the others."""
    return rows.labels[first] == rows.labels[second] and rows.paths[first] != rows.paths[second]


def _pair(prepared: Prepared, first: int, second: int, how: str) -> dict[str, Any]:
    rows = prepared.rows
    captions = [(n, f"{rows.shown(rows.labels[n])}: {rows.paths[n]}") for n in (first, second)]
    return {"figures": [figure(rows.location(n), caption) for n, caption in captions], "how": how}


def _charts(prepared: Prepared) -> dict[str, str]:
    counts = sorted(_counts(prepared.train).values(), reverse=True)
    shorter = sorted(min(look.width, look.height) for look in prepared.looks)
    step = max(1, len(shorter) // 400)
    sample = shorter[::step]
    return {
        "classes": curve([("classes", list(range(1, len(counts) + 1)), counts)], "class, largest first", "images"),
        "sides": curve([("images", [n * step for n in range(len(sample))], sample)], "image", "shorter side, pixels"),
    }


def _counts(part: ImageList | None) -> Counter[int]:
    """Return how many images of each label a list has, which may be millions."""
    if part is None:
        return Counter()
    labels, counts = np.unique(part.labels, return_counts=True)
    return Counter(dict(zip(labels.tolist(), counts.tolist(), strict=True)))


def _classes(prepared: Prepared) -> dict[str, Any]:
    """Return the number of images of each class by name, the largest first; of very many, both ends."""
    lists = {"train": prepared.train, "query": prepared.query, "gallery": prepared.gallery}
    counts = {name: _counts(part) for name, part in lists.items()}
    names = {label: name for name, label in prepared.names.items()}
    present = sorted(set().union(*counts.values()) - {-1}, key=lambda label: (-counts["train"][label], label))
    half = CLASSES_SHOWN // 2
    shown = present if len(present) <= CLASSES_SHOWN else [*present[:half], *present[-half:]]
    return {
        "sizes": [{"name": names[label], **{name: counts[name][label] for name in lists}} for label in shown],
        "most": max(counts["train"].values(), default=0),
        "left_out": len(present) - len(shown),
    }
