"""Heads against naive references: values, gradients, sampling of classes."""

import numpy as np
import pytest

from shitu_cli.errors import ConfigError
from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402
import paddle.nn.functional as F  # noqa: E402

from shitu_cli.config.parts import heads as parts  # noqa: E402
from shitu_cli.config.reader import make_part  # noqa: E402
from shitu_cli.model import build_rec_model, cosine, heads, kernels  # noqa: E402
from shitu_cli.model.losses import build_loss  # noqa: E402
from tests.parts import loss_item  # noqa: E402


def features(n=5, size=6, seed=0):
    x = paddle.to_tensor(np.random.RandomState(seed).standard_normal((n, size)).astype("float32"))
    x.stop_gradient = False
    return x


def one_hot_logits(head, x, labels):
    """Arc and Cos margins as usually written: everything computed twice and chosen by a one-hot matrix."""
    cos = paddle.matmul(F.normalize(x, axis=1), F.normalize(head.weight, axis=0))
    hot = F.one_hot(labels, head.class_num)
    if isinstance(head, heads.CosMargin):
        phi = cos - head.margin
    else:
        sin = paddle.sqrt(1.0 - cos * cos + 1e-6)
        phi = cos * np.cos(head.margin) - sin * np.sin(head.margin)
        if head.easy_margin:
            phi = paddle.where(cos > 0, phi, cos)
        else:
            phi = paddle.where(cos > np.cos(np.pi - head.margin), phi, cos - np.sin(head.margin) * head.margin)
    return (hot * phi + (1.0 - hot) * cos) * head.scale


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: parts.ArcMargin(6, 7, 0.3, 16).build(),
        lambda: parts.ArcMargin(6, 7, 2.5, 16).build(),
        lambda: parts.ArcMargin(6, 7, 0.3, 16, easy_margin=True).build(),
        lambda: parts.CosMargin(6, 7, 0.2, 16).build(),
        lambda: parts.CosMargin(6, 7, 0.0, 16).build(),
    ],
)
def test_logits_and_gradients_are_those_of_the_one_hot_formulation(make, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kernels, "available", lambda: False)
    head, labels = make(), paddle.to_tensor([0, 3, 3, 6, 1])
    results = []
    for function in (head, lambda x, y: one_hot_logits(head, x, y)):
        x = features()
        head.clear_gradients()
        logits = function(x, labels)
        F.cross_entropy(logits, labels).backward()
        results.append([logits.numpy(), x.grad.numpy(), head.weight.grad.numpy()])
    for got, want in zip(*results, strict=True):
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_circle_margin_against_its_formula():
    head, x, labels = parts.CircleMargin(6, 4, 0.25, 8).build(), features(), [0, 1, 1, 3, 2]
    cos = head.cosines(x).numpy()
    want = np.maximum(cos + 0.25, 0) * (cos - 0.25)
    for i, label in enumerate(labels):
        want[i, label] = max(1.25 - cos[i, label], 0) * (cos[i, label] - 0.75)
    assert np.allclose(head(x, paddle.to_tensor(labels)).numpy(), want * 8, atol=1e-5)


def test_sub_centers_take_the_nearest_and_fit_class_num():
    head, x = parts.SubCenterArcMargin(6, 4, sub_centers=3, margin=0.2, scale=10).build(), features()
    every = F.normalize(x, axis=1).numpy() @ F.normalize(head.weight, axis=0).numpy()
    head.eval()
    assert np.allclose(head(x).numpy(), every.reshape(5, 4, 3).max(-1), atol=1e-5)
    head.train()
    assert head(x, paddle.to_tensor([0, 1, 2, 3, 0])).shape == [5, 4]


def test_ada_margin_against_its_formula():
    head, x, labels = parts.AdaMargin(6, 4).build(), features(), np.array([0, 1, 1, 3, 2])
    length = np.linalg.norm(x.numpy(), axis=1)
    quality = np.clip((length - length.mean()) / (length.std(ddof=1) + 1e-3) * 0.333, -1, 1)
    cos = np.clip(head.cosines(x).numpy(), -0.999, 0.999)
    rows = np.arange(5)
    want = cos.copy()
    want[rows, labels] = np.cos(np.arccos(cos[rows, labels]) - 0.4 * quality) - 0.4 - 0.4 * quality
    assert np.allclose(head(x, paddle.to_tensor(labels)).numpy(), want * 64, atol=1e-3)
    assert set(head.state_dict()) == {"kernel", "t", "batch_mean", "batch_std"}


def test_ada_margin_begins_with_centres_of_length_one():
    """Evenly distributed values, each centre brought to length one: the signs of a value are equally likely."""
    kernel = parts.AdaMargin(64, 200).build().kernel.numpy()
    assert np.allclose(np.linalg.norm(kernel, axis=0), 1, atol=1e-5)
    # Values between -1 and 1 have a kurtosis of 1.8, normally distributed ones of 3.
    assert np.mean(kernel**4) / np.mean(kernel**2) ** 2 == pytest.approx(1.8, abs=0.15)


def test_sampled_classes_contain_the_batch_and_are_the_asked_share():
    labels = np.array([7, 7, 90, -1, 3])
    chosen, places = cosine.sample_centers(labels, 100, 0.1)
    assert len(chosen) == 10 and (np.diff(chosen) > 0).all()
    assert places[3] == -1 and chosen[places[[0, 1, 2, 4]]].tolist() == [7, 7, 90, 3]
    assert len(cosine.sample_centers(np.arange(30), 100, 0.1)[0]) == 30


@pytest.mark.parametrize("compiled", [True, False])
def test_sampling_trains_only_the_sampled_classes(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kernels, "available", lambda: False)
    arch = {
        "Backbone": {"name": "PPLCNet_x0_25"},
        "BackboneStopLayer": {"name": "flatten"},
        "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 8},
        "Head": {"name": "ArcMargin", "embedding_size": 8, "class_num": 40, "sample_ratio": 0.25},
    }
    model = build_rec_model(arch)
    labels = paddle.to_tensor([5, 31, 5])
    outputs = model(paddle.randn([3, 3, 32, 32]), labels)
    assert outputs["logits"].shape == [3, 10]
    loss = build_loss([loss_item("CELoss", 1.0, {"epsilon": 0.1})])(outputs, labels)["loss"]
    loss.backward()
    moved = np.flatnonzero(np.abs(model.head.weight.grad.numpy()).sum(0))
    assert len(moved) == 10 and {5, 31} <= set(moved)
    model.eval()
    assert model(paddle.randn([3, 3, 32, 32]))["logits"].shape == [3, 40]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda: parts.ArcMargin(6, 7, 0.3, 16).build(), [0, 3, 3, 6, 1]),
        (lambda: parts.ArcMargin(6, 7, 2.5, 16).build(), [0, 3, 3, 6, 1]),
        (lambda: parts.ArcMargin(6, 5000, 0.3, 16, easy_margin=True).build(), [0, 4095, 4096, 4999, 17]),
        (lambda: parts.CosMargin(6, 9000, 0.2, 16).build(), [8999, 8191, 8192, 0, 0]),
        (lambda: parts.ArcMargin(6, 1, 0.3, 16).build(), [0, 0, 0, 0, 0]),
        (lambda: parts.ArcMargin(6, 400, 0.3, 16, sample_ratio=0.1).build(), [0, 7, 7, 399, 5]),
    ],
)
def test_softmax_without_logits_is_cross_entropy_of_the_logits(make, labels, epsilon, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kernels, "available", lambda: False)
    head, labels, loss = make(), paddle.to_tensor(labels), loss_item("CELoss", 1.0, {"epsilon": epsilon}).build()
    results = []
    for without in (False, True):
        x = features()
        head.clear_gradients()
        paddle.seed(5)  # draws the sampled classes
        outputs = {"softmax": head.softmax(x, labels)} if without else {"logits": head(x, labels)}
        if head.sampled_labels is not None:
            outputs["logit_labels"] = head.sampled_labels
        value = loss(outputs, labels)
        (value * 3).backward()
        results.append([value.numpy(), x.grad.numpy(), head.weight.grad.numpy()])
    for want, got in zip(*results, strict=True):
        assert np.abs(got - want).max() <= 2e-5 * max(np.abs(want).max(), 1e-4)


def test_softmax_without_logits_survives_extreme_ones():
    """All of the probability away from the target: the loss is the difference of two logits."""
    head = parts.CosMargin(2, 3, margin=0.0, scale=500).build()
    head.weight.set_value(np.array([[1, -1, 0], [0, 0, 1]], dtype="float32"))
    x = paddle.to_tensor([[-1.0, 0.0]], stop_gradient=False)
    loss = loss_item("CELoss").build()({"softmax": head.softmax(x, paddle.to_tensor([0]))}, None)
    loss.backward()
    assert loss.item() == pytest.approx(1000, rel=1e-6)
    assert np.isfinite(x.grad.numpy()).all() and np.isfinite(head.weight.grad.numpy()).all()


def test_only_very_many_classes_go_without_logits(monkeypatch):
    arch = {
        "Backbone": {"name": "PPLCNet_x0_25"},
        "BackboneStopLayer": {"name": "flatten"},
        "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 8},
        "Head": {"name": "ArcMargin", "embedding_size": 8, "class_num": 40},
    }
    images, labels = paddle.randn([2, 3, 32, 32]), paddle.to_tensor([5, 31])
    small = build_rec_model(arch)(images, labels)
    assert small["logits"].shape == [2, 40] and "softmax" not in small
    monkeypatch.setattr(heads, "LARGE_BYTES", 8 * 40 * 4)
    model = build_rec_model(arch)
    large = model(images, labels)
    assert large["logits"] is None and large["softmax"].target.shape == [2, 1]
    model.eval()
    assert model(images, labels)["logits"].shape == [2, 40]
    arch["Head"] = {"name": "SubCenterArcMargin", "embedding_size": 8, "class_num": 40}
    assert build_rec_model(arch)(images, labels)["logits"].shape == [2, 40]


def test_impossible_shares_are_refused():
    for name, value in (("sample_ratio", 0.0), ("margin_warmup", 2), ("scale", 0), ("shard", "maybe")):
        with pytest.raises(ConfigError, match=f"{name}: got {value!r}, expected"):
            make_part("head", "ArcMargin", embedding_size=6, class_num=7, **{name: value})


def test_the_margin_grows_over_its_share_of_training():
    head = parts.ArcMargin(4, 3, margin=0.2, scale=30, margin_warmup=0.5).build()
    plain = parts.ArcMargin(4, 3, margin=0.1, scale=30).build()
    plain.weight.set_value(head.weight)
    head.train(), plain.train()
    x, labels = paddle.randn([5, 4]), paddle.to_tensor([0, 1, 2, 0, 1])
    head.set_progress(0.25)
    assert np.allclose(head(x, labels).numpy(), plain(x, labels).numpy(), atol=1e-5)
    head.set_progress(0.0)
    assert np.allclose(head(x, labels).numpy(), 30 * head.cosines(x).numpy(), atol=1e-4)
    for progress in (0.5, 1.0):
        head.set_progress(progress)
        assert head.ramp == 1.0


def test_centres_of_classes_that_no_list_has_stay_random():
    head = parts.ArcMargin(6, 5).build()
    before, means = head.weight.numpy(), np.eye(3, 6, dtype=np.float32)
    head.set_centers(means)
    assert np.array_equal(head.weight.numpy()[:, :3], means.T)
    assert np.array_equal(head.weight.numpy()[:, 3:], before[:, 3:])
