"""A tiny workspace to train in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import shitu_process as shitu


@pytest.fixture
def workspace(tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> Path:
    """6 classes of 8 small pictures, prepared."""
    make_images(tmp_path / "data", classes=6, per_class=8)
    shitu("prepare", "./data", cwd=tmp_path)
    return tmp_path
