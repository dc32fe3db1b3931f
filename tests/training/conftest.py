"""A tiny workspace to train in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import SMALL, shitu


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., dict[str, list[Path]]]) -> Path:
    """6 classes of 8 small images, prepared; to be copied, not changed."""
    root = tmp_path_factory.mktemp("prepared")
    make_images(root / "data", classes=6, per_class=8)
    shitu("prepare", "./data", cwd=root)
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """The same after one epoch of a small network; to be copied, not changed."""
    root = shutil.copytree(prepared, tmp_path_factory.mktemp("trained"), dirs_exist_ok=True)
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "8", "--seed", "3", cwd=root)
    return root


@pytest.fixture
def workspace(tmp_path: Path, prepared: Path) -> Path:
    """A workspace of the test's own."""
    return shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def trained_workspace(tmp_path: Path, trained: Path) -> Path:
    """A workspace of the test's own whose network has been trained for one epoch."""
    return shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
