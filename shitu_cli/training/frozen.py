"""`train --frozen`: learn a closed-form projection of a trained network's features, in a minute instead of ten.

The weights of the network do not change. The projection (training/projection.py) follows from the features of all
training images and of a few random views of each. It is written into the network as its neck, a linear layer, so that
evaluation, export and search treat it like any other network. On request it is trained further on those features
(training/trained_neck.py).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.config.arguments import CLOSED_FORM, TRAINED, USUAL_VIEWS
from shitu_cli.config.parts.losses import NetworkLoss
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import Command, UsageError
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.engine import engine_from_model
from shitu_cli.reporting import Reporter, counted
from shitu_cli.runtime.arithmetic import current_threads
from shitu_cli.training.checkpoint import BEST, LATEST, Checkpoint, save_checkpoint
from shitu_cli.training.checks import as_frozen, check_labels
from shitu_cli.training.earlier import settle
from shitu_cli.training.fingerprint import describe_run
from shitu_cli.training.layer_checks import check_layers, shapes_of
from shitu_cli.training.log import RunLog
from shitu_cli.training.loop_state import LoopState, seed_everything
from shitu_cli.training.options import TrainOptions
from shitu_cli.training.projection import Projection, Scatter
from shitu_cli.training.projection_fit import (
    METRIC,
    EvaluationFeatures,
    evaluation_features,
    is_closed,
    on_backbone,
    project,
    training_blocks,
    unaugmented_training,
)
from shitu_cli.training.projection_neck import neck_weights, projected_arch
from shitu_cli.training.saving import save_new_run
from shitu_cli.training.start_checks import check_start
from shitu_cli.training.start_weights import build_started, start_of
from shitu_cli.training.trained_neck import gathered, require_feature_memory, train_neck


@dataclass(frozen=True)
class FrozenResult:
    """`before` and `after` are the metrics of the bare and the projected features, None without evaluation lists.

    `closed` says whether the gallery holds the trained classes, `size` how many values a feature has now; `projected`
    whether best_model has the projection, which it lacks if the bare features are better. `neck` says
    how the projection was learned, `views` how many views of each image were used; `start` is the file of the weights,
    "" for those that the config names.
    """

    before: dict[str, float] | None
    after: dict[str, float] | None
    closed: bool
    size: int
    projected: bool
    neck: str
    seconds: float
    views: int
    start: str


def train_frozen(
    config: Config,
    *,
    reporter: Reporter,
    cache: FeatureCache | None = None,
    options: TrainOptions | None = None,
    init_from: Path | None = None,
    views: int = USUAL_VIEWS,
    neck: str = CLOSED_FORM,
) -> FrozenResult:
    """Learn the projection, evaluate it against the bare features, and save both; needs setup_paddle before.

    Args:
        config: as for training; its neck and head are replaced by the projection.
        reporter: shows progress and results to the user.
        cache: keeps the features of every view for the next time.
        options: how many saves and earlier models to keep.
        init_from: weights to start from, instead of those that the config names.
        views: how many views of each image to use; all but the first are cropped and mirrored at random.
        neck: TRAINED to train the projection further, which is kept if it is better on the evaluation lists.

    Raises UsageError when no trained weights are named, and without the memory to train a neck; DataError when lists,
    images or weights do not fit.
    """
    started = time.monotonic()
    split, options = unaugmented_training(config), options or TrainOptions()
    output = Path(config.Global.output_dir)
    settle(output)
    seed_everything(config.Global.seed or 0)
    dataset = RecDataset(split.dataset)
    used = as_frozen(config)
    check_labels(used, dataset.labels, dataset.images, dataset.list_path)
    check_layers(used, shapes_of(used))
    check_start(used, init_from)
    start = start_of(config, init_from, reporter)
    network, remarks = bare_network(config, start, reporter)
    engine = engine_from_model(network, on_backbone(config))
    if neck == TRAINED:
        require_feature_memory(len(dataset), engine.feature_size, views)
    log = RunLog(output / "train.log", output / "metrics.jsonl")
    tell = functools.partial(log.tell, reporter)
    try:
        for text in remarks:
            tell(text, warning=True)
        evaluation = evaluation_features(engine, config, reporter, cache)
        closed = is_closed(dataset.labels, config)
        before = None if evaluation is None else evaluation.evaluate(None, config).metrics
        for line in _introduction(config, dataset, before, closed, views):
            tell(line)
        blocks = training_blocks(engine, config, reporter, views=views, cache=cache)
        stored = gathered(blocks) if neck == TRAINED else None
        scatter = Scatter.of(blocks if stored is None else [stored], engine.feature_size, dataset.class_num)
        learned = _in_closed_form(scatter, evaluation, config, closed=closed)
        if stored is not None:
            trained = _trained_further(learned, *stored, evaluation, config, reporter)
            learned = _better(learned, trained, tell)
        result = FrozenResult(
            before=before,
            after=learned.metrics,
            closed=closed,
            size=learned.projection.weight.shape[1],
            projected=before is None or learned.metrics is None or learned.metrics[METRIC] >= before[METRIC],
            neck=learned.neck,
            seconds=time.monotonic() - started,
            views=views,
            start=str(start or ""),
        )
        for line in _save(config, network, learned.projection, result, dataset, options):
            tell(line)
        if result.after is not None:
            log.record("eval", epoch=0, **result.after)
    finally:
        log.close()
    return result


@dataclass(frozen=True)
class _Learned:
    """A projection with how it was learned; `metrics` are those of the features that it gives, None unevaluated."""

    projection: Projection
    metrics: dict[str, float] | None
    neck: str


def _in_closed_form(
    scatter: Scatter, evaluation: EvaluationFeatures | None, config: Config, *, closed: bool
) -> _Learned:
    projection, evaluated = project(scatter, evaluation, config, closed=closed)
    return _Learned(projection, None if evaluated is None else evaluated.metrics, CLOSED_FORM)


def _trained_further(
    start: _Learned,
    features: np.ndarray,
    labels: np.ndarray,
    evaluation: EvaluationFeatures | None,
    config: Config,
    reporter: Reporter,
) -> _Learned:
    """Return the projection `start` after training with features float32 [n, D] and labels int [n]."""
    seed = config.Global.seed or 0
    projection = train_neck(features, labels, start.projection, seed=seed, reporter=reporter)
    metrics = None if evaluation is None else evaluation.evaluate(projection, config).metrics
    return _Learned(projection, metrics, TRAINED)


def _better(closed: _Learned, trained: _Learned, tell: Callable[[str], None]) -> _Learned:
    """Return the one with the better score, which the user is told; unevaluated, the trained one."""
    if closed.metrics is None or trained.metrics is None:
        return trained
    scores = closed.metrics[METRIC], trained.metrics[METRIC]
    text = f"{METRIC} with the projection in closed form {scores[0]:.4f}, after training it further {scores[1]:.4f}"
    if scores[1] >= scores[0]:
        tell(text)
        return trained
    tell(f"{text}: the one in closed form is kept")
    return closed


def bare_network(config: Config, start: Path | None, reporter: Reporter) -> tuple[nn.Layer, list[str]]:
    """Return the backbone alone in evaluation mode, with the weights of a file or else those that its entry names.

    The second value are remarks on these weights; `reporter` shows their download.
    """
    if start is None and not config.Arch.backbone.pretrained:
        raise UsageError(
            "--frozen needs a network that is trained already, and the config names no weights",
            hint=[
                Command("train", "--frozen", "-o", "Arch.Backbone.pretrained=path/to/weights"),
                ", or --init-from with the weights of a network like this one",
            ],
        )
    bare = dataclasses.replace(config, Arch=projected_arch(config.Arch, None))
    network, remarks = build_started(bare, start, reporter, may_be_new=("neck.", "head."))
    network.eval()
    return network, remarks


def _introduction(
    config: Config, dataset: RecDataset, before: Mapping[str, float] | None, closed: bool, views: int
) -> list[str]:
    if closed:
        way = "the gallery holds the trained classes, so the projection is a linear discriminant analysis"
    else:
        way = (
            "the gallery holds new classes, so the projection is a whitening, or whichever projection does "
            "better on the evaluation lists"
        )
    return [
        f"{counted(len(dataset), 'image')} of {counted(dataset.class_num, 'class', 'classes')}, "
        f"{counted(views, 'view')} of each, go through {config.Arch.backbone.name}, whose weights do not change",
        *([] if before is None else [f"before training: {METRIC} {before[METRIC]:.4f}"]),
        way,
    ]


def _save(
    config: Config,
    network: nn.Layer,
    projection: Projection,
    result: FrozenResult,
    dataset: RecDataset,
    options: TrainOptions,
) -> list[str]:
    """Save the projected network as latest, and the better of the two as best_model; return lines for the user."""
    output = Path(config.Global.output_dir)
    own = _config_with(config, projection)
    latest = _checkpoint(own, network, projection, result, dataset)
    lines = save_new_run(output, [LATEST, BEST] if result.projected else [LATEST], latest, own, options)
    if not result.projected:
        bare = _checkpoint(_config_with(config, None), network, None, result, dataset)
        save_checkpoint(output, [BEST], bare, keep=options.keep or 1)
    if result.after is not None:
        lines.append(f"after: {METRIC} {result.after[METRIC]:.4f}, with features of {result.size} values")
    if not result.projected:
        lines.append("features without the projection are better on these lists: best_model is the network without it")
    return lines


def _config_with(config: Config, projection: Projection | None) -> Config:
    """Return the config of the saved network, which asks neither for a second projection nor for other networks."""
    arch, general = projected_arch(config.Arch, projection), dataclasses.replace(config.Global, projection=False)
    losses = tuple(loss for loss in config.Loss if not isinstance(loss, NetworkLoss))
    return dataclasses.replace(config, Global=general, Arch=arch, Loss=losses, Distillation=None)


def _checkpoint(
    config: Config, network: nn.Layer, projection: Projection | None, result: FrozenResult, dataset: RecDataset
) -> Checkpoint:
    """Return the checkpoint of the projected network, or of the bare one for no projection."""
    run = describe_run(
        config, train_list=dataset.list_path, label_map=dataset.list_path.with_name("label_map.txt"),
        samples=len(dataset), class_num=dataset.class_num, world=1, threads=current_threads(),
    )  # fmt: skip
    # To measure thresholds, the projection is learned again without some classes (training/cross_fit.py).
    run |= {"frozen": True, "neck": result.neck, "views": result.views, "start": result.start}
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    if projection is not None:
        weights |= neck_weights(projection)
    metrics = result.before if projection is None else result.after
    state = LoopState(seconds=result.seconds)
    if metrics is not None:
        state.evaluations, state.best_score = [{"epoch": 0, **metrics}], metrics[METRIC]
    return Checkpoint(weights, {}, state, run, metrics=metrics or {})
