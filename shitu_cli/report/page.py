"""Self-contained HTML pages: no external scripts, all text escaped, images embedded as thumbnails."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from shitu_cli.data.images import Box, decode_image
from shitu_cli.errors import DataError
from shitu_cli.files import atomic_write_text
from shitu_cli.reporting import visible

LARGE = 480  # pixels of the longer side of an image that one looks into
COLOUR = (0, 130, 60)  # of a box

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #1a7f37; --bad: #cf222e;
  --first: #0969da; --second: #bc4c00; --third: #1a7f37; --fourth: #8250df; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149;
  --first: #58a6ff; --second: #f0883e; --third: #3fb950; --fourth: #bc8cff; } }
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
figure.large { width: auto; } figure.large img { width: auto; max-width: 100%; height: auto; }
.right img { outline: 3px solid var(--good); } .wrong img { outline: 3px dashed var(--bad); }
.error { color: var(--bad); font-weight: 600; } .note, small { opacity: .75; }
svg { width: min(100%, 530px); height: auto; font-size: 11px; fill: currentColor; } svg .axis { font-size: 12px; }
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


def escape(text: str) -> str:
    """Return text of users and files as a page may hold it: no markup, nothing hidden, no change of direction."""
    return html.escape(visible(text))


def write_page(path: Path, title: str, sections: Sequence[str], *, style: str = "", script: str = "") -> None:
    """Write a page of HTML `sections`, with more style and script; EnvironmentProblem if it cannot be written."""
    style, script = _STYLE + style, _SORT + script
    # Nothing but these two runs, whatever a name of a file might smuggle in; images are inside, or files beside it.
    policy = (
        f"default-src 'none'; img-src data: file:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    # Characters that browsers hide or obey, and bytes of file names that are not text, are shown as escapes.
    body = visible("\n".join(sections))
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{style}</style></head><body><h1>{escape(title)}</h1>\n{body}\n<script>{script}</script></body></html>\n"
    )
    atomic_write_text(path, text)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[int] = ()) -> str:
    """Return a table that a click on a column's head sorts, "" without rows; `numeric` columns are aligned right."""
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


def figure(location: str, caption: str, *, box: Box | None = None, mark: str = "", drawn: Sequence[Box] = ()) -> str:
    """Return a thumbnail with a caption, or a grey box if it cannot be read; `mark` "right" or "wrong" frames it.

    With `drawn` boxes, which are numbered, it is larger.
    """
    source = thumbnail(location, box, LARGE, drawn) if drawn else thumbnail(location, box)
    image = f'<img src="{source}" alt="{escape(caption)}">' if source else '<div class="none">no image</div>'
    return f'<figure class="{"large" if drawn else mark}">{image}<figcaption>{escape(caption)}</figcaption></figure>'


def thumbnail(location: str, box: Box | None = None, side: int = 112, drawn: Sequence[Box] = ()) -> str | None:
    """Return the image as a small JPEG in a data URL, with boxes `drawn` into it, None if it cannot be read."""
    try:
        image = decode_image(
            location, box=box, enough=None if drawn else side
        )  # boxes count in pixels of the whole image
    except DataError:
        return None
    height, width = image.shape[:2]
    shrink = min(1.0, side / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if drawn:
        small = draw_boxes(small, [tuple(value * shrink for value in one) for one in drawn])
    jpeg = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")


def draw_boxes(image: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Return an image uint8 [H, W, 3] RGB with boxes, and with their numbers from 1 if there are several."""
    canvas = np.ascontiguousarray(image).copy()
    line = max(2, min(canvas.shape[:2]) // 100)
    for number, (x1, y1, x2, y2) in enumerate(boxes, 1):
        corner = (round(x1), round(y1))
        cv2.rectangle(canvas, corner, (round(x2) - 1, round(y2) - 1), COLOUR, line)
        if len(boxes) > 1:
            size = max(0.5, line / 4)
            (width, height), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, size, line)
            cv2.rectangle(canvas, corner, (corner[0] + width + 6, corner[1] + height + 8), COLOUR, cv2.FILLED)
            place = (corner[0] + 3, corner[1] + height + 4)
            cv2.putText(canvas, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), line // 2 + 1)
    return canvas


def row(*parts: str) -> str:
    return f'<div class="row">{"".join(parts)}</div>'
