"""Fixtures for all tests: reference data beside the project (skipped where absent) and tiny drawn data sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _present(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"reference data is not at {path}")
    return path


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The directory of reference data beside the project."""
    return _present(SHARED)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Reference values of networks, losses, metrics and transforms."""
    return _present(SHARED / "golden")


@pytest.fixture(scope="session")
def grocery_dir() -> Path:
    """A real data set of grocery pictures with its lists."""
    return _present(SHARED / "grocery")


@pytest.fixture(autouse=True)
def _no_outer_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A workspace named in the developer's environment must not leak into a test, and no test fills their cache."""
    monkeypatch.delenv("SHITU_WORKSPACE", raising=False)
    monkeypatch.setenv("SHITU_CACHE", str(tmp_path_factory.getbasetemp() / "stores"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def make_images() -> Callable[..., dict[str, list[Path]]]:
    """`make_images(root, classes=3, per_class=4, size=(40, 32), seed=0)` draws JPEGs as `root/class_000/000.jpg`.

    Classes differ in colour and pattern, pictures of a class in noise, so that a network can learn them.
    Returns the files by class name.
    """
    import cv2

    def make(
        root: Path, classes: int = 3, per_class: int = 4, size: tuple[int, int] = (40, 32), seed: int = 0
    ) -> dict[str, list[Path]]:
        made: dict[str, list[Path]] = {}
        width, height = size
        for label in range(classes):
            look = np.random.default_rng((seed, label))
            base = look.integers(0, 256, (4, 4, 3)).astype(np.uint8)
            folder = root / f"class_{label:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(per_class):
                rng = np.random.default_rng((seed, label, number))
                image = cv2.resize(base, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int16)
                image = np.clip(image + rng.integers(-30, 31, image.shape), 0, 255).astype(np.uint8)
                path = folder / f"{number:03d}.jpg"
                path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
                made.setdefault(folder.name, []).append(path)
        return made

    return make
