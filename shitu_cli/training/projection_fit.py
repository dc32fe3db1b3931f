"""Learn a projection (training/projection.py) of a network's features, and measure both on the evaluation lists.

The projection is learned from the features of the training images: with the preprocessing of evaluation, and in a few
random views.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shitu_cli.config.parts.augmentations import RandCropImage, RandFlipImage
from shitu_cli.config.parts.transforms import DecodeImage, NormalizeImage, ToCHWImage
from shitu_cli.config.schema import Config, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.evaluation.evaluate import both_lists, evaluate_lists
from shitu_cli.evaluation.result import EvalResult
from shitu_cli.features.cache import Cache
from shitu_cli.features.engine import Engine
from shitu_cli.features.list_features import ListFeatures, extract_list, extract_shared
from shitu_cli.features.unit_length import normalized
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.training.checks import training_part
from shitu_cli.training.projection import LARGEST, SHRINKAGE, Projection, Scatter, discriminant, whitening

KEPT_BYTES = 1 << 30  # the features of one view are cached up to this size; of more images they are only summed
BLOCK = 1 << 15  # images whose features are in memory at once if they are not cached
METRIC = "recall@1"


@dataclass(frozen=True)
class EvaluationFeatures:
    """Features of query and gallery as the network gives them; the same object twice if the lists are one."""

    query: ListFeatures
    gallery: ListFeatures

    def evaluate(self, projection: Projection | None, config: Config) -> EvalResult:
        """Evaluate the features, projected or (None) as they are."""

        def seen(part: ListFeatures) -> ListFeatures:
            features = part.features if projection is None else projection(part.features)
            ready = normalized(features) if config.Global.feature_normalize else features
            return ListFeatures(RecDataset(part.dataset.config), ready, part.skipped)

        query = seen(self.query)
        gallery = query if self.query is self.gallery else seen(self.gallery)
        return evaluate_lists(query, gallery, config, SilentReporter())


def evaluation_features(
    engine: Engine,
    config: Config,
    reporter: Reporter,
    cache: Cache | None = None,
    processes: Processes = Processes(),
) -> EvaluationFeatures | None:
    """Return the features of query and gallery; None if the config evaluates nothing, and on other processes."""
    if not config.evaluates:
        return None
    lists = both_lists(
        config,
        lambda split, what: extract_list(
            engine, split, reporter, what, cache=cache, processes=processes, normalize=False
        ),
    )
    return None if lists is None else EvaluationFeatures(*lists)


def unaugmented_training(config: Config) -> SplitConfig:
    """Return the training images with the preprocessing of evaluation; ConfigError if the config has none."""
    train, seen = training_part(config), config.DataLoader.gallery or config.DataLoader.query
    if seen is None:
        return train
    dataset = dataclasses.replace(train.dataset, transform_ops=seen.dataset.transform_ops)
    return dataclasses.replace(train, dataset=dataset, sampler=seen.sampler, loader=seen.loader)


def project(
    scatter: Scatter, features: EvaluationFeatures | None, config: Config, *, closed: bool
) -> tuple[Projection, EvalResult | None]:
    """Return the projection, and what the evaluation features reach with it (None without any).

    If the gallery holds the trained classes (`closed`), that is linear discriminant analysis. For new classes, how much
    of what distinguishes the trained classes also distinguishes others depends on the images: without evaluation lists,
    features are whitened; with them, the best of two whitenings and that analysis is taken.
    """
    if features is None:
        return next(_ways(scatter, closed=closed)), None
    results = [(way, features.evaluate(way, config)) for way in _ways(scatter, closed=closed)]
    return max(results, key=lambda result: result[1].metrics[METRIC])


def _ways(scatter: Scatter, *, closed: bool) -> Iterator[Projection]:
    """Yield the projections to choose from; the first one is for runs that evaluate nothing."""
    if not closed:
        yield whitening(scatter, shrinkage=SHRINKAGE, largest=LARGEST)
        yield whitening(scatter)
    yield discriminant(scatter)


def estimate_fit(size: int, classes: int, *, closed: bool) -> float:
    """Return about how many seconds `project` takes, from features of half this size: time grows cubically."""
    small = max(1, size // 2)
    labels = np.arange(max(8, 2 * small)) % max(2, min(classes, small))  # several images of each class
    scatter = Scatter(small, int(labels.max()) + 1)
    scatter.add(np.random.default_rng(0).standard_normal((len(labels), small)), labels)

    def run() -> float:
        began = time.perf_counter()
        for _ in _ways(scatter, closed=closed):
            pass
        return time.perf_counter() - began

    return min(run(), run()) * (size / small) ** 3  # twice: the first one may load libraries


def is_closed(labels: np.ndarray, config: Config) -> bool:
    """Return whether the gallery holds the trained classes; without a gallery list, new classes are assumed."""
    gallery = config.DataLoader.gallery
    if gallery is None or not Path(gallery.dataset.cls_label_path).is_file():
        return False
    searched = np.unique(RecDataset(gallery.dataset).labels)
    searched = searched[searched >= 0]
    return bool(np.isin(searched, labels).mean() > 0.5) if len(searched) else False


def on_backbone(config: Config) -> Config:
    """Return the config with what leaves the backbone as the feature."""
    return dataclasses.replace(config, Global=dataclasses.replace(config.Global, retrieval_feature_from="backbone"))


def training_blocks(
    engine: Engine,
    config: Config,
    reporter: Reporter,
    *,
    views: int,
    cache: Cache | None = None,
    processes: Processes = Processes(),
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features [n, D] and labels [n] of all training images in all views, without those that cannot be read.

    Every view after the first shows a random part of each image, mirrored half of the time. Other processes than the
    first, which help to compute them, get none.
    """
    split = unaugmented_training(config)
    for view in range(views):
        seen = split if view == 0 else _changed(split)
        random = None if view == 0 else (config.Global.seed or 0, view)
        dataset = RecDataset(seen.dataset)
        what = "features" if views == 1 else f"features, view {view + 1} of {views}"
        if len(dataset) * engine.feature_size * 4 <= KEPT_BYTES:
            part = extract_list(
                engine, seen, reporter, what, cache=cache, processes=processes, normalize=False, seed=random
            )
            if part is not None:
                yield _readable(part.features, dataset.labels)
            continue
        for start in range(0, len(dataset), BLOCK):
            block = range(start, min(start + BLOCK, len(dataset)))
            shared = extract_shared(engine, seen, dataset, block, reporter, what, processes=processes, seed=random)
            if shared is not None:
                yield _readable(shared[0], dataset.labels[block.start : block.stop])


def _readable(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = np.isfinite(features).all(1)
    return features[whole], labels[whole]


def _changed(split: SplitConfig) -> SplitConfig:
    """Return the split with a random part of each image, at least half its area, mirrored half of the time."""
    height, width = RecDataset(split.dataset).input_size()
    changes = (RandCropImage(size=(width, height), scale=(0.5, 1.0)), RandFlipImage(flip_code=1))
    kept = [op for op in split.dataset.transform_ops if isinstance(op, (DecodeImage, NormalizeImage, ToCHWImage))]
    ops = (*kept[:1], *changes, *kept[1:])
    return dataclasses.replace(split, dataset=dataclasses.replace(split.dataset, transform_ops=ops))
