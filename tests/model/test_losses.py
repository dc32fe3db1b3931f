"""Losses against the published values and against naive numpy twins."""

import dataclasses

import numpy as np
import pytest

from shitu_cli.errors import ConfigError
from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.model.losses import build_loss  # noqa: E402
from tests.parts import loss_item  # noqa: E402


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


# (loss, its arguments, value, gradient norms of features and of logits) for `golden_inputs`, as PaddleClas has them.
# Of the second one the value is left out: there it counts 1 for every satisfied anchor.
ABSOLUTE = {"add_absolute": True, "absolute_loss_weight": 0.1, "ap_value": 0.8, "an_value": 0.4}
SUPCON = {"views": 4, "temperature": 0.07, "contrast_mode": "all", "base_temperature": 0.07, "normalize_feature": True}
BATCH = {"batch_size": 32, "samples_each_class": 4}
PUBLISHED = [
    ("CELoss", {}, 4.445622444152832, None, 0.20099063217639923),
    ("CELoss", {"epsilon": 0.1}, 4.463052749633789, None, 0.1879892647266388),
    ("TripletAngularMarginLoss", {"margin": 0.5, **ABSOLUTE}, None, 0.05678731948137283, None),
    ("TripletAngularMarginLoss", {"margin": 0.5}, 0.8420151472091675, 0.05388684198260307, None),
    ("TripletLossV2", {"margin": 0.5}, 0.7516897320747375, 0.04020538553595543, None),
    ("TripletLoss", {"margin": 1}, 3.2454514503479004, 0.3621842563152313, None),
    ("SupConLoss", SUPCON, 4.674654960632324, 0.3968375325202942, None),
    ("EmlLoss", BATCH, 4.883338928222656, 0.6817184090614319, None),
    ("MSMLoss", {"margin": 0.1, **BATCH}, 1.2965565919876099, 0.48743146657943726, None),
    ("NpairsLoss", {}, 12.168919563293457, 3.740528106689453, None),
    ("PairwiseCosface", {"margin": 0.35, "gamma": 64}, 44.55507278442383, 3.2468631267547607, None),
]


@pytest.mark.parametrize(("name", "args", "value", "feature_norm", "logit_norm"), PUBLISHED)
def test_published_values_and_gradients(name, args, value, feature_norm, logit_norm):
    parts, feature_grad, logit_grad = run([loss_item(name, 1.0, args)], *golden_inputs())
    if value is not None:
        assert parts["loss"].item() == pytest.approx(value, rel=1e-4)
    for grad, norm in ((feature_grad, feature_norm), (logit_grad, logit_norm)):
        if norm is not None:
            assert float(paddle.norm(grad)) == pytest.approx(norm, rel=1e-3)


def test_weights_and_names_of_a_sum():
    items = [loss_item("CELoss", 0.5, {}), loss_item("CELoss", 2.0, {"epsilon": 0.1})]
    parts, _, _ = run(items, *golden_inputs())
    alone = [run([dataclasses.replace(item, weight=1.0)], *golden_inputs())[0]["loss"].item() for item in items]
    assert list(parts) == ["loss", "CELoss_0", "CELoss_1"]
    assert parts["CELoss_1"].item() == pytest.approx(2 * alone[1])
    assert parts["loss"].item() == pytest.approx(0.5 * alone[0] + 2 * alone[1])


def test_label_smoothing_against_its_definition():
    features, logits, labels = golden_inputs()
    target = np.full(logits.shape, 0.2 / 8) + 0.8 * np.eye(8)[labels]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    parts, _, _ = run([loss_item("CELoss", 1.0, {"epsilon": 0.2})], features, logits, labels)
    assert parts["loss"].item() == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-5)


def test_refusals():
    with pytest.raises(ConfigError, match=r"epsilon: got 1\.5, expected a number of at least 0 and below 1"):
        loss_item("CELoss", 1.0, {"epsilon": 1.5})
    with pytest.raises(ConfigError, match="did you mean CELoss"):
        loss_item("CEloss")
    with pytest.raises(ConfigError, match="the network has no head"):
        build_loss([loss_item("CELoss", 1.0, {})])({"logits": None}, paddle.to_tensor([1]))


def test_the_published_contrastive_value_comes_from_a_broadcast_mask():
    x, _, labels = golden_inputs()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    total = 0.0  # there a mask [N, 1] meets a row [N]: every member of a class selects the whole row again
    for i in range(32):
        same = (labels == labels[i]).sum()
        total += same * (1 - cosine[i][cosine[i] < 1 - 1e-5]).sum() + (32 - same) * cosine[i][cosine[i] > 0.5].sum()
    assert total / 32 == pytest.approx(151.31044006347656, rel=1e-4)


# Naive twins: loops over anchors in float64, written from the definitions.


def normalized(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rows(x, labels):
    """(index, positives, negatives) of each anchor."""
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        yield i, np.flatnonzero((labels == labels[i]) & others), np.flatnonzero(labels != labels[i])


def mean(values):
    return float(np.mean(values)) if len(values) else 0.0


def hardest(x, labels, distance, margin):
    usable = [(i, p, n) for i, p, n in rows(x, labels) if len(p) and len(n)]
    return mean([max(0.0, distance[i][p].max() - distance[i][n].min() + margin) for i, p, n in usable])


def euclid(x):
    return np.sqrt(np.maximum(((x[:, None] - x[None]) ** 2).sum(-1), 1e-12))


def angular(x, labels, absolute):
    c = normalized(x) @ normalized(x).T
    usable = [(i, p, n) for i, p, n in rows(x, labels) if len(p) and len(n)]
    ap, an = [c[i][p].min() for i, p, _ in usable], [c[i][n].max() for i, _, n in usable]
    loss = mean([max(0.0, b - a + 0.5) for a, b in zip(ap, an, strict=True)])
    if absolute:
        loss += 0.1 * (mean([max(0.0, 0.8 - a) for a in ap]) + mean([max(0.0, b - 0.4) for b in an]))
    return loss


def msm(x, labels):
    d = euclid(normalized(x)) ** 2
    positive = [d[i][j] for i, p, _ in rows(x, labels) for j in p]
    negative = [d[i][j] for i, _, n in rows(x, labels) for j in n]
    return max(0.0, max(positive) - min(negative) + 0.1) if positive and negative else 0.0


def contrastive(x, labels):
    c = normalized(x) @ normalized(x).T
    parts = [(1 - c[i][p]).sum() + c[i][n][c[i][n] > 0.1].sum() for i, p, n in rows(x, labels)]
    return mean(parts)


def supcon(x, labels):
    logits = normalized(x) @ normalized(x).T / 0.07
    parts = []
    for i, p, n in rows(x, labels):
        if len(p):
            parts.append(-np.mean(logits[i][p] - np.log(np.exp(logits[i][np.r_[p, n]]).sum())))
    return mean(parts)


def circle(x, labels):
    c = normalized(x) @ normalized(x).T
    return mean(
        [
            np.log1p(np.exp(-8 * c[i][p]).sum() * np.exp(8 * (c[i][n] + 0.35)).sum())
            for i, p, n in rows(x, labels)
            if len(p) and len(n)
        ]
    )


def multi_similarity(x, labels):
    c = normalized(x) @ normalized(x).T
    parts = []
    for i, p, n in rows(x, labels):
        if not len(p) or not len(n):
            continue
        near, far = c[i][n].max(), c[i][p].min()
        kept_p, kept_n = [j for j in p if c[i][j] - 0.1 < near], [j for j in n if c[i][j] + 0.1 > far]
        if kept_p and kept_n:
            pull = np.log1p(np.exp(-2 * (c[i][kept_p] - 0.5)).sum()) / 2
            parts.append(pull + np.log1p(np.exp(50 * (c[i][kept_n] - 0.5)).sum()) / 50)
    return mean(parts)


def eml(x, labels):
    d = euclid(x) ** 2
    return mean(
        [
            np.log1p(1e5 * np.exp(d[i][p]).mean() * np.exp(-d[i][n]).mean()) / np.log1p(1e5)
            for i, p, n in rows(x, labels)
            if len(p) and len(n)
        ]
    )


def npairs(x, labels):
    waiting, couples = {}, []
    for i, label in enumerate(labels):
        if label in waiting:
            couples.append((waiting.pop(label), i))
        else:
            waiting[label] = i
    logits = np.array([[x[a] @ x[p] for _, p in couples] for a, _ in couples])
    cross = mean([-row[k] + np.log(np.exp(row).sum()) for k, row in enumerate(logits)])
    return cross + 0.5 * 0.01 * (x**2).sum(1).mean()


TWINS = {
    "TripletLossV2": ({"margin": 0.5}, lambda x, y: hardest(x, y, euclid(normalized(x)), 0.5)),
    "TripletLoss": ({}, lambda x, y: hardest(x, y, euclid(x), 1.0)),
    "TriHardLoss": ({}, lambda x, y: hardest(x, y, euclid(normalized(x)) ** 2, 0.1)),
    "MSMLoss": ({}, msm),
    "TripletAngularMarginLoss": (
        {"add_absolute": True, "absolute_loss_weight": 0.1, "ap_value": 0.8, "an_value": 0.4},
        lambda x, y: angular(x, y, True),
    ),
    "ContrastiveLoss": ({"margin": 0.1}, contrastive),
    "SupConLoss": ({}, supcon),
    "PairwiseCosface": ({"margin": 0.35, "gamma": 8}, circle),
    "MultiSimilarity": ({}, multi_similarity),
    "EmlLoss": ({}, eml),
    "NpairsLoss": ({}, npairs),
}
BATCHES = {
    "uneven": [0, 1, 0, 2, 1, 0, 3, 1, 0],
    "pairs": [0, 0, 1, 1, 2, 2],
    "one class": [4, 4, 4],
    "no positive": [0, 1, 2, 3],
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", TWINS)
def test_values_and_gradients_are_the_naive_twins(name, batch):
    args, twin = TWINS[name]
    labels = np.array(BATCHES[batch])
    x = np.random.RandomState(5).standard_normal((len(labels), 6)) * 0.7
    tensor = paddle.to_tensor(x)
    tensor.stop_gradient = False
    loss = build_loss([loss_item(name, 1.0, args)])({"features": tensor}, paddle.to_tensor(labels))["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(twin(x, labels), rel=1e-5, abs=1e-6)
    step, want = 1e-5, np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        want[index] = (twin(up, labels) - twin(down, labels)) / (2 * step)
    assert np.abs(tensor.grad.numpy() - want).max() <= 1e-4 * max(1.0, np.abs(want).max())


def test_center_loss_is_the_mean_squared_distance_and_moves_its_centres():
    loss = build_loss([loss_item("CenterLoss", 1.0, {"num_classes": 4, "feat_dim": 3})])
    x, labels = np.random.RandomState(1).standard_normal((5, 3)).astype("float32"), np.array([0, 1, 1, 3, 0])
    value = loss({"features": paddle.to_tensor(x)}, paddle.to_tensor(labels))["loss"]
    centers = loss.parts[0].centers.numpy()
    assert value.item() == pytest.approx(((x - centers[labels]) ** 2).sum(1).mean(), rel=1e-5)
    value.backward()
    assert np.abs(loss.parts[0].centers.grad.numpy()[2]).max() == 0
    assert "parts.0.centers" in loss.state_dict()


def test_proxy_anchor_is_its_naive_twin():
    loss = build_loss([loss_item("ProxyAnchor", 1.0, {"num_classes": 4, "feat_dim": 3})])
    x, labels = np.random.RandomState(1).standard_normal((5, 3)).astype("float32"), np.array([0, 1, 1, 3, 0])
    value = loss({"features": paddle.to_tensor(x)}, paddle.to_tensor(labels))["loss"].item()
    c = normalized(loss.parts[0].proxies.numpy()) @ normalized(x).T
    pull = [np.log1p(np.exp(-32 * (c[k][labels == k] - 0.1)).sum()) for k in range(4)]
    push = [np.log1p(np.exp(32 * (c[k][labels != k] + 0.1)).sum()) for k in range(4)]
    assert value == pytest.approx(np.sum(pull) / 3 + np.sum(push) / 4, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "args"),
    [("ContrastiveLoss_XBM", {"embedding_size": 4}), ("TripletAngularMarginLoss_XBM", {"feat_dim": 4})],
)
def test_memory_joins_after_its_start_wraps_around_and_is_in_the_state(name, args):
    def make():
        memory = {"start_iter": 1, "xbm_size": 8, "xbm_weight": 1.0, **args}
        return build_loss([loss_item(name, 1.0, memory)])

    random = np.random.RandomState(0)
    batches = [paddle.to_tensor(random.standard_normal((6, 4)).astype("float32")) for _ in range(4)]
    labels = paddle.to_tensor([0, 0, 1, 1, 2, 2])
    loss, plain = make(), build_loss([loss_item(name.removesuffix("_XBM"), 1.0, {})])
    values = [loss({"features": x}, labels)["loss"].item() for x in batches[:3]]
    without = [plain({"features": x}, labels)["loss"].item() for x in batches[:3]]
    assert values[0] == pytest.approx(without[0]) and values[1] > without[1]
    stored = loss.parts[0].memory.numpy()
    assert loss.parts[0].memory_count.tolist() == [3, 12] and (np.abs(stored).sum(1) > 0).all()
    other = make()
    other.set_state_dict(loss.state_dict())
    assert (
        other({"features": batches[3]}, labels)["loss"].item() == loss({"features": batches[3]}, labels)["loss"].item()
    )
