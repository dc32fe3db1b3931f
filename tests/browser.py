"""A real browser for the tests of pages, where this machine has one; `SHITU_SCREENSHOTS=DIR` keeps images of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = os.environ.get("SHITU_SCREENSHOTS")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


def keep(page: Any, name: str) -> None:
    """Keep an image of playwright's page, if that is wanted."""
    if SCREENSHOTS:
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
