"""Deep hashing: losses against naive numpy twins of their formulas, and networks that end in a hyperbolic tangent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.losses import build_loss  # noqa: E402
from shitu_cli.model.weights import load_backbone, load_weights  # noqa: E402
from tests.engines import assert_every_engine_agrees  # noqa: E402
from tests.parts import loss_item  # noqa: E402

RNG = np.random.default_rng(5)
X, LOGITS = RNG.standard_normal((5, 8)), RNG.standard_normal((5, 3)) * 2
LABELS = [0, 2, 0, 1, 2]
PAIRS = [(i, j) for i in range(5) for j in range(5)]


def sigmoid(value: float) -> float:
    return 1 / (1 + float(np.exp(-value)))


def stable_distribution(alpha: float) -> float:
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    total = 0.0
    for i, j in PAIRS:
        distance = ((X[i] - X[j]) ** 2).sum()
        total += distance / 2 if LABELS[i] == LABELS[j] else max(0.0, 2 * 8 - distance) / 2
    return float(-np.log(probability[np.arange(5), LABELS]).mean() + alpha * total / 25)


def locality(factor: float) -> float:
    total = 0.0
    for i, j in PAIRS:
        product, codes = X[i] @ X[j] / 2, np.sign(X[i]) @ np.sign(X[j]) / 2
        sign = 1 if LABELS[i] == LABELS[j] else -1
        total += np.log(1 + np.exp(-sign * product)) + factor * (sigmoid(product) - sigmoid(codes)) ** 2
    return float(total / 25)


def cauchy(gamma: float, factor: float, labels: list[int]) -> float:
    def bits(a: np.ndarray, b: np.ndarray) -> float:
        return (1 - min(0.99, a @ b / np.linalg.norm(a) / np.linalg.norm(b))) * 8 / 2

    same = [labels[i] == labels[j] for i, j in PAIRS]
    total = 0.0
    for (i, j), alike in zip(PAIRS, same, strict=True):
        weight = 25 / (sum(same) if alike else 25 - sum(same)) if 0 < sum(same) < 25 else 1.0
        d = bits(X[i], X[j])
        total += weight * ((np.log(d / gamma) if alike else 0) + np.log(1 + gamma / d))
    quantization = sum(np.log(1 + bits(abs(row), np.ones(8)) / gamma) for row in X) / 5
    return float(total / 25 + factor * quantization)


CASES = [
    ("DSHSDLoss", {"alpha": 0.05}, LABELS, stable_distribution(0.05)),
    ("LCDSHLoss", {"_lambda": 3, "n_class": 10}, LABELS, locality(3)),
    ("DCHLoss", {"gamma": 20.0, "_lambda": 0.1, "n_class": 10}, LABELS, cauchy(20.0, 0.1, LABELS)),
    ("DCHLoss", {"gamma": 2.0, "_lambda": 0.1}, [1] * 5, cauchy(2.0, 0.1, [1] * 5)),
]


@pytest.mark.parametrize(("name", "args", "labels", "expected"), CASES)
def test_losses_of_hashing_follow_their_formulas(
    name: str, args: dict[str, float], labels: list[int], expected: float
) -> None:
    features = paddle.to_tensor(X.astype("float32"), stop_gradient=False)
    outputs = {"features": features, "backbone": features, "logits": paddle.to_tensor(LOGITS.astype("float32"))}
    loss = build_loss([loss_item(name, 1.0, args)])(outputs, paddle.to_tensor(labels))["loss"]
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert bool(paddle.isfinite(features.grad).all())


def network(**backbone: object) -> paddle.nn.Layer:
    return build_rec_model({"Backbone": {"name": "PPLCNet_x2_5_Tanh", **backbone}})


def test_the_tanh_network_and_the_tanh_neck_end_between_minus_one_and_one(tmp_path: Path) -> None:
    model = network(class_num=16)
    assert model.feature_size == 16
    model.eval()
    images = paddle.to_tensor(np.random.default_rng(5).standard_normal((2, 3, 32, 32)).astype("float32") * 9)
    backbone = {"name": "PPLCNet_x2_5", "class_num": 16}
    plain = build_rec_model({"Backbone": backbone, "Neck": {"name": "Tanh"}})
    plain.eval()
    # PaddleClas's file: the layer in front of its hyperbolic tangent is wrapped.
    state = {name.replace("fc.", "fc.origin_layer."): tensor for name, tensor in model.state_dict().items()}
    paddle.save(state, str(tmp_path / "theirs.pdparams"))
    load_weights(plain, tmp_path / "theirs.pdparams")
    found, expected = model(images)["features"].numpy(), plain(images)["features"].numpy()
    assert np.array_equal(found, expected) and np.abs(found).max() < 1 and found.shape == (2, 16)


def test_published_weights_start_it_with_a_feature_of_another_size(tmp_path: Path) -> None:
    published = build_rec_model({"Backbone": {"name": "PPLCNet_x2_5"}})
    paddle.save(published.backbone.state_dict(), str(tmp_path / "imagenet.pdparams"))
    model = network(class_num=16)
    load_backbone(model.backbone, tmp_path / "imagenet.pdparams")
    assert model.backbone.left_new == ["fc.weight", "fc.bias"]
    same = network()
    assert load_backbone(same.backbone, tmp_path / "imagenet.pdparams") == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pdmodel", "pir"])
def test_the_exported_tanh_is_run_by_every_engine(form: str, tmp_path: Path) -> None:
    paddle.seed(3)
    arch = {"Backbone": {"name": "PPLCNet_x0_25", "class_num": 24}, "Neck": {"name": "Tanh"}}
    model = build_rec_model(arch)
    model.eval()
    images = np.random.default_rng(6).standard_normal((2, 3, 32, 32)).astype("float32")
    assert_every_engine_agrees(model, images, tmp_path, form)


def test_classes_that_a_head_has_sampled_are_told_by_their_column() -> None:
    loss = loss_item("DSHSDLoss", args={"alpha": 0.0}).build()
    outputs = {"features": paddle.to_tensor(X.astype("float32")), "logits": paddle.to_tensor(LOGITS.astype("float32"))}
    columns = paddle.to_tensor([1, 1, 0, 2, 0])
    sampled = loss({**outputs, "logit_labels": columns}, paddle.to_tensor(LABELS))
    assert float(sampled) == pytest.approx(float(loss(outputs, columns)))
