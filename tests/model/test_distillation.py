"""Losses between several networks against naive numpy twins of their formulas, and how a frozen network behaves."""

from __future__ import annotations

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.load import parse_arch  # noqa: E402
from shitu_cli.config.schema import DistillationConfig, Peer  # noqa: E402
from shitu_cli.model.losses import build_loss  # noqa: E402
from shitu_cli.model.peers import Peers  # noqa: E402
from tests.parts import loss_item  # noqa: E402

RNG = np.random.default_rng(7)
X, Y = (RNG.standard_normal((5, 4)) * 3 for _ in range(2))
LABELS = np.array([0, 3, 1, 1, 2])
PAIR = [["Student", "Teacher"]]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def divergence(target: np.ndarray, p: np.ndarray) -> float:
    """Of p from the target: the mean over rows."""
    return float((target * np.log(target / p)).sum(1).mean())


def decoupled(x: np.ndarray, y: np.ndarray, temperature: float, alpha: float, beta: float) -> float:
    total = 0.0
    for row, other, label in zip(x / temperature, y / temperature, LABELS, strict=True):
        p, q = softmax(row[None])[0], softmax(other[None])[0]
        both = [np.array([[v[label], 1 - v[label]]]) for v in (q, p)]
        rest = [np.delete(v, label)[None] / (1 - v[label]) for v in (q, p)]
        total += alpha * divergence(*both) + beta * divergence(*rest)
    return total / len(x) * temperature**2


SMOOTH = np.where(np.abs(X - Y) < 1, (X - Y) ** 2 / 2, np.abs(X - Y) - 0.5).mean()
SIGMOIDS = [1 / (1 + np.exp(-v)) for v in (X, Y)]
CASES = [
    ("DistillationDMLLoss", {}, (divergence(softmax(X), softmax(Y)) + divergence(softmax(Y), softmax(X))) / 2),
    ("DistillationDMLLoss", {"act": "sigmoid"}, (divergence(*SIGMOIDS) + divergence(*SIGMOIDS[::-1])) / 2),
    ("DistillationCELoss", {}, float(-(softmax(Y) * np.log(softmax(X))).sum(1).mean())),
    ("DistillationDistanceLoss", {"mode": "l1"}, np.abs(X - Y).mean()),
    ("DistillationDistanceLoss", {"mode": "l2"}, ((X - Y) ** 2).mean()),
    ("DistillationDistanceLoss", {"mode": "smooth_l1"}, SMOOTH),
    ("DistillationKLDivLoss", {"temperature": 3.0}, 9 * divergence(softmax(Y / 3), softmax(X / 3))),
    ("DistillationDKDLoss", {"temperature": 2.0, "alpha": 1.5, "beta": 0.5}, decoupled(X, Y, 2.0, 1.5, 0.5)),
]


def value(name: str, args: dict[str, object]) -> float:
    networks = {name: {"logits": paddle.to_tensor(v.astype("float32"))} for name, v in (("Student", X), ("Teacher", Y))}
    outputs = {**networks["Student"], "networks": networks}
    loss = build_loss([loss_item(name, 1.0, args)])
    return float(loss(outputs, paddle.to_tensor(LABELS))["loss"])


@pytest.mark.parametrize(("name", "args", "expected"), CASES)
def test_losses_between_two_networks_follow_their_formulas(name: str, args: dict[str, object], expected: float) -> None:
    assert value(name, {"model_name_pairs": PAIR, **args}) == pytest.approx(expected, rel=1e-4)
    twice = [*PAIR, ["Teacher", "Student"], *PAIR]
    assert value(name, {"model_name_pairs": twice, **args}) > 1.5 * expected  # summed over the pairs


def test_cross_entropy_with_the_labels_is_summed_over_networks() -> None:
    own, other = (float(-np.log(softmax(v))[np.arange(5), LABELS].mean()) for v in (X, Y))
    name = "DistillationGTCELoss"
    assert value(name, {"model_names": ["Student"]}) == pytest.approx(own, rel=1e-5)
    assert value(name, {"model_names": ["Student", "Teacher"]}) == pytest.approx(own + other, rel=1e-5)
    smoothed = 0.9 * own + 0.1 * float(-np.log(softmax(X)).mean())
    assert value(name, {"model_names": ["Student"], "epsilon": 0.1}) == pytest.approx(smoothed, rel=1e-5)


def arch(head: str = "ArcMargin") -> object:
    block = {
        "Backbone": {"name": "PPLCNet_x0_25"},
        "BackboneStopLayer": {"name": "flatten"},
        "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 8},
        "Head": {"name": head, "embedding_size": 8, "class_num": 4, "margin": 0.2, "scale": 30},
    }
    return parse_arch(block)


def test_a_frozen_network_is_a_fixed_function_with_the_logits_of_training() -> None:
    peers = Peers(DistillationConfig("Student", (Peer("Fixed", arch(), frozen=True), Peer("Other", arch()))))
    images = paddle.to_tensor(np.random.default_rng(7).standard_normal((4, 3, 32, 32)).astype("float32"))
    labels = paddle.to_tensor(LABELS[:4])
    peers.train()
    peers.fix()
    before = {name: tensor.numpy().copy() for name, tensor in peers.state_dict().items()}
    outputs = peers({"logits": None}, images, labels)
    assert set(outputs) == {"Student", "Fixed", "Other"}
    assert outputs["Fixed"]["logits"].stop_gradient and not outputs["Other"]["logits"].stop_gradient
    assert float(outputs["Fixed"]["logits"].abs().max()) > 1  # scaled, with the margin, like the student's
    fixed, other = peers.networks["Fixed"], peers.networks["Other"]
    alone = fixed.neck(fixed.backbone(images))
    assert np.array_equal(alone.numpy(), outputs["Fixed"]["features"].numpy())
    changed = {name for name, tensor in peers.state_dict().items() if not np.array_equal(tensor.numpy(), before[name])}
    assert changed and all(name.startswith("networks.Other.") for name in changed)  # statistics of its norms
    names = [parameter.name for parameter in peers.parameters()]
    assert len(set(names)) == len(names)  # by which the state of the optimiser is kept
    assert not [p for p in fixed.parameters() if not p.stop_gradient] and [
        p for p in other.parameters() if not p.stop_gradient
    ]
