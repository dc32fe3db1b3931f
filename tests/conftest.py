"""Fixtures for all tests: reference data (skipped where absent), drawn images, workspaces to copy, a small model."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from shitu_cli.runtime.threads import THREADS
from tests.command import SMALL, shitu
from tests.mutations import at_least

SHARED = Path(__file__).resolve().parents[2] / "shared"
MakeImages = Callable[..., dict[str, list[Path]]]

# The processes of a run of tests share the cores already; and so the bits are those of any other machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(THREADS, "1")
# Tests start a hundred processes: with bytecode on disk they need not compile the package each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# The same cases on every machine, and no clock: what takes long beside other work is no failure.
settings.register_profile(
    "shitu",
    max_examples=at_least(100),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("shitu")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every property test as `fuzz`; what loops over mutations of a file says so itself."""
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        item.add_marker("fuzz")


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
    """A real data set of grocery photos with its lists."""
    return _present(SHARED / "grocery")


@pytest.fixture(autouse=True)
def _no_outer_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A workspace named in the developer's environment must not leak into a test, and no test fills their cache."""
    monkeypatch.delenv("SHITU_WORKSPACE", raising=False)
    monkeypatch.setenv("SHITU_CACHE", str(tmp_path_factory.getbasetemp() / "stores"))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is lost between the steps of a test: what was written is there without being forced to the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Draw the same random numbers in a test whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "paddle" in sys.modules:
        sys.modules["paddle"].seed(0)


@pytest.fixture(scope="session")
def make_images() -> MakeImages:
    """`make_images(root, classes=3, per_class=4, size=(40, 32), seed=0)` draws JPEGs as `root/class_000/000.jpg`.

    Classes differ in colour and pattern, images of a class in noise, so that a network can learn them.
    Returns the files by class name.
    """
    import cv2

    def make(
        root: Path, classes: int = 3, per_class: int = 4, size: tuple[int, int] = (40, 32), seed: int = 0
    ) -> dict[str, list[Path]]:
        files: dict[str, list[Path]] = {}
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
                files.setdefault(folder.name, []).append(path)
        return files

    return make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, make_images: MakeImages) -> Path:
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


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights as an export leaves it, in all formats, without the measurements of a proof."""
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")
    from shitu_cli.data.transforms import Normalization
    from shitu_cli.deployment.onnx_model import write_onnx_model
    from shitu_cli.features.backends import MODEL_FILES
    from shitu_cli.features.manifest import MANIFEST, Manifest
    from shitu_cli.files import atomic_write_json, sha256_of
    from shitu_cli.model import build_rec_model
    from shitu_cli.model.tracing import write_paddle_model
    from tests.parts import operation

    folder = tmp_path_factory.mktemp("exported")
    model = build_rec_model({"Backbone": {"name": "PPLCNet_x0_25"}, "BackboneStopLayer": {"name": "flatten"}})
    for form in ("pir", "pdmodel"):
        write_paddle_model(model, folder / "inference", form=form)
    write_onnx_model(folder / "inference.pdmodel", folder / "inference.onnx")
    manifest = Manifest(
        feature_size=model.feature_size,
        normalized_inside=False,
        image_shape=(3, 64, 64),
        transform_ops=(operation("ResizeImage", {"size": [64, 64]}), operation("NormalizeImage", {})),
        normalization=Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255),
        feature="features",
        model={},
        source={"sha256": "0" * 64},
        files={name: sha256_of(folder / name) for name in (*MODEL_FILES, "inference.pdiparams")},
    )
    atomic_write_json(folder / MANIFEST, manifest.to_json())
    return folder
