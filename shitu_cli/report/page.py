"""Self-contained HTML pages: no scripts from elsewhere, every text escaped, pictures inside as thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2

from shitu_cli.data.images import Box, decode_image
from shitu_cli.errors import DataError
from shitu_cli.workspace import atomic_write_text

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #1a7f37; --bad: #cf222e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; margin: .7rem 0; } th { text-align: left; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th[data-sort] { cursor: pointer; } th[data-sort]::after { content: " ⇅"; opacity: .4; }
.row { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0; }
figure { margin: 0; width: 112px; font-size: 12px; overflow-wrap: anywhere; }
figure img, .none { width: 112px; height: 112px; object-fit: contain; background: var(--soft); border-radius: 4px; }
.none { display: grid; place-items: center; opacity: .6; }
.right img { outline: 3px solid var(--good); } .wrong img { outline: 3px dashed var(--bad); }
.error { color: var(--bad); font-weight: 600; } .note, small { opacity: .75; }
svg { width: min(100%, 640px); height: auto; background: var(--soft); border-radius: 4px; }
details { margin: .4rem 0; } summary { cursor: pointer; }
"""
_SORT = """
document.querySelectorAll('th[data-sort]').forEach(th => th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], at = th.cellIndex, text = row => row.cells[at].textContent;
  const number = row => { const n = parseFloat(text(row).replace(/,/g, '')); return isNaN(n) ? -Infinity : n; };
  const names = new Intl.Collator(undefined, {numeric: true});
  const compare = th.classList.contains('n') ? (a, b) => number(a) - number(b) || 0
    : (a, b) => names.compare(text(a), text(b));
  const up = th.dataset.up = th.dataset.up === '1' ? '' : '1';
  [...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)).forEach(row => body.append(row));
}));
"""


def write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a page of HTML `sections`; raises EnvironmentProblem when the disk refuses."""
    body = "\n".join(sections)
    # Undecodable bytes of file names cannot stand in UTF-8: they are shown as question marks.
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>\n{body}\n<script>{_SORT}</script></body></html>\n"
    )
    atomic_write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[int] = ()) -> str:
    """A table that sorts by a click on a column's head; `numeric` columns are aligned right."""
    if not rows:
        return ""
    mark = ["n" if n in numeric else "" for n in range(len(columns))]
    head = "".join(f'<th data-sort class="{m}">{escape(c)}</th>' for c, m in zip(columns, mark, strict=True))
    body = "".join(
        "<tr>" + "".join(f'<td class="{m}">{escape(str(v))}</td>' for v, m in zip(row, mark, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def section(title: str, *parts: str) -> str:
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part)


def figure(path: Path, caption: str, *, box: Box | None = None, mark: str = "") -> str:
    """A thumbnail with its caption, a grey field where it cannot be read; `mark` "right" or "wrong" frames it."""
    source = thumbnail(path, box)
    picture = f'<img src="{source}" alt="{escape(caption)}">' if source else '<div class="none">no picture</div>'
    return f'<figure class="{mark}">{picture}<figcaption>{escape(caption)}</figcaption></figure>'


def thumbnail(path: Path, box: Box | None = None, side: int = 112) -> str | None:
    """The picture as a small JPEG in a data URL, None when it cannot be read."""
    if not path.is_file():  # nothing, or a pipe, which would be waited for
        return None
    try:
        image = decode_image(path, box=box)
    except DataError:
        return None
    height, width = image.shape[:2]
    shrink = min(1.0, side / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode("ascii")


def row(*parts: str) -> str:
    return f'<div class="row">{"".join(parts)}</div>'


def curve(series: Sequence[tuple[str, Sequence[float], Sequence[float]]], x_name: str, y_name: str) -> str:
    """Lines over common axes as SVG; `series` are (name, x, y). Lines differ by their dashes, not by colour alone."""
    points = [(x, y) for _, xs, ys in series for x, y in zip(xs, ys, strict=True)]
    if not points:
        return ""
    width, height, left, bottom = 640, 260, 56, 36
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)
    low_y, high_y = min(0.0, *(p[1] for p in points)), max(p[1] for p in points)
    span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0

    def place(x: float, y: float) -> str:
        across = left + (x - low_x) / span_x * (width - left - 12)
        return f"{across:.1f},{height - bottom - (y - low_y) / span_y * (height - bottom - 24):.1f}"

    colours, dashes = ("#0969da", "#bc4c00", "#1a7f37", "#8250df"), ("", "7 4", "2 3", "10 3 2 3")
    lines = []
    for n, (name, xs, ys) in enumerate(series):
        at = " ".join(place(x, y) for x, y in zip(xs, ys, strict=True))
        style = f'stroke="{colours[n % 4]}" stroke-dasharray="{dashes[n % 4]}"'
        lines.append(f'<polyline fill="none" stroke-width="2" {style} points="{at}"/>')
        legend = f'x="{left + 10 + 150 * n}" y="16" font-size="12" fill="{colours[n % 4]}"'
        lines.append(f"<text {legend}>{escape(name)}</text>")
    ticks = [
        f'<text x="{left - 6}" y="{height - bottom}" text-anchor="end" font-size="11" fill="gray">{low_y:.4g}</text>',
        f'<text x="{left - 6}" y="32" text-anchor="end" font-size="11" fill="gray">{high_y:.4g}</text>',
        f'<text x="{left}" y="{height - bottom + 14}" font-size="11" fill="gray">{low_x:.4g}</text>',
        f'<text x="{width - 12}" y="{height - bottom + 14}" text-anchor="end" font-size="11" fill="gray">{high_x:.4g}'
        "</text>",
        f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle" font-size="12" fill="gray">'
        f"{escape(x_name)}</text>",
        f'<text x="14" y="{height / 2}" transform="rotate(-90 14 {height / 2})" text-anchor="middle" font-size="12" '
        f'fill="gray">{escape(y_name)}</text>',
    ]
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(y_name)} over {escape(x_name)}">' + (
        "".join(lines + ticks) + "</svg>"
    )
