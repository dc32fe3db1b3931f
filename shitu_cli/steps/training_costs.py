"""Measure the costs of training and evaluation (--dry-run) from a few seconds of them, whose results are discarded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from shitu_cli.config.places import Places
from shitu_cli.config.schema import SPLITS, Config, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import Command, Message
from shitu_cli.evaluation.evaluate import distinct_splits, splits_of
from shitu_cli.evaluation.metrics import FeatureSet, rank
from shitu_cli.evaluation.rerank import expand_queries, reranked
from shitu_cli.evaluation.shards import JoinedLists
from shitu_cli.features.engine import Engine
from shitu_cli.features.extractor import InputDataset, inputs_of
from shitu_cli.features.list_features import BATCH, pace_of, prepared_engine
from shitu_cli.features.selection import Request, load_engine
from shitu_cli.features.shard_file import Share
from shitu_cli.features.unit_length import normalized
from shitu_cli.preparation.sources import find_images
from shitu_cli.reporting import SilentReporter, counted
from shitu_cli.runtime.arithmetic import current_threads
from shitu_cli.runtime.memory import peak_memory_bytes
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.steps import costs
from shitu_cli.steps.costs import Cost, Need, disk_need, memory_need, total_size
from shitu_cli.steps.evaluate import settings_for
from shitu_cli.steps.models import readable
from shitu_cli.steps.settings import with_lists
from shitu_cli.training.log import RunLog

if TYPE_CHECKING:
    from shitu_cli.training.build import Training

_SAVES = 6  # of a checkpoint on the disk while one is written (training/checkpoint.py)


def cost_of_train(config: Config, *, init_from: Path | None = None, keep: int | None = None) -> Cost:
    """Return what `train` would cost: steps of the real network on the real images, and one of its evaluations.

    Raises what `train` raises before its first step.
    """
    config = with_lists(config, SPLITS)
    name, _, _ = setup_paddle(config.Global.device).partition(":")
    from shitu_cli.processes.collectives import Ranks
    from shitu_cli.training.build import Rehearsal, build_training
    from shitu_cli.training.online import evaluations_after
    from shitu_cli.training.start import starts_trained
    from shitu_cli.training.trainer import Trainer
    from shitu_cli.training.unlabelled import sources_of
    from shitu_cli.weights.store import rehearsing

    quiet, threads = SilentReporter(), current_threads()
    with TemporaryDirectory(prefix="shitu-") as folder, rehearsing():
        training = build_training(
            config,
            device=name,
            ranks=Ranks(),
            threads=threads,
            reporter=quiet,
            init_from=init_from,
            rehearsal=Rehearsal(costs.SECONDS, lists_dir=Path(folder)),
        )
    pace = Trainer(training, RunLog(None, None), quiet).rehearse(costs.SECONDS)
    epochs, dataset, teacher = config.Global.epochs, training.dataset, training.teacher
    later = pace.per_unit() * pace.total / epochs
    seconds = {} if teacher is None else {"features of the teacher": teacher.seconds}
    total = sum(seconds.values()) + pace.whole()
    seconds["the first epoch"] = pace.whole() - later * (epochs - 1)  # with decoding what stays in memory
    seconds |= {"a later epoch": later} if epochs > 1 else {}
    evaluation = _evaluation_in_training(training, name)
    count = evaluations_after(0, config.Global) + starts_trained(config, init_from) if evaluation.images else 0
    seconds |= {"an evaluation": evaluation.seconds} if count else {}
    peak, more = peak_memory_bytes() or 0, evaluation.size + (0 if teacher is None else teacher.memory)
    smaller = Command("train", "--batch-size", max(1, training.batch_size // 2))
    sources = sources_of(dataset, training.unlabelled)
    sizes, kept = [total_size(len(s), s.location) for s in sources], sum(s.kept().most for s in sources)
    return Cost(
        images=sum(map(len, sources)),
        bytes_to_read=None if None in sizes else sum(size or 0 for size in sizes),
        seconds=seconds,
        total=total + evaluation.seconds * count,
        margin=max(pace.margin, evaluation.margin),
        basis=f"steps with {counted(pace.done, 'image')} on {name}",
        needs=(memory_need(peak + more, held=peak, fit=smaller), _checkpoints(training, keep or 1)),
        remarks=[
            f"{counted(epochs, 'epoch')} of {counted(training.steps_per_epoch, 'step')}, "
            f"{counted(count, 'evaluation')} of {counted(evaluation.images, 'image')}; "
            f"{counted(kept, 'image')} can stay in memory and need decoding only once"
        ],
    )


def _evaluation_in_training(training: Training, device: str) -> EvaluationCost:
    """Return the cost of one evaluation during training, without images if the run makes none."""
    from shitu_cli.training.online import OnlineEvaluation, images_per_evaluation

    config, dataset = training.config, training.dataset
    if not config.evaluates:
        return EvaluationCost(0, 0, 0.0, 0.0)
    online = OnlineEvaluation(config, device, dataset.labels, int(dataset.class_num), SilentReporter())
    engine = online.engine(training.model)
    evaluation = _evaluation_of(config, engine)
    ranking = evaluation.ranking + online.fitting_seconds(engine.feature_size)
    images = images_per_evaluation(config, len(dataset))
    features = evaluation.features / evaluation.images * images
    return replace(evaluation, images=images, features=features, ranking=ranking)


def _checkpoints(training: Training, keep: int) -> Need:
    """Return the disk for the checkpoints of a run."""
    weights = sum(map(_bytes_of, training.model.state_dict().values()))
    save = weights + sum(map(_bytes_of, training.optimizer.tensors().values()))
    save += weights if training.ema is not None else 0
    fit: Message = ["free some space, or choose another disk: ", Command("train", "-o", "Global.output_dir=DIRECTORY")]
    return disk_need(training.output, save * (_SAVES + keep - 1), what="disk for checkpoints", fit=fit)


def _bytes_of(tensor: object) -> int:
    return int(tensor.size) * int(tensor.element_size())  # type: ignore[attr-defined]


def cost_of_evaluate(
    config: Config,
    *,
    model: Path | None = None,
    precision: str | None = None,
    flip: bool = False,
    query_expansion: int = 0,
    cross_fit: int = 0,
    share: Share | None = None,
    merge: Sequence[str] = (),
    unknown: Sequence[str] = (),
    cache: bool = True,
) -> Cost:
    """Return what `evaluate` would cost: the features of both lists, and the ranking.

    `share` limits it to a part of the features, `merge` names shards that hold all of them, `unknown` adds photos,
    `cross_fit` adds trainings, and `cache` adds disk for kept features.
    """
    config = settings_for(config, model, SilentReporter())
    places = Places.of(config)
    setup_paddle(config.Global.device)
    if merge:
        JoinedLists(merge)  # raises where they do not make a whole
    prefix = readable(model or places.best, SilentReporter())
    engine = load_engine(prefix, config, Request(precision=precision))
    runner = prepared_engine(engine, flip=flip, normalize=True)
    part = _evaluation_of(config, runner, query_expansion=query_expansion, share=share, computed=bool(merge))
    read = sum(_size_of(split) or 0 for split in distinct_splits(config))
    seconds = {} if merge else {"features": part.features}
    seconds |= {} if share is not None else {"ranking": part.ranking}
    seconds |= {"features of unknown things": _features_of(unknown, config, runner)} if unknown else {}
    peak = peak_memory_bytes() or 0
    cost = Cost(
        images=part.images,
        bytes_to_read=part.size if merge else read // (1 if share is None else share.of),
        seconds=seconds,
        total=sum(seconds.values()),
        margin=part.margin,
        basis=f"features of a few batches, and a ranking of random features, by {engine.summary()}",
        needs=(
            memory_need(peak + part.size, held=peak, fit="fewer gallery images, or a machine with more memory"),
            *([_kept_features(places, part.size)] if cache and share is None and not merge else []),
        ),
    )
    return _with_cross_fit(cost, config, prefix, cross_fit, part) if cross_fit else cost


def _with_cross_fit(cost: Cost, config: Config, prefix: Path, count: int, part: EvaluationCost) -> Cost:
    """Return the cost with `count` trainings, each without its share of the classes, and the features of each."""
    from shitu_cli.steps.cross_train import config_of_training

    training = cost_of_train(config_of_training(config, prefix))
    seconds = cost.seconds | {"a training": training.total * (count - 1) / count}
    disk = [replace(need, needed=need.needed * count) for need in training.needs if need.place]
    memory = [need for need in training.needs if not need.place]
    return replace(
        cost,
        seconds=seconds,
        total=cost.total + count * (seconds["a training"] + part.seconds),
        basis=f"{cost.basis}; {training.basis}",
        needs=(*cost.needs, *memory, *disk),
        remarks=[
            f"this includes {counted(count, 'training')}, each without 1/{count} of the classes; no training is needed "
            "if classes were left out of training already, or if only a projection was learnt"
        ],
    )


def _features_of(sources: Sequence[str], config: Config, engine: Engine) -> float:
    """Return the seconds for the features of images outside the lists, which are prepared like queries."""
    transform = RecDataset(splits_of(config)[0].dataset).transform
    images = InputDataset(inputs_of(find_images(sources)), transform)
    return pace_of(engine, images, batch_size=BATCH, seconds=costs.SECONDS).whole()


def _kept_features(places: Places, size: int) -> Need:
    return disk_need(
        places.workspace.cache_dir, size, what="disk for kept features", fit=Command("evaluate", "--no-cache")
    )


def _size_of(split: SplitConfig) -> int | None:
    dataset = RecDataset(split.dataset)
    return total_size(len(dataset), dataset.location)


@dataclass(frozen=True)
class EvaluationCost:
    """An evaluation, or a part of one: images, bytes of their features, seconds to compute those and to rank.

    `margin` is the relative error of the seconds.
    """

    images: int
    size: int
    features: float
    ranking: float
    margin: float = 0.0

    @property
    def seconds(self) -> float:
        return self.features + self.ranking


def _evaluation_of(
    config: Config,
    engine: Engine,
    *,
    query_expansion: int = 0,
    share: Share | None = None,
    computed: bool = False,
) -> EvaluationCost:
    seconds, images, margin = 0.0, 0, 0.0
    for split in distinct_splits(config):
        dataset, batch_size = RecDataset(split.dataset), split.sampler.batch_size
        count = len(dataset) if share is None else len(share.range(len(dataset), batch_size))
        images += count
        if not computed:
            workers = split.loader.num_workers
            pace = pace_of(
                engine, dataset, batch_size=batch_size, num_workers=workers, count=count, seconds=costs.SECONDS
            )
            seconds, margin = seconds + pace.whole(), max(margin, pace.margin)
    ranking = 0.0
    if share is None:
        query, gallery = (len(RecDataset(split.dataset)) for split in splits_of(config))
        ranking = _ranking_seconds(
            query, gallery, engine.feature_size, rerank=config.Global.re_ranking, query_expansion=query_expansion
        )
    return EvaluationCost(images, images * engine.feature_size * 4, seconds, ranking, margin)


def _ranking_seconds(queries: int, gallery: int, size: int, *, rerank: bool, query_expansion: int) -> float:
    """Return the seconds to rank a gallery, from a small one of random features.

    Time grows with queries times gallery; that of re-ranking with the square of both together, as it compares all
    pairs.
    """

    def run(count: int, others: int) -> tuple[float, float]:
        """Return the seconds to compare all pairs, and those to rank."""
        query, sample = _random_sets(count, others, size)
        started = time.perf_counter()
        block = reranked(query.features, sample.features) if rerank else None
        compared = time.perf_counter()
        if query_expansion:
            query = replace(query, features=expand_queries(query.features, sample.features, count=query_expansion))
        rank(query, sample, block=block)
        return compared - started if rerank else 0.0, time.perf_counter() - compared

    run(min(queries, 10), min(gallery, 100))  # compiles the loops first
    counts = min(queries, 200), min(gallery, 2_000 if rerank else 20_000)
    pairs, ranking = run(*counts)
    all_pairs = ((queries + gallery) / sum(counts)) ** 2
    return pairs * all_pairs + ranking * (queries / counts[0]) * (gallery / counts[1])


def _random_sets(queries: int, gallery: int, size: int) -> tuple[FeatureSet, FeatureSet]:
    random = np.random.default_rng(0)

    def drawn(count: int, start: int) -> FeatureSet:
        features = normalized(random.standard_normal((count, size), np.float32))
        return FeatureSet(features, np.arange(count) % 50, None, np.arange(count) + start)

    return drawn(queries, 0), drawn(gallery, queries)
