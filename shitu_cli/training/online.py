"""Evaluation during training, and what training needs to know of the features that it starts from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from paddle import nn

from shitu_cli.config.schema import Config, GlobalConfig, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import ShituError
from shitu_cli.evaluation.evaluate import distinct_splits, evaluate_model
from shitu_cli.features.cache import FeatureMemory
from shitu_cli.features.engine import Engine, engine_from_model, trace_for_engine, weights_fingerprint
from shitu_cli.features.list_features import pace_of
from shitu_cli.processes.collectives import Ranks
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import ProgressAlone, Reporter
from shitu_cli.training.classifying import as_classified, measure_head
from shitu_cli.training.loop_state import capture_rng, restore_rng
from shitu_cli.training.options import UNDECIDED
from shitu_cli.training.per_process import evaluating
from shitu_cli.training.projection import Projection, Scatter
from shitu_cli.training.projection_fit import (
    KEPT_BYTES,
    METRIC,
    estimate_fit,
    evaluation_features,
    is_closed,
    on_backbone,
    project,
    training_blocks,
    unaugmented_training,
)

if TYPE_CHECKING:
    from shitu_cli.model.tracing import TracedNetwork

VIEWS = 2  # of each training image for the projection: once training has seen many, more are not worth their time
SECONDS = 2.0  # that are measured to estimate how long an evaluation takes
BARE = f"bare {METRIC}"  # metric: what the features reach without the projection


@dataclass(frozen=True)
class OnlineResult:
    """Metrics of the features or, if it is better, of their `projection`, which best_model then has as its neck."""

    metrics: dict[str, float]
    projection: Projection | None = None


def is_evaluated(epoch: int, chosen: GlobalConfig) -> bool:
    """Return whether a run evaluates after this epoch, counted from 1: at its intervals, and after the last one."""
    return epoch == chosen.epochs or (epoch % max(1, chosen.eval_interval) == 0 and epoch >= chosen.start_eval_epoch)


def evaluations_after(epoch: int, chosen: GlobalConfig) -> int:
    """Return how many evaluations a run still has after `epoch` epochs."""
    return sum(is_evaluated(later, chosen) for later in range(epoch + 1, chosen.epochs + 1))


def images_per_evaluation(config: Config, training_images: int) -> int:
    """Return how many images go through the network in an evaluation: for a projection, those of training as well."""
    listed = sum(len(RecDataset(split.dataset)) for split in distinct_splits(config))
    return listed + (VIEWS * training_images if config.Global.projection else 0)


def estimate_evaluation(evaluate: OnlineEvaluation, model: nn.Layer, ranks: Ranks) -> float:
    """Return about how many seconds an evaluation will take; 0 if unknown, as with several processes."""
    if ranks.world > 1:
        return 0.0
    generators = capture_rng()
    try:
        with evaluating(model, ranks):
            return evaluate.estimate_seconds(model)
    except ShituError:  # the evaluation itself names what it cannot read, once the epoch before it is saved
        return 0.0
    finally:
        restore_rng(generators)


class OnlineEvaluation:
    """Evaluates a network in training over the query and gallery lists, shared by all processes.

    `labels` [N] are those of the training list. After the first evaluation `reporter` shows progress alone.
    """

    def __init__(self, config: Config, device: str, labels: np.ndarray, class_num: int, reporter: Reporter) -> None:
        self._config, self._device = config, device
        self._reporter, self._later_reporter = reporter, ProgressAlone(reporter)
        self._labels, self._class_num = labels, class_num
        self._traced: TracedNetwork | None = None  # the network's graph, from the first evaluation on
        self._scatter: tuple[str, Scatter | None] = ("", None)  # of the training images, and of which weights
        self._memory = FeatureMemory(limit=KEPT_BYTES)
        self._fitting: float | None = None  # the seconds of the newest fit of a projection

    def __call__(self, model: nn.Layer, processes: Processes) -> OnlineResult:
        """Return the metrics, empty on all processes but the first."""
        run = self._with_projection if self._config.Global.projection else self._without
        if self._config.classifies:
            run = self._of_head
        evaluation = run(model, processes)
        self._reporter = self._later_reporter
        return evaluation

    def estimate_seconds(self, model: nn.Layer) -> float:
        """Return about how many seconds an evaluation will take in this process alone, from a few batches of it."""
        if self._config.classifies:
            return 0.0
        split = self._largest_split()
        engine = self.engine(model)
        pace = pace_of(
            engine,
            RecDataset(split.dataset),
            batch_size=split.sampler.batch_size,
            num_workers=split.loader.num_workers,
            seconds=SECONDS,
        )
        features = pace.per_unit() * images_per_evaluation(self._config, len(self._labels))
        return features + self.fitting_seconds(engine.feature_size)

    def fitting_seconds(self, size: int) -> float:
        """Return about how many seconds an evaluation spends on the projection of features of this size."""
        if not self._config.Global.projection:
            return 0.0
        if self._fitting is None:
            closed = is_closed(self._labels, self._config)
            self._fitting = estimate_fit(size, self._class_num, closed=closed)
        return self._fitting

    def _largest_split(self) -> SplitConfig:
        """Return the split of most of the images that an evaluation looks at."""
        if self._config.Global.projection:
            return unaugmented_training(self._config)
        return max(distinct_splits(self._config), key=lambda split: len(RecDataset(split.dataset)))

    def class_means(self, model: nn.Layer, processes: Processes) -> np.ndarray | None:
        """Return the mean direction [C, D] of the features of each class; None on all processes but the first."""
        scatter = self._training_scatter(model, self.engine(model), processes)
        return None if scatter is None else scatter.class_means

    def _of_head(self, model: nn.Layer, processes: Processes) -> OnlineResult:
        engine = self.engine(model)
        accuracy = measure_head(model.head, engine, self._config, self._reporter, processes)
        return OnlineResult({} if accuracy is None else dict(accuracy.metrics))

    def _without(self, model: nn.Layer, processes: Processes) -> OnlineResult:
        result = evaluate_model(self.engine(model), self._config, self._reporter, processes=processes)
        if result is None:
            return OnlineResult({})
        return OnlineResult({**result.metrics, UNDECIDED: result.ranking.undecided_share})

    def _with_projection(self, model: nn.Layer, processes: Processes) -> OnlineResult:
        engine = self.engine(model)
        features = evaluation_features(engine, self._config, self._reporter, self._memory, processes)
        scatter = self._training_scatter(model, engine, processes)
        self._memory = FeatureMemory(limit=KEPT_BYTES)  # the next evaluation is of other weights
        if features is None or scatter is None:
            return OnlineResult({})
        began = time.perf_counter()
        bare = features.evaluate(None, self._config)
        score = {BARE: bare.metrics[METRIC]}
        closed = is_closed(self._labels, self._config)
        projection, projected = project(scatter, features, self._config, closed=closed)
        assert projected is not None
        self._fitting = time.perf_counter() - began
        if projected.metrics[METRIC] > bare.metrics[METRIC]:
            return OnlineResult({**projected.metrics, **score}, projection)
        return OnlineResult({**bare.metrics, **score, UNDECIDED: bare.ranking.undecided_share})

    def _training_scatter(self, model: nn.Layer, engine: Engine, processes: Processes) -> Scatter | None:
        weights = weights_fingerprint(model.backbone)
        if self._scatter[0] != weights:  # at the start, head and projection are made of the same features
            blocks = training_blocks(
                engine, self._config, self._reporter, views=VIEWS, cache=self._memory, processes=processes
            )
            scatter = Scatter.of(blocks, engine.feature_size, self._class_num)
            self._scatter = (weights, scatter if processes.rank == 0 else None)
        return self._scatter[1]

    def engine(self, model: nn.Layer) -> Engine:
        """Return what computes the features of a network in training."""
        # A projection takes what leaves the backbone, and a head at class means what it will get.
        config = on_backbone(self._config) if self._config.Global.projection else self._config
        config = as_classified(config) if config.classifies else config
        if self._device == "cpu" and self._traced is None:
            self._traced = trace_for_engine(model, config)
        return engine_from_model(model, config, traced=self._traced)
