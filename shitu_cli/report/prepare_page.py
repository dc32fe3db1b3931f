"""`reports/prepare.html`: the data set at a glance, and every problem with its picture."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from shitu_cli.inputs import is_input
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.report.chart import curve
from shitu_cli.report.page import escape, figure, row, section, table, write_page

CLASSES_SHOWN, PER_CLASS, CASES_SHOWN, PAIRS_SHOWN = 60, 4, 12, 20
_LISTED = re.compile(r".*:\d+ \((?P<path>.*)\)", re.S)


def write_prepare_page(made: Prepared, path: Path) -> None:
    """Write the page; raises EnvironmentProblem when the disk refuses."""
    write_page(path, "shitu prepare", [_summary(made), _problems(made), _alike(made), _sizes(made), _samples(made)])


def _summary(made: Prepared) -> str:
    lists = [("train", made.train), ("query", made.query), ("gallery", made.gallery)]
    rows = [[name, f"{len(part):,}", f"{len(set(part.labels.tolist())):,}"] for name, part in lists if part is not None]
    return (
        f"<p>{escape(made.format)} below <code>{escape(str(made.image_root))}</code>; split {escape(made.split)}; "
        f"{made.class_num:,} classes to train; {made.left_out:,} pictures or lines left out.</p>"
        + table(["list", "pictures", "classes"], rows, numeric=(1, 2))
    )


def _problems(made: Prepared) -> str:
    parts = []
    for name, kind, found in made.problems.ordered():
        parts.append(
            f'<h3 class="{kind.level}">{escape(name)}: {found.count:,}</h3><p>{escape(kind.text)} ({kind.level}). '
            f"What to do: {escape(kind.mend)}.</p>"
        )
        figures = [figure(_file(made, where), f"{where} {detail}") for where, detail in found.examples[:CASES_SHOWN]]
        parts.append(row(*figures))
        rest = found.examples[CASES_SHOWN:]
        if rest:
            listed = table(["where", "detail"], rest)
            parts.append(f"<details><summary>{len(rest)} more</summary>{listed}</details>")
    return section("What was found", *(parts or ["<p>Nothing is wrong.</p>"]))


def _file(made: Prepared, where: str) -> Path:
    match = _LISTED.fullmatch(where[:5000])
    path = Path(match["path"] if match else where)
    # Readers of folders name the whole path, those of lists the one below the image root.
    return path if is_input(path) else made.image_root / path


def _alike(made: Prepared) -> str:
    rows = made.rows
    pairs = [(g[0], other, "identical") for g in made.alike.identical for other in g[1:]]
    pairs += [(a, b, "nearly the same") for a, b in made.alike.near]
    if not pairs:
        return ""
    shown = [
        row(*(figure(made.image_root / rows.paths[n], f"{rows.labels[n]}: {rows.paths[n]}") for n in (a, b)))
        + f"<small>{how}</small>"
        for a, b, how in pairs[:PAIRS_SHOWN]
    ]
    return section(f"Pictures that are the same ({len(pairs):,} pairs)", *shown)


def _sizes(made: Prepared) -> str:
    counts = sorted(Counter(made.train.labels.tolist()).values(), reverse=True)
    classes = curve([("classes", list(range(1, len(counts) + 1)), counts)], "class, largest first", "pictures")
    shorter = sorted(min(look.width, look.height) for look in made.looks)
    step = max(1, len(shorter) // 400)
    sampled = shorter[::step]
    sides = curve([("pictures", [n * step for n in range(len(sampled))], sampled)], "picture", "shorter side, pixels")
    return section("Class sizes and picture sizes", row(classes, sides))


def _samples(made: Prepared) -> str:
    by_label: dict[str, list[int]] = {}
    for number, label in enumerate(made.rows.labels):
        members = by_label.setdefault(label, [])
        if len(members) < PER_CLASS:
            members.append(number)
    rows = made.rows
    shown = []
    for label, members in sorted(by_label.items())[:CLASSES_SHOWN]:
        name = rows.display.get(label, label)
        figures = (figure(made.image_root / rows.paths[n], rows.paths[n], box=rows.boxes.get(n)) for n in members)
        shown.append(f"<details><summary>{escape(name)}</summary>{row(*figures)}</details>")
    return section(f"Samples ({min(len(by_label), CLASSES_SHOWN)} of {len(by_label):,} classes)", *shown)
