"""Parts as a config would name them, for tests of what is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shitu_cli.config.reader import make_part
from shitu_cli.data.samplers import Feed, Sampler, build_sampler


def loss_item(name: str, weight: float = 1.0, args: Mapping[str, Any] | None = None) -> Any:
    """One loss of a weighted sum."""
    return make_part("loss", name, weight=weight, **(args or {}))


def loss_arguments(name: str, *, size: int, classes: int, memory: int = 20) -> dict[str, Any]:
    """What a loss needs beside its defaults, for features of `size` values: a new loss that needs some has a line here.

    Losses between networks compare the network Student with itself.
    """
    xbm = {"start_iter": 0, "xbm_size": memory, "xbm_weight": 1.0}
    needed: dict[str, dict[str, Any]] = {
        "ContrastiveLoss_XBM": {**xbm, "embedding_size": size},
        "TripletAngularMarginLoss_XBM": {**xbm, "feat_dim": size},
        "PairwiseCosface": {"margin": 0.35, "gamma": 64.0},
        "CenterLoss": {"num_classes": classes, "feat_dim": size},
        "ProxyAnchor": {"num_classes": classes, "feat_dim": size},
        "DSHSDLoss": {"alpha": 0.05},
        "LCDSHLoss": {"_lambda": 3.0},
        "DCHLoss": {"gamma": 20.0, "_lambda": 0.1},
        "TeacherLoss": {"teacher": "exported"},
        "DistillationGTCELoss": {"model_names": ["Student"]},
    }
    if name in needed:
        return needed[name]
    return {"model_name_pairs": [["Student", "Student"]]} if name.startswith("Distillation") else {}


def operation(name: str, args: Mapping[str, Any] | None = None) -> Any:
    """One transform."""
    return make_part("transform", name, **(args or {}))


def sampler_of(
    labels: np.ndarray,
    name: str = "DistributedBatchSampler",
    *,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    **args: Any,
) -> Sampler:
    """The sampler of a config over images with these labels."""
    return build_sampler(make_part("sampler", name, **args), Feed(labels, None, seed, rank, world))
