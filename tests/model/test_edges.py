"""Heads and losses stay finite, forward and backward, where formulas have their edges.

Roots, quotients and logarithms are at the edge when features point exactly along a class centre or against it, are
zero, equal each other, or come alone; a single such image would otherwise end a run with "the loss is nan".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.parts import KINDS  # noqa: E402
from shitu_cli.config.parts import heads as parts  # noqa: E402
from shitu_cli.config.parts.losses import NetworkLoss  # noqa: E402
from shitu_cli.config.reader import make_part  # noqa: E402
from shitu_cli.model import kernels  # noqa: E402
from shitu_cli.model.heads import AdaMargin  # noqa: E402
from shitu_cli.model.losses import build_loss  # noqa: E402
from tests.parts import loss_arguments, loss_item  # noqa: E402

SIZE, CLASSES, BATCH = 8, 5, 6
LABELS = np.array([0, 1, 2, 2, 4, 0])


def centre_of(head: Any, label: int) -> np.ndarray:
    weight = (head.kernel if isinstance(head, AdaMargin) else getattr(head, "weight", None)) if head else None
    if weight is None:
        return np.full(SIZE, 0.3, np.float32)
    return weight.numpy()[:, label * (weight.shape[1] // CLASSES)]


FEATURES = {
    "along the centre": lambda centres, random: centres,
    "against the centre": lambda centres, random: -centres,
    "nearly along it": lambda centres, random: centres * (1 + random.normal(0, 3e-5, centres.shape)),
    "beside it by hardly any": lambda centres, random: centres + random.normal(0, 1e-7, centres.shape),
    "zero": lambda centres, random: np.zeros_like(centres),
    "one is zero": lambda centres, random: centres * (np.arange(len(centres)) != 0)[:, None],
    "so short that squares vanish": lambda centres, random: centres * 1e-25,
    "short": lambda centres, random: centres * 1e-12,
    "long": lambda centres, random: centres * 1e4,
    "all equal": lambda centres, random: np.broadcast_to(centres[:1], centres.shape),
    "ordinary": lambda centres, random: random.standard_normal(centres.shape),
}


def finite(*tensors: paddle.Tensor | None) -> bool:
    return all(bool(np.isfinite(tensor.numpy()).all()) for tensor in tensors if tensor is not None)


def head_of(name: str) -> Any:
    options = {"margin": 0.3, "scale": 30.0} if name == "CircleMargin" else {}
    return make_part("head", name, embedding_size=SIZE, class_num=CLASSES, **options).build()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", sorted(KINDS["head"].parts))
def test_heads(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(kernels, "available", lambda: False)
    labels, random = paddle.to_tensor(LABELS), np.random.default_rng(2)
    for case, make in FEATURES.items():
        paddle.seed(1)
        head = head_of(name)
        centres = np.stack([centre_of(head, label) for label in LABELS])
        x = paddle.to_tensor(make(centres, random).astype("float32"), stop_gradient=False)
        loss = loss_item("CELoss").build()({"logits": head(x, labels)}, labels)
        loss.backward()
        assert finite(loss, x.grad, *(parameter.grad for parameter in head.parameters())), case
        head.eval()
        assert finite(head(x, labels)), case


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 3.0])
@pytest.mark.parametrize("easy", [True, False])
def test_every_angle_near_zero_and_near_a_half_turn(
    margin: float, easy: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused way of many classes and the ordinary one, at 400 angles of which many round to a cosine beyond 1."""
    if not compiled:
        monkeypatch.setattr(kernels, "available", lambda: False)
    paddle.seed(4)
    head = parts.ArcMargin(SIZE, CLASSES, margin=margin, easy_margin=easy).build()
    random, labels = np.random.default_rng(0), paddle.to_tensor(np.arange(400) % CLASSES)
    centres = head.weight.numpy()[:, np.arange(400) % CLASSES].T
    sideways = random.standard_normal(centres.shape)
    x = centres * np.where(np.arange(400) % 3, 1, -1)[:, None] + sideways * np.geomspace(1e-9, 1e-2, 400)[:, None]
    for fused in (False, True):
        features = paddle.to_tensor(x.astype("float32"), stop_gradient=False)
        outputs = {"softmax": head.softmax(features, labels)} if fused else {"logits": head(features, labels)}
        loss = loss_item("CELoss").build()(outputs, labels)
        loss.backward()
        assert finite(loss, features.grad, head.weight.grad)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_centre_of_zeros(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weight decay alone can take a centre that no image pulls to zero."""
    if not compiled:
        monkeypatch.setattr(kernels, "available", lambda: False)
    head, labels = parts.ArcMargin(SIZE, CLASSES).build(), paddle.to_tensor(LABELS)
    weight = head.weight.numpy()
    weight[:, 2] = 0
    head.weight.set_value(weight)
    random = np.random.default_rng(1)
    for fused in (False, True):
        x = paddle.to_tensor(random.standard_normal((BATCH, SIZE)).astype("float32"), stop_gradient=False)
        outputs = {"softmax": head.softmax(x, labels)} if fused else {"logits": head(x, labels)}
        loss = loss_item("CELoss").build()(outputs, labels)
        loss.backward()
        assert finite(loss, x.grad, head.weight.grad)


# Losses between networks want the outputs of several: tests/model/test_distillation.py has them.
LOSSES = sorted(name for name, part in KINDS["loss"].parts.items() if not issubclass(part, NetworkLoss))
COMPOSITIONS = {
    "as usual": LABELS,
    "one class": np.zeros(BATCH, np.int64),
    "all different": np.arange(CLASSES),
    "alone": np.array([3]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_with_parameters_says_that_it_learns(name: str) -> None:
    loss = build_loss([loss_item(name, 1.0, loss_arguments(name, size=SIZE, classes=CLASSES))])
    assert bool(loss.parameters()) == KINDS["loss"].parts[name].learns


@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, composition: str) -> None:
    labels, random = COMPOSITIONS[composition], np.random.default_rng(3)
    for case, make in FEATURES.items():
        paddle.seed(1)
        loss = build_loss([loss_item(name, 1.0, loss_arguments(name, size=SIZE, classes=CLASSES, memory=10))])
        values = make(np.tile(random.standard_normal(SIZE), (len(labels), 1)), random).astype("float32")
        for _ in range(2):  # the second time against the memory
            x = paddle.to_tensor(values, stop_gradient=False)
            logits = paddle.to_tensor(np.zeros((len(labels), CLASSES), np.float32), stop_gradient=False)
            teacher = paddle.to_tensor(random.dirichlet(np.ones(CLASSES), len(labels)).astype("float32"))
            outputs = {"features": x, "backbone": x, "logits": logits, "teacher_labels": teacher}
            parts = loss(outputs, paddle.to_tensor(labels))
            parts["loss"].backward()
            assert finite(parts["loss"], x.grad, *(parameter.grad for parameter in loss.parameters())), case


@pytest.mark.parametrize("name", ["ArcMargin", "SubCenterArcMargin", "CosMargin"])
def test_a_cosine_that_rounds_beyond_one(name: str) -> None:
    """Sums of many products in float32, and mixed precision, go up to 1e-3 beyond."""
    for end in (1.0, -1.0):
        cosines = paddle.to_tensor(end * (1 + np.geomspace(1e-8, 1e-3, 60)[:, None]), "float32", stop_gradient=False)
        target = head_of(name).target(cosines)
        target.sum().backward()
        assert finite(target, cosines.grad)
