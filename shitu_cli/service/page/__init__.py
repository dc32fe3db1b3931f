"""The page at `/`: one HTML document with its style and its scripts inside, which loads nothing from elsewhere."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from fastapi import FastAPI, Response

from shitu_cli.report.policy import source_of
from shitu_cli.reporting import HIDDEN

SCRIPTS = ("common.js", "recognise.js", "things.js", "gallery.js", "map.js", "start.js")


class Document(NamedTuple):
    """The page and the policy that lets a browser run exactly what it holds."""

    html: str
    policy: str


@lru_cache(maxsize=1)
def document() -> Document:
    """Return the page, put together from the files beside this one."""
    style, script = _text("page.css"), "".join(_text(name) for name in SCRIPTS)
    script = script.replace("/* hidden */", json.dumps(HIDDEN.pattern))
    html = _text("page.html").replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; script-src {source_of(script)}; style-src {source_of(style)}; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Document(html, policy)


def add_routes(app: FastAPI) -> None:
    """Add the page to the application."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        html, policy = document()
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
