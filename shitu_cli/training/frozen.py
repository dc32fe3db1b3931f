"""A minute instead of ten: a closed-form projection on a trained network whose weights stay as they are.

The features of all training images, and of a few changed views of each, give the projection (training/projection.py).
It is written into the network as its neck, a linear layer, so that evaluation, export and search need nothing new.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.parts.necks import FC
from shitu_cli.config.parts.transforms import DecodeImage, NormalizeImage, RandCropImage, RandFlipImage, ToCHWImage
from shitu_cli.config.schema import ArchConfig, Config, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import Command, ConfigError, UsageError
from shitu_cli.evaluation.evaluate import evaluate_lists
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.engine import Engine, engine_from_model
from shitu_cli.features.list_features import ListFeatures, extract_dataset, extract_list, normalized
from shitu_cli.model import build_rec_model
from shitu_cli.model.tracing import without_pretrained
from shitu_cli.model.weights import load_weights
from shitu_cli.reporting import Reporter, SilentReporter, counted
from shitu_cli.runtime.arithmetic import current_threads
from shitu_cli.training.build import check_labels
from shitu_cli.training.checkpoint import BEST, LATEST, Checkpoint, save_checkpoint
from shitu_cli.training.earlier import settle
from shitu_cli.training.fingerprint import describe_run
from shitu_cli.training.log import RunLog
from shitu_cli.training.loop_state import LoopState, seed_everything
from shitu_cli.training.options import TrainOptions
from shitu_cli.training.projection import Projection, Scatter, discriminant, whitening
from shitu_cli.training.saving import save_new_run

VIEWS = 4
KEPT_BYTES = 1 << 30  # features of one view up to here are kept in the cache; of more images they are only summed
BLOCK = 1 << 15  # images whose features are in memory at once then
METRIC = "recall@1"


@dataclass(frozen=True)
class FrozenResult:
    """`before` and `after` are the metrics of the bare and the projected features, None without evaluation lists.

    `closed` says whether the classes to be searched are the trained ones, `size` how many values a feature has now;
    `projected` whether best_model has the projection: the bare features stay where they are better.
    """

    before: dict[str, float] | None
    after: dict[str, float] | None
    closed: bool
    size: int
    projected: bool
    seconds: float


def train_frozen(
    config: Config,
    *,
    reporter: Reporter,
    cache: FeatureCache | None = None,
    options: TrainOptions | None = None,
    init_from: Path | None = None,
    views: int = VIEWS,
) -> FrozenResult:
    """Learn the projection, evaluate it against the bare features, and save both; needs setup_paddle before.

    Args:
        config: as for training; its neck and head are replaced by the projection.
        reporter: what is told to the user goes there.
        cache: keeps the features of every view for the next time.
        options: how many saves and earlier models to keep.
        init_from: weights to start from, instead of those that the config names.
        views: how often each image is looked at; from the second on it is cropped and mirrored at random.

    Raises UsageError when no trained weights are named, DataError when lists, images or weights do not fit.
    """
    started = time.monotonic()
    split, options = _as_evaluated(config), options or TrainOptions()
    output = Path(config.Global.output_dir)
    settle(output)
    seed_everything(config.Global.seed or 0)
    dataset = RecDataset(split.dataset)
    check_labels(_without_head(config), dataset.labels, dataset.images, dataset.list_path)
    network = _bare_network(config, init_from)
    engine = engine_from_model(network, _on_backbone(config))
    log = RunLog(output / "train.log", output / "metrics.jsonl")
    try:
        evaluation = _evaluation_features(engine, config, reporter, cache)
        closed = _is_closed(dataset.labels, config)
        before = _metrics(evaluation, None, config)
        for line in _introduction(config, dataset, before, closed, views):
            log.line(line)
            reporter.info(line)
        scatter = Scatter(engine.feature_size, dataset.class_num)
        for features, labels in _features(engine, split, reporter, cache, views, config.Global.seed or 0):
            scatter.add(features, labels)
        projection = discriminant(scatter) if closed else whitening(scatter)
        after = _metrics(evaluation, projection, config)
        projected = before is None or after is None or after[METRIC] >= before[METRIC]
        result = FrozenResult(before, after, closed, projection.weight.shape[1], projected, time.monotonic() - started)
        _save(config, network, projection, result, output, dataset, options, log, reporter)
    finally:
        log.close()
    return result


def _training_split(config: Config) -> SplitConfig:
    split = config.DataLoader.train
    if split is None:
        raise ConfigError("DataLoader.Train is missing", hint=["prepare writes it: ", Command("prepare", "./data")])
    return split


def _without_head(config: Config) -> Config:
    """The config without what counts classes: a projection asks for no class_num."""
    return dataclasses.replace(config, Arch=dataclasses.replace(config.Arch, head=None), Loss=())


def _on_backbone(config: Config) -> Config:
    """The config with what leaves the backbone as the feature."""
    return dataclasses.replace(config, Global=dataclasses.replace(config.Global, retrieval_feature_from="backbone"))


def _bare_network(config: Config, init_from: Path | None) -> nn.Layer:
    """The backbone alone with its trained weights, in evaluation mode."""
    start = init_from
    if start is None and config.Global.pretrained_model:
        start = Path(config.Global.pretrained_model)
    if start is None and not config.Arch.backbone.pretrained:
        raise UsageError(
            "--frozen needs a network that is trained already, and the config names no weights",
            hint=[
                Command("train", "--frozen", "-o", "Arch.Backbone.pretrained=path/to/weights"),
                ", or --init-from with the weights of a network like this one",
            ],
        )
    backbone = config.Arch.backbone if start is None else without_pretrained(config.Arch.backbone)
    network = build_rec_model(_arch(config.Arch, backbone, None))
    if start is not None:
        load_weights(network, start, allow_missing_prefixes=("neck.", "head."))
    network.eval()
    return network


def _arch(arch: ArchConfig, backbone: Backbone, size: tuple[int, int] | None) -> ArchConfig:
    """The network without head, with a linear neck from and to so many values, or without one."""
    neck = None if size is None else FC(embedding_size=size[0], class_num=size[1])
    return dataclasses.replace(arch, backbone=backbone, neck=neck, head=None)


def _features(
    engine: Engine,
    split: SplitConfig,
    reporter: Reporter,
    cache: FeatureCache | None,
    views: int,
    seed: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features [n, D] and labels [n] of all training images in all views, in blocks; unreadable images are left out."""
    for view in range(views):
        seen = split if view == 0 else _changed(split)
        random = None if view == 0 else (seed, view)
        dataset = RecDataset(seen.dataset)
        what = "features" if views == 1 else f"features, view {view + 1} of {views}"
        if len(dataset) * engine.feature_size * 4 <= KEPT_BYTES:
            found = extract_list(engine, seen, reporter, what, cache=cache, normalize=False, seed=random)
            assert found is not None  # this process is alone
            yield _readable(found.features, dataset.labels)
            continue
        for start in range(0, len(dataset), BLOCK):
            stop = min(start + BLOCK, len(dataset))
            rows, _ = extract_dataset(
                engine, dataset, reporter, what, batch_size=seen.sampler.batch_size,
                num_workers=seen.loader.num_workers, start=start, stop=stop, seed=random,
            )  # fmt: skip
            yield _readable(rows, dataset.labels[start:stop])


def _readable(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = np.isfinite(features).all(1)
    return features[whole], labels[whole]


def _as_evaluated(config: Config) -> SplitConfig:
    """The training images as evaluation looks at images."""
    train, seen = _training_split(config), config.DataLoader.gallery or config.DataLoader.query
    if seen is None:
        return train
    dataset = dataclasses.replace(train.dataset, transform_ops=seen.dataset.transform_ops)
    return dataclasses.replace(train, dataset=dataset, sampler=seen.sampler, loader=seen.loader)


def _changed(split: SplitConfig) -> SplitConfig:
    """The split with a random part of each image, of half its area or more, mirrored every second time."""
    height, width = _side(split)
    changes = (RandCropImage(size=(width, height), scale=(0.5, 1.0)), RandFlipImage(flip_code=1))
    kept = [op for op in split.dataset.transform_ops if isinstance(op, (DecodeImage, NormalizeImage, ToCHWImage))]
    ops = (*kept[:1], *changes, *kept[1:])
    return dataclasses.replace(split, dataset=dataclasses.replace(split.dataset, transform_ops=ops))


def _side(split: SplitConfig) -> tuple[int, int]:
    """Height and width of the images that a split gives."""
    image = RecDataset(split.dataset).load(0, np.random.default_rng(0))
    return (image.shape[0], image.shape[1]) if image.dtype == np.uint8 else (image.shape[1], image.shape[2])


def _evaluation_features(
    engine: Engine, config: Config, reporter: Reporter, cache: FeatureCache | None
) -> tuple[ListFeatures, ListFeatures] | None:
    """Bare features of query and gallery; None where the config evaluates nothing."""
    query, gallery = config.DataLoader.query, config.DataLoader.gallery
    if not config.Global.eval_during_train or query is None or gallery is None:
        return None
    found = [
        extract_list(engine, part, reporter, what, cache=cache, normalize=False)
        for part, what in (((query, "query"), (gallery, "gallery")) if query != gallery else ((query, "query"),))
    ]
    first, last = found[0], found[-1]
    assert first is not None and last is not None  # this process is alone
    return first, last


def _metrics(
    evaluation: tuple[ListFeatures, ListFeatures] | None, projection: Projection | None, config: Config
) -> dict[str, float] | None:
    if evaluation is None:
        return None

    def seen(part: ListFeatures) -> ListFeatures:
        features = part.features if projection is None else projection(part.features)
        ready = normalized(features) if config.Global.feature_normalize else features
        return ListFeatures(RecDataset(part.dataset.config), ready, part.skipped)

    query = seen(evaluation[0])
    gallery = query if evaluation[0] is evaluation[1] else seen(evaluation[1])
    return dict(evaluate_lists(query, gallery, config, SilentReporter()).metrics)


def _is_closed(labels: np.ndarray, config: Config) -> bool:
    """Whether the classes to be searched are those that are trained; without a list that says so, new ones may come."""
    gallery = config.DataLoader.gallery
    if gallery is None or not Path(gallery.dataset.cls_label_path).is_file():
        return False
    searched = np.unique(RecDataset(gallery.dataset).labels)
    searched = searched[searched >= 0]
    return bool(np.isin(searched, labels).mean() > 0.5) if len(searched) else False


def _introduction(
    config: Config, dataset: RecDataset, before: Mapping[str, float] | None, closed: bool, views: int
) -> list[str]:
    if closed:
        way = "the classes to be searched are the trained ones: linear discriminant analysis"
    else:
        way = "new classes are to be searched: whitening within classes"
    return [
        f"{counted(len(dataset), 'image')} of {counted(dataset.class_num, 'class', 'classes')}, "
        f"{counted(views, 'view')} of each, through {config.Arch.backbone.name}, whose weights stay as they are",
        *([] if before is None else [f"before training: {METRIC} {before[METRIC]:.4f}"]),
        way,
    ]


def _save(
    config: Config,
    network: nn.Layer,
    projection: Projection,
    result: FrozenResult,
    output: Path,
    dataset: RecDataset,
    options: TrainOptions,
    log: RunLog,
    reporter: Reporter,
) -> None:
    """Save the projected network as latest, and the better of the two as best_model."""

    def checkpoint(projection: Projection | None, metrics: dict[str, float] | None) -> tuple[Checkpoint, Config]:
        size = None if projection is None else projection.weight.shape
        own = dataclasses.replace(config, Arch=_arch(config.Arch, config.Arch.backbone, size))
        run = describe_run(
            own, train_list=dataset.list_path, label_map=dataset.list_path.with_name("label_map.txt"),
            samples=len(dataset), class_num=dataset.class_num, world=1, threads=current_threads(),
        )  # fmt: skip
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        if projection is not None:
            weights |= {"neck.fc.weight": projection.weight, "neck.fc.bias": projection.bias}
        state = LoopState(evaluations=[{"epoch": 0, **metrics}] if metrics else [], seconds=result.seconds)
        state.best_score = None if metrics is None else metrics[METRIC]
        return Checkpoint(weights, {}, state, {**run, "frozen": True}, metrics=metrics or {}), own

    latest, own = checkpoint(projection, result.after)
    lines = save_new_run(output, [LATEST, BEST] if result.projected else [LATEST], latest, own, options)
    if not result.projected:
        bare, _ = checkpoint(None, result.before)
        save_checkpoint(output, [BEST], bare, keep=options.keep or 1)
    if result.after is not None:
        lines.append(f"after: {METRIC} {result.after[METRIC]:.4f}, with features of {result.size} values")
        log.record("eval", epoch=0, **result.after)
    if not result.projected:
        lines.append("the bare features are better on these lists: best_model is the network without the projection")
    for line in lines:
        log.line(line)
        reporter.info(line)
