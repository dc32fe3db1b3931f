"""Images to compute features of, and detectors; tests copy what they damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.runtime.setup import setup_paddle
from tests.features.detectors import paddle_program


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., dict[str, list[Path]]]) -> list[Path]:
    """30 images of 3 classes."""
    made = make_images(tmp_path_factory.mktemp("pictures"), classes=3, per_class=10)
    return [file for files in made.values() for file in files]


@pytest.fixture(scope="session")
def paddle_detector(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`paddle_detector(form)` is the directory of a detector as PaddleX exports it, as pir or pdmodel."""
    folders: dict[str, Path] = {}

    def of(form: str) -> Path:
        if form not in folders:
            setup_paddle("cpu")
            folders[form] = tmp_path_factory.mktemp(form)
            paddle_program(folders[form], form)
        return folders[form]

    return of
