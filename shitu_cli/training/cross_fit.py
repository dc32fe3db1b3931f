"""Cross-fitting of a frozen network's projection: how well it works on classes that it was not learnt from.

In a closed split every class is trained, so none of them shows how similar an unknown product would be. A projection
in closed form is cheap: it is learnt again without some of the classes, which are then unknown to it, until each class
has been left out once (Stone 1974).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from shitu_cli.config.arguments import CLOSED_FORM, TRAINED, USUAL_VIEWS
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.evaluation.evaluate import both_lists
from shitu_cli.evaluation.unknown import Fold
from shitu_cli.features.cache import Cache
from shitu_cli.features.engine import engine_from_model
from shitu_cli.features.list_features import extract_list
from shitu_cli.features.unit_length import normalized
from shitu_cli.model.tracing import trained_arch
from shitu_cli.reporting import Reporter
from shitu_cli.training.frozen import bare_network
from shitu_cli.training.projection import Scatter, discriminant
from shitu_cli.training.projection_fit import on_backbone, training_blocks, unaugmented_training
from shitu_cli.training.trained_neck import gathered, require_feature_memory, train_neck

FOLDS = 8


def cross_fitted(
    config: Config,
    prefix: Path,
    *,
    views: int = USUAL_VIEWS,
    neck: str = CLOSED_FORM,
    flip: bool = False,
    cache: Cache | None,
    reporter: Reporter,
) -> Iterator[Fold]:
    """Yield the features of query and gallery by projections learnt without some of the trained classes.

    Args:
        config: That of the training; its split is closed.
        prefix: The checkpoint with the projection, whose backbone gives the bare features.
        views: How often each training image was looked at.
        neck: How the projection was learned: it is learned in the same way again.
        flip: Add the features of the mirrored images of query and gallery.
        cache: Keeps the bare features; those of the training are there.
        reporter: Receives progress.

    Images that cannot be read have rows of NaN.
    """
    trained = dataclasses.replace(config, Arch=trained_arch(prefix, config))
    network, _ = bare_network(trained, prefix, reporter)
    engine = engine_from_model(network, on_backbone(trained))
    lists = both_lists(
        config,
        lambda split, what: extract_list(engine, split, reporter, what, cache=cache, normalize=False, flip=flip),
    )
    # Their mean, where two were added: the projection is not only linear, it also has a bias.
    bare = [part.features / (2 if flip else 1) for part in lists or ()]
    labels_of_training = RecDataset(unaugmented_training(config).dataset).labels
    classes, fold_of = _folds_of(labels_of_training)
    blocks = training_blocks(engine, config, reporter, views=views, cache=cache)
    stored = None
    if neck == TRAINED:
        require_feature_memory(len(labels_of_training), engine.feature_size, views)
        stored = gathered(blocks)
    scatters = _scatter_of_folds(blocks if stored is None else [stored], fold_of, engine.feature_size)
    total = Scatter.sum_of(scatters)
    with reporter.progress("leaving classes out of training", len(scatters), "times") as bar:
        for number, scatter in enumerate(scatters):
            project = discriminant(total.without(scatter))
            if stored is not None:
                features, labels = stored
                rows = fold_of[labels] != number
                project = train_neck(features[rows], labels[rows], project, seed=config.Global.seed or 0)
            yield Fold(classes[fold_of[classes] == number], *(normalized(project(features)) for features in bare))
            bar.advance()


def _folds_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of labels int [N], and for each label up to the largest the fold that leaves it out."""
    classes = np.unique(labels)
    fold_of = np.zeros(int(classes.max()) + 1, np.int64)
    fold_of[classes] = np.arange(len(classes)) % FOLDS
    return classes, fold_of


def _scatter_of_folds(blocks: Iterable[tuple[np.ndarray, np.ndarray]], fold_of: np.ndarray, size: int) -> list[Scatter]:
    """Return the sums over the images that each fold leaves out, from blocks of features [n, D] and labels [n]."""
    scatters = [Scatter(size, len(fold_of)) for _ in range(int(fold_of.max()) + 1)]
    for features, labels in blocks:
        for number, scatter in enumerate(scatters):
            rows = fold_of[labels] == number
            scatter.add(features[rows], labels[rows])
    return scatters
