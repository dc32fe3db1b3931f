"""Measure the thresholds below which search says "unknown", on photos that suit the model and the lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.arguments import CLOSED_FORM
from shitu_cli.config.places import Places, prefix_of, weights_of
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import Command, DataError, EnvironmentProblem, UsageError
from shitu_cli.evaluation.metrics import FeatureSet
from shitu_cli.evaluation.result import EvalResult
from shitu_cli.evaluation.thresholds import LEAST_CLASSES, Thresholds, thresholds
from shitu_cli.evaluation.unknown import (
    Fold,
    Outcomes,
    all_photos,
    ask,
    ask_known,
    ask_left_out,
    joined,
    sampled,
    take,
)
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.engine import Engine
from shitu_cli.features.extractor import InputDataset, inputs_of
from shitu_cli.features.list_features import extract_images
from shitu_cli.features.manifest import MANIFEST, read_manifest
from shitu_cli.files import sha256_of
from shitu_cli.preparation.sources import find_images
from shitu_cli.reporting import Reporter, counted, unreadable
from shitu_cli.stores import real

NO_LABELS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Setting:
    """An evaluation: its result, and what computed its features.

    `cross_fit` is the number of additional trainings allowed, to see which scores untrained classes get.
    """

    config: Config
    result: EvalResult
    engine: Engine
    model: Path | None
    flip: bool
    cache: FeatureCache | None
    reporter: Reporter
    cross_fit: int = 0


def measure(setting: Setting, *, unknown: Sequence[str], wanted: Sequence[float]) -> Thresholds | None:
    """Return thresholds for shares of false answers; None if the ranking is not by the cosines that search gives.

    Args:
        setting: The evaluation whose features are used.
        unknown: Folders or lists of photos of things that are not in the gallery; if empty, the
            lists' own classes.
        wanted: Shares of photos of foreign things that may get an answer; the first one's threshold is suggested.

    Raises UsageError or DataError for photos that are not there, or that the lists hold too.
    """
    result = setting.result
    if not result.plain or result.ranking.decided_by_rounding:
        return None
    query, gallery = result.sets
    indexed = len(np.unique(gallery.labels[gallery.labels >= 0]))
    known = ask_known(query, gallery, result.ranking.answerable)
    if unknown:
        photos, how = foreign_photos(setting, unknown)
        foreign, labels = ask(sampled(photos, np.arange(len(photos))), gallery), indexed
    else:
        foreign, labels, how = _ask_own_classes(setting)
    return thresholds(known, foreign, how=how, labels=labels, indexed=indexed, wanted=wanted)


def _ask_own_classes(setting: Setting) -> tuple[Outcomes, int, str]:
    """Return the outcomes of photos of classes that were not trained, the labels they met, and a description."""
    query, gallery = setting.result.sets
    classes = np.unique(np.concatenate([query.labels, gallery.labels]))
    classes = classes[classes >= 0]
    training = _training_of(setting)
    untrained = classes[~np.isin(classes, training.labels)]
    photos = f"photos of {len(classes)} classes, each left out of"
    if len(untrained) < LEAST_CLASSES <= len(classes) and training.projection is not None:
        try:
            return *_ask_cross_fitted(setting, training), f"{photos} training and of the index in turn"
        except EnvironmentProblem as error:  # the figures are known already
            setting.reporter.warn(f"no threshold is measured on classes left out of training: {error.message}")
    if len(untrained) < LEAST_CLASSES <= len(classes) and setting.cross_fit:
        return *_ask_cross_trained(setting), f"{photos} one of {setting.cross_fit} trainings and of the index"
    if setting.cross_fit:
        enough = f"is not needed: {counted(len(untrained), 'class', 'classes')} of {len(classes)} were not trained"
        few = f"needs {LEAST_CLASSES} classes at least, there are {len(classes)}"
        setting.reporter.warn(f"--cross-fit {enough if len(untrained) >= LEAST_CLASSES else few}")
    foreign = ask_left_out(query, gallery, untrained.tolist())
    how = f"photos of {counted(len(untrained), 'class', 'classes')} that were not trained, each left out in turn"
    return foreign, max(1, len(np.unique(gallery.labels[gallery.labels >= 0])) - 1), how


@dataclass(frozen=True)
class _Training:
    """The labels int64 [C] that a network was trained on; `projection`: the checkpoint, if only a projection was.

    `views` and `neck` say how that projection was learned.
    """

    labels: np.ndarray
    projection: Path | None = None
    views: int = 1
    neck: str = CLOSED_FORM


def _training_of(setting: Setting) -> _Training:
    """Return what the model was trained on; if that is not recorded, the classes of the training list."""
    from shitu_cli.training.checkpoint import read_header

    source = {} if setting.model is None else _source_of(setting.model)
    if "pretrained" in source:
        return _Training(NO_LABELS)
    labels = _trained_labels(setting)
    prefix = _checkpoint_of(setting, source)
    header = None if prefix is None else read_header(prefix)
    run: dict[str, Any] = {} if header is None else header.get("run", {})
    if not run.get("frozen") or "start" not in run:
        return _Training(labels)
    start, output = str(run["start"]), Places.of(setting.config).output
    if start and Path(start).resolve().is_relative_to(output.resolve()):
        return _Training(labels)  # a network of this workspace, which has been trained on its classes
    if "Neck" not in run.get("arch", {}):
        return _Training(NO_LABELS)  # the bare features were better
    return _Training(labels, prefix, int(run.get("views", 1)), str(run.get("neck", CLOSED_FORM)))


def _trained_labels(setting: Setting) -> np.ndarray:
    split = setting.config.DataLoader.train
    if split is None or not Path(split.dataset.cls_label_path).is_file():
        return np.unique(setting.result.query.dataset.labels)  # unknown, so it may have been these
    return np.unique(RecDataset(split.dataset).labels)


def _source_of(model: Path) -> dict[str, Any]:
    """Return what the manifest of an exported model says about its weights; {} for other models."""
    folder = model if model.is_dir() else model.parent
    is_export = (folder / MANIFEST).is_file() and model.suffix != ".pdparams"
    return read_manifest(folder).source if is_export else {}


def _checkpoint_of(setting: Setting, source: dict[str, Any]) -> Path | None:
    """Return the checkpoint that the model is, or was exported from; None if it is not of this workspace."""
    places = Places.of(setting.config)
    if setting.model is None:
        return places.best
    if source:
        weights = places.best_weights
        return places.best if weights.is_file() and source.get("sha256") == sha256_of(weights) else None
    prefix = prefix_of(setting.model)
    return prefix if weights_of(prefix).is_file() else None


def _ask_cross_fitted(setting: Setting, training: _Training) -> tuple[Outcomes, int]:
    """Return the scores of photos of classes that the projection was not learnt from, and how many labels were left."""
    from shitu_cli.training.cross_fit import cross_fitted

    assert training.projection is not None
    folds = cross_fitted(
        setting.config,
        training.projection,
        views=training.views,
        neck=training.neck,
        flip=setting.flip,
        cache=setting.cache,
        reporter=setting.reporter,
    )
    return _ask_folds(setting, folds)


def _ask_cross_trained(setting: Setting) -> tuple[Outcomes, int]:
    """Return the same for whole networks, each trained without some of the classes."""
    from shitu_cli.steps.cross_train import cross_trained

    prefix = _checkpoint_of(setting, {} if setting.model is None else _source_of(setting.model))
    if prefix is None:
        raise UsageError(
            "--cross-fit trains the network of this workspace again, and this model was not trained here",
            hint=["measure on photos of other things: ", Command("evaluate", "--unknown", "./not-ours")],
        )
    trained = cross_trained(setting.config, prefix, setting.cross_fit, flip=setting.flip, reporter=setting.reporter)
    return _ask_folds(setting, trained)


def _ask_folds(setting: Setting, folds: Iterable[Fold]) -> tuple[Outcomes, int]:
    query, gallery = setting.result.sets
    outcomes, held = [], []
    for fold in folds:
        projected_gallery = dataclasses.replace(gallery, features=_readable(fold.gallery))
        photos = all_photos(dataclasses.replace(query, features=_readable(fold.query)), projected_gallery)
        foreign = sampled(photos, np.flatnonzero(np.isin(photos.labels, fold.classes)))
        rest = take(projected_gallery, np.flatnonzero(~np.isin(gallery.labels, fold.classes)))
        outcomes.append(ask(foreign, rest))
        held.append(len(np.unique(rest.labels[rest.labels >= 0])))
    return joined(outcomes), min(held)


def _readable(features: np.ndarray) -> np.ndarray:
    return features[np.isfinite(features).all(axis=1)]


def foreign_photos(setting: Setting, sources: Sequence[str]) -> tuple[FeatureSet, str]:
    """Return the features of photos of unknown things, and a description of them for the user.

    Folders inside a source are classes; in a folder without any, each photo is a class of its own.
    Raises UsageError or DataError if there are none, or if the lists of the evaluation hold one of them.
    """
    images = find_images(list(sources))
    query, gallery = setting.result.query.dataset, setting.result.gallery_features.dataset
    listed = {real(part.location(n)) for part in (query, gallery) for n in range(len(part))}
    shared = [file for file in images.files if real(file) in listed]
    names = sorted({*images.labels} & {*setting.result.names.values()})
    if shared or names:
        raise DataError(
            f"--unknown {' '.join(sources)}: some of these things are known",
            details=[*(f"{file} is in the query or gallery list" for file in shared),
                     *(f"{name} is the name of one of your classes" for name in names)],
            hint="name photos of things that the gallery does not hold",
        )  # fmt: skip
    dataset = InputDataset(inputs_of(images), query.transform)
    features, skipped = extract_images(setting.engine, dataset, setting.reporter, "unknown", flip=setting.flip)
    if skipped:
        setting.reporter.warn(unreadable(sorted(skipped.values())))
    rows = np.asarray([n for n in range(len(images)) if n not in skipped], np.int64)
    if not len(rows):
        raise DataError(f"--unknown {' '.join(sources)}: none of the images could be read")
    several = len({*images.labels}) > 1
    names_of = images.labels if several else list(map(str, range(len(images))))
    classes = np.unique(names_of, return_inverse=True)[1].reshape(-1)
    kinds = counted(len(np.unique(classes[rows])), "class", "classes")
    how = f"the photos of {' '.join(sources)}" + (f", of {kinds}" if several else "")
    return FeatureSet(features[rows], -2 - classes[rows]), how
