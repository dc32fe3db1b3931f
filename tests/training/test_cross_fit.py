"""Projections learnt without some of the classes: what a closed split knows of things that were not trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli import load_config
from shitu_cli.config.arguments import NECKS
from shitu_cli.evaluation.unknown import Fold
from shitu_cli.features.cache import FeatureCache
from shitu_cli.reporting import SilentReporter
from shitu_cli.training import cross_fit
from shitu_cli.training.cross_fit import FOLDS, cross_fitted
from shitu_cli.training.projection import Scatter, discriminant
from shitu_cli.training.trained_neck import require_feature_memory
from tests.command import SMALL, shitu

NETWORK = ["-o", "Arch.Backbone.name=PPLCNet_x0_25"]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Path:
    """Nine classes in a closed split, and a projection on weights from elsewhere."""
    root = tmp_path_factory.mktemp("cross_fit")
    make_images(root / "data", classes=9, per_class=5)
    shitu("prepare", "data", "--split", "closed", cwd=root)
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "8", cwd=root)
    shutil.copytree(root / "output", root / "elsewhere")
    start = str(root / "elsewhere/latest")
    shitu("train", "--frozen", *NETWORK, "--init-from", start, "--views", "1", cwd=root)
    return root


@pytest.fixture(scope="module")
def folds(space: Path) -> dict[str, list[Fold]]:
    """The folds of each way to learn a projection."""
    config = load_config(space / "shitu.yaml", ["Arch.Backbone.name=PPLCNet_x0_25"])
    cache, prefix = FeatureCache(space / ".shitu/cache/features"), space / "output/latest"
    return {
        neck: list(cross_fitted(config, prefix, views=1, neck=neck, cache=cache, reporter=SilentReporter()))
        for neck in NECKS
    }


@pytest.mark.parametrize("neck", NECKS)
def test_each_class_is_left_out_once(folds: dict[str, list[Fold]], neck: str) -> None:
    assert len(folds[neck]) == FOLDS
    assert sorted(np.concatenate([fold.classes for fold in folds[neck]])) == list(range(9))
    for fold in folds[neck]:
        assert fold.query.shape[1] == fold.gallery.shape[1] == 9 - len(fold.classes) - 1
        assert np.allclose(np.linalg.norm(fold.gallery, axis=1), 1, atol=1e-5)


def test_a_trained_neck_is_trained_again_for_each_fold(folds: dict[str, list[Fold]]) -> None:
    for closed, trained in zip(*folds.values(), strict=True):
        assert not np.allclose(closed.query, trained.query, atol=1e-3)


def test_a_fold_knows_nothing_of_its_classes() -> None:
    """The sums without some classes give the projection that was never shown them."""
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((80, 12)).astype(np.float32), np.repeat(np.arange(8), 10)
    out = labels < 2
    parts = [Scatter(12, 8), Scatter(12, 8)]
    parts[0].add(features[out], labels[out])
    parts[1].add(features[~out], labels[~out])
    never_shown = discriminant(parts[1])
    rest = discriminant(Scatter.sum_of(parts).without(parts[0]))
    assert np.allclose(rest(features), never_shown(features), atol=1e-4)


@pytest.mark.slow
def test_evaluation_measures_by_it_where_every_class_is_trained(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.loads(shitu("evaluate", "--model", "output/latest", "--json", cwd=space).stdout)
    unknown = values["unknown"]
    assert unknown["how"] == "photos of 9 classes, each left out of training and of the index in turn"
    assert (unknown["photos"], unknown["classes"], unknown["labels"]) == (45, 9, 9)
    assert [row["wanted"] for row in unknown["promises"]] == [0.2, 0.1, 0.05]
    monkeypatch.setattr(cross_fit, "cross_fitted", lambda *_, **__: require_feature_memory(10**9, 1280, 3))
    short = shitu("evaluate", "--model", "output/latest", "--json", cwd=space)
    assert "no threshold is measured on classes left out of training: --neck trained holds" in short.stderr
    assert json.loads(short.stdout)["metrics"] == values["metrics"]


def test_not_where_the_backbone_has_seen_the_classes(space: Path) -> None:
    shutil.copytree(space / "elsewhere", space / "output/mine")
    shitu("train", "--frozen", *NETWORK, "--init-from", "output/mine/latest", "--views", "1", cwd=space)
    values = json.loads(shitu("evaluate", "--model", "output/latest", "--json", cwd=space).stdout)
    assert values["unknown"]["suggested"] is None and "but there are none" in values["unknown"]["problem"]
