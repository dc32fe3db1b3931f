"""Self-contained HTML pages: no external scripts, all text escaped, images embedded as thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from shitu_cli import __version__
from shitu_cli.data.images import Box, decode_image
from shitu_cli.errors import DataError
from shitu_cli.files import atomic_write_text
from shitu_cli.report.policy import source_of
from shitu_cli.reporting import visible

LARGE = 480  # pixels of the longer side of an image that one looks into
COLOUR = (0, 130, 60)  # of a box


@dataclass(frozen=True)
class Figure:
    """A thumbnail as a data URL, None if the image cannot be read; `mark` "right" or "wrong" frames it.

    "large" shows it in its own size.
    """

    source: str | None
    caption: str
    mark: str = ""


def write_page(
    path: Path,
    template: str,
    title: str,
    about: Sequence[str],
    values: Mapping[str, object],
    assets: Sequence[str] = (),
) -> None:
    """Write the page that `whole_page` returns to a file; EnvironmentProblem if it cannot be written."""
    atomic_write_text(path, whole_page(template, title, about, values, assets))


def whole_page(
    template: str,
    title: str,
    about: Sequence[str],
    values: Mapping[str, object],
    assets: Sequence[str] = (),
) -> str:
    """Return a page.

    Args:
        template: The name of a template in this room, which extends page.html.
        title: The heading; the date, what the page is `about` (model, sources) and this program's version follow.
        about: See `title`.
        values: What the template shows.
        assets: Style sheets and scripts of this room besides those of every page.
    """
    style = "".join(map(_text, ["page.css", *(name for name in assets if name.endswith(".css"))]))
    script = "".join(map(_text, ["sort.js", *(name for name in assets if name.endswith(".js"))]))
    # Nothing but these two runs, whatever a name of a file might smuggle in; images are inside, or files beside it.
    policy = (
        f"default-src 'none'; img-src data: file:; style-src {source_of(style)}; script-src {source_of(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    frame = {
        "title": title,
        "policy": policy,
        "style": Markup(style),
        "script": Markup(script),
        "about": [datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"), *about, f"shitu {__version__}"],
    }
    return render(template, {**values, **frame})


def render(template: str, values: Mapping[str, object]) -> Markup:
    """Return a template of this room with its values: all text in them is escaped, and nothing in it is hidden."""
    return Markup(environment().get_template(template).render(values))


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the environment that renders the templates of this room."""
    return Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """Return text of users and files without characters that are hidden or change the writing direction."""
    return value if hasattr(value, "__html__") else visible(str(value))


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def figure(location: str, caption: str, *, box: Box | None = None, mark: str = "", drawn: Sequence[Box] = ()) -> Figure:
    """Return a thumbnail with a caption; with `drawn` boxes, which are numbered, it is larger."""
    if drawn:
        return Figure(thumbnail(location, box, LARGE, drawn), caption, "large")
    return Figure(thumbnail(location, box), caption, mark)


def thumbnail(location: str, box: Box | None = None, side: int = 112, drawn: Sequence[Box] = ()) -> str | None:
    """Return the image as a small JPEG in a data URL, with boxes `drawn` into it, None if it cannot be read."""
    try:
        # Boxes count in pixels of the whole image.
        image = decode_image(location, box=box, enough=None if drawn else side)
    except DataError:
        return None
    height, width = image.shape[:2]
    shrink = min(1.0, side / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if drawn:
        small = draw_boxes(small, [tuple(value * shrink for value in box) for box in drawn])
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
