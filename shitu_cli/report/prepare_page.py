"""Write `reports/prepare.html`: an overview of the dataset, and every problem with its image."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from shitu_cli.inputs import is_input
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.report.chart import curve
from shitu_cli.report.label_gallery import label_gallery, script, style
from shitu_cli.report.page import escape, figure, row, section, table, write_page
from shitu_cli.reporting import counted
from shitu_cli.stores import join

CASES_SHOWN, PAIRS_SHOWN = 12, 20
_LINE = re.compile(r".*:\d+ \((?P<path>.*)\)", re.S)


def write_prepare_page(prepared: Prepared, path: Path, command: str) -> None:
    """Write the page; `command` applies the corrections that it makes. EnvironmentProblem if it cannot be written."""
    parts = [_summary(prepared), _problems(prepared), label_gallery(prepared, command), _alike(prepared)]
    write_page(path, "shitu prepare", [*parts, _sizes(prepared)], style=style(), script=script())


def _summary(prepared: Prepared) -> str:
    lists = [("train", prepared.train), ("query", prepared.query), ("gallery", prepared.gallery)]
    rows = [[name, f"{len(part):,}", f"{len(set(part.labels.tolist())):,}"] for name, part in lists if part is not None]
    corrected = f"<p>{escape(str(prepared.corrections))}.</p>" if prepared.corrections else ""
    return (
        f"<p>{escape(prepared.format)} below <code>{escape(str(prepared.image_root))}</code>; "
        f"split {escape(prepared.split)}; {prepared.class_num:,} classes to train; "
        f"{prepared.left_out:,} images or lines left out.</p>"
        + corrected
        + table(["list", "images", "classes"], rows, numeric=(1, 2))
    )


def _problems(prepared: Prepared) -> str:
    parts = []
    for name, kind, cases in prepared.problems.ordered():
        parts.append(
            f'<h3 class="{kind.level}">{escape(name)}: {cases.count:,}</h3><p>{escape(kind.text)} ({kind.level}). '
            f"What to do: {escape(kind.fix)}.</p>"
        )
        figures = [
            figure(_file(prepared, where), f"{where} {detail}") for where, detail in cases.examples[:CASES_SHOWN]
        ]
        parts.append(row(*figures))
        rest = cases.examples[CASES_SHOWN:]
        if rest:
            remainder = table(["where", "detail"], rest)
            parts.append(f"<details><summary>{len(rest)} more</summary>{remainder}</details>")
    return section("Problems found", *(parts or ["<p>No problems found.</p>"]))


def _file(prepared: Prepared, where: str) -> str:
    match = _LINE.fullmatch(where[:5000])
    path = match["path"] if match else where
    # Problems of folders name the whole path, those of lists the path below the image root.
    return path if is_input(path) else join(str(prepared.image_root), path)


def _alike(prepared: Prepared) -> str:
    rows = prepared.rows
    pairs = [(g[0], other, "identical") for g in prepared.alike.identical for other in g[1:]]
    pairs += [(a, b, "nearly the same") for a, b in prepared.alike.near]
    pairs = [pair for pair in pairs if _same_class(rows, *pair[:2])]
    if not pairs:
        return ""
    rows_html = [
        row(*(figure(rows.location(n), f"{rows.labels[n]}: {rows.paths[n]}") for n in (a, b))) + f"<small>{how}</small>"
        for a, b, how in pairs[:PAIRS_SHOWN]
    ]
    return section(f"Identical and nearly identical images within a class ({counted(len(pairs), 'pair')})", *rows_html)


def _same_class(rows: Rows, first: int, second: int) -> bool:
    """Return whether two images are of one class, and not boxes of one file; the gallery shows the others."""
    return rows.labels[first] == rows.labels[second] and rows.paths[first] != rows.paths[second]


def _sizes(prepared: Prepared) -> str:
    counts = sorted(Counter(prepared.train.labels.tolist()).values(), reverse=True)
    classes = curve([("classes", list(range(1, len(counts) + 1)), counts)], "class, largest first", "images")
    shorter = sorted(min(look.width, look.height) for look in prepared.looks)
    step = max(1, len(shorter) // 400)
    sample = shorter[::step]
    sides = curve([("images", [n * step for n in range(len(sample))], sample)], "image", "shorter side, pixels")
    return section("Class sizes and image sizes", row(classes, sides))
