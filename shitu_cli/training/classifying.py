"""How often the head of a network in training names the class of an image, as PaddleClas's TopkAcc counts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import paddle
from paddle import nn

from shitu_cli.config.schema import Config
from shitu_cli.errors import ConfigError, DataError
from shitu_cli.evaluation.evaluate import topk_of
from shitu_cli.features.cache import Cache
from shitu_cli.features.engine import Engine
from shitu_cli.features.list_features import ListFeatures, extract_list
from shitu_cli.model.heads import MarginHead
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import Reporter

TOP = "top1"
BLOCK = 1024  # images whose logits are in memory at once
WAY_OUT = "to measure retrieval instead: -o Global.eval_mode=retrieval"


@dataclass(frozen=True)
class HeadAccuracy:
    """`metrics` top1, top5, … over `images` images; `skipped` says why others could not be read."""

    metrics: Mapping[str, float]
    images: int
    skipped: Sequence[str]


def as_classified(config: Config) -> Config:
    """Return the config with what the head receives as the feature."""
    output: Literal["backbone", "features"] = "backbone" if config.Arch.head_feature_from == "backbone" else "features"
    return dataclasses.replace(config, Global=dataclasses.replace(config.Global, retrieval_feature_from=output))


def measure_head(
    head: nn.Layer | None,
    engine: Engine,
    config: Config,
    reporter: Reporter,
    processes: Processes,
    *,
    cache: Cache | None = None,
) -> HeadAccuracy | None:
    """Return `top1`, `top5` and so on over DataLoader.Eval; None on all processes but the first.

    `engine` computes what the head receives, which `cache` keeps. Raises ConfigError without a head or a list,
    DataError for labels that the head does not have, and if no image can be measured.
    """
    split = config.DataLoader.query
    if head is None or split is None:
        lacks = "Arch.Head" if head is None else "DataLoader.Eval"
        raise ConfigError(f"Global.eval_mode: classification needs {lacks}", hint=WAY_OUT)
    if isinstance(head, MarginHead) and head.group.world > 1:
        raise ConfigError(
            "Global.eval_mode: classification does not work with a head that is divided over several processes",
            hint=f"-o Arch.Head.shard=False; {WAY_OUT}",
        )
    part = extract_list(engine, split, reporter, "evaluation", cache=cache, processes=processes, normalize=False)
    return None if part is None else _accuracies(head, part, topk_of(config, 1))


@paddle.no_grad()
def _accuracies(head: nn.Layer, part: ListFeatures, topk: Sequence[int]) -> HeadAccuracy:
    """Return how often the label of an image is among the k most probable classes; of equal logits the first counts."""
    labels = part.dataset.labels
    if int(labels.max()) >= head.class_num:
        raise DataError(
            f"{part.dataset.list_path} has labels up to {labels.max()}, the head has {head.class_num} classes",
            hint=f"a classifier knows only the classes of its training list; {WAY_OUT}",
        )
    rows = np.setdiff1d(np.flatnonzero(labels >= 0), np.fromiter(part.skipped, np.int64, len(part.skipped)))
    if not len(rows):
        raise DataError(
            f"{part.dataset.list_path}: none of its images can be measured: they have no class or could not be read",
            details=[*part.skipped.values()][:10],
            hint=f"name a list whose images have classes: -o DataLoader.Eval.dataset.cls_label_path=FILE; {WAY_OUT}",
        )
    before = np.empty(len(rows), np.int64)  # how many classes come before the right one
    for start in range(0, len(rows), BLOCK):
        chosen = rows[start : start + BLOCK]
        logits = head(paddle.to_tensor(part.features[chosen])).numpy()
        target = logits[np.arange(len(chosen)), labels[chosen]][:, None]
        ties = (logits == target) & (np.arange(logits.shape[1]) < labels[chosen][:, None])
        before[start : start + BLOCK] = (logits > target).sum(1) + ties.sum(1)
    metrics = {f"top{k}": float((before < k).mean()) for k in topk}
    return HeadAccuracy(metrics, len(rows), sorted(part.skipped.values()))
