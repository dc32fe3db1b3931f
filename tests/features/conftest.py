"""One small network with random weights, in all formats; tests copy what they damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.data.transforms import Normalization
from shitu_cli.features.backends import MODEL_FILES
from shitu_cli.features.manifest import MANIFEST, Manifest
from shitu_cli.files import atomic_write_json, sha256_of
from shitu_cli.runtime.setup import setup_paddle
from tests.features.detectors import paddle_program
from tests.parts import operation


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as an export leaves it, without the measurements of a proof."""
    setup_paddle("cpu")
    from shitu_cli.deployment.onnx_model import write_onnx_model
    from shitu_cli.model import build_rec_model
    from shitu_cli.model.tracing import write_paddle_model

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


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., dict[str, list[Path]]]) -> list[Path]:
    """30 pictures of 3 classes."""
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
