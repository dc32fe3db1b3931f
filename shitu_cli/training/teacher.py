"""A trained network as a teacher: it looks at the training images once, before the first step.

A teacher judges the very crop that the student sees (Beyer et al. 2022, arXiv:2106.05237). The random changes of an
image therefore come again (data/views.py), and the teacher looks at each of these views once: even a large one costs
little more than a few evaluations, and the trained network contains nothing of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.views import Views, ops_for_another
from shitu_cli.deployment.pretrained import export_pretrained
from shitu_cli.errors import Command, ConfigError
from shitu_cli.features.backends import is_exported
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.list_features import extract_list, pace_of
from shitu_cli.model.heads import MarginHead
from shitu_cli.model.losses import CombinedLoss
from shitu_cli.model.losses.teacher import TeacherLoss as TeacherLossLayer
from shitu_cli.pace import Pace
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.arithmetic import kept_arithmetic
from shitu_cli.training.loop_state import capture_rng, restore_rng
from shitu_cli.training.projection import LARGEST
from shitu_cli.training.teacher_targets import SoftLabels, folds_of, projected_features, scatter_of_folds, soft_labels


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What a student learns from: unit features float32 [views, N, k] of the training images, and soft labels.

    Both are None where the loss does not use them. `fingerprint` identifies the network and its preprocessing. If
    computing the features was only timed, `pace` and the bytes of `memory` are what all of them take, and the answers
    are zeros.
    """

    fingerprint: str
    features: np.ndarray | None
    labels: SoftLabels | None
    pace: Pace | None = None
    memory: int = 0

    def __call__(self, indices: np.ndarray, view: int) -> dict[str, paddle.Tensor]:
        """Return what `TeacherLoss` compares with, of images by their position in the list, in a view."""
        answers = {}
        if self.features is not None:
            answers["teacher_features"] = paddle.to_tensor(self.features[view, indices])
        if self.labels is not None:
            answers["teacher_labels"] = paddle.to_tensor(self.labels(view, indices))
        return answers


def find_teacher(config: Config) -> TeacherLoss | None:
    """Return the loss that names a teacher; raise ConfigError for two, or for a head without all logits."""
    losses = [loss for loss in config.Loss if isinstance(loss, TeacherLoss)]
    if len(losses) > 1:
        raise ConfigError("Loss.Train: several losses name a teacher", hint="leave one TeacherLoss")
    if not losses:
        return None
    lacks = "there is no Arch.Head" if config.Arch.head is None else ""
    if getattr(config.Arch.head, "sample_ratio", 1.0) < 1:
        lacks = "Arch.Head.sample_ratio leaves some out"
    if losses[0].soft_labels and lacks:
        raise ConfigError(
            f"Loss.Train.TeacherLoss.soft_labels: needs the logits of all classes, but {lacks}",
            hint=["learn from its features only: ", Command("train", "-o", "Loss.Train.TeacherLoss.soft_labels=0")],
        )
    return losses[0]


def prepare_student(model: nn.Layer, loss: CombinedLoss, teacher: Teacher | None) -> None:
    """Connect the student to its teacher: a layer between their features, and a head that returns all logits."""
    if teacher is None:
        return
    if teacher.labels is not None and isinstance(model.head, MarginHead):
        model.head.whole = True
    for part in loss.parts:
        if isinstance(part, TeacherLossLayer) and teacher.features is not None:
            part.connect(model.feature_size, teacher.features.shape[2])


def open_teacher(
    config: Config, views: Views | None, ranks: Ranks, device: str, reporter: Reporter, *, seconds: float | None = None
) -> Teacher | None:
    """Return the teacher that the losses name, with its features of the training images; None if they name none.

    With `seconds`, computing the features is only timed for about as long.

    Raises UsageError for a teacher that does not exist, DataError for one that is damaged and for images that cannot
    be read.
    """
    loss = find_teacher(config)
    if loss is None or views is None:
        return None
    generators = capture_rng()
    try:
        with kept_arithmetic():
            extractor = _opened(loss, config, ranks, device, reporter)
            if seconds is not None:
                return _timed(loss, extractor, config, views, seconds)
            seen = _features_of_views(loss, extractor, config, views, ranks, reporter)
            teacher = _shared(loss, extractor.fingerprint, seen, views.dataset, ranks)
            if teacher.labels is not None:
                accuracy = teacher.labels.accuracy(views.dataset.labels)
                text = "of the training images, each judged without its own label"
                reporter.info(f"the teacher recognises {accuracy:.0%} {text}")
            return teacher
    finally:
        restore_rng(generators)


def _opened(loss: TeacherLoss, config: Config, ranks: Ranks, device: str, reporter: Reporter) -> Extractor:
    folder = _exported(loss.teacher, reporter) if ranks.is_main else None
    ranks.gather(None)  # the first process writes what the others of its machine then find
    folder = folder or _exported(loss.teacher, reporter)
    gpu = None if device == "cpu" else int(paddle.get_device().rpartition(":")[2])
    # A checkpoint is built as it was trained, whatever network the options of this run name.
    return Extractor(folder, config=dataclasses.replace(config, origins={}), gpu=gpu)


def _features_of_views(
    loss: TeacherLoss, extractor: Extractor, config: Config, views: Views, ranks: Ranks, reporter: Reporter
) -> list[np.ndarray]:
    """Return the teacher's features [N, D] of each view in the first process, nothing in the others."""
    split = config.DataLoader.train
    assert split is not None  # build_training has read its list
    ops = ops_for_another(split.dataset.transform_ops, extractor.transform_ops)
    split = dataclasses.replace(split, dataset=dataclasses.replace(split.dataset, transform_ops=ops))
    cache = FeatureCache(Places.of(config).workspace.cache_dir / "features")
    name = f"the teacher {Path(loss.teacher).name}"
    parts = [
        extract_list(
            extractor.engine, split, reporter, f"{name}, view {view + 1} of {loss.views}",
            cache=cache, processes=ranks, normalize=False, seed=views.seed_of(view),
        )
        for view in range(loss.views)
    ]  # fmt: skip
    return [part.features for part in parts if part is not None]


def _shared(
    loss: TeacherLoss, fingerprint: str, seen: Sequence[np.ndarray], dataset: RecDataset, ranks: Ranks
) -> Teacher:
    """Return the teacher in all processes, from the features that the first one has."""
    labels, arrays, temperature = dataset.labels, list[np.ndarray](), 0.0
    scatters = scatter_of_folds(seen, labels, dataset.class_num) if seen else []
    if seen and loss.features:
        arrays.append(projected_features(seen, scatters))
    if seen and loss.soft_labels:
        fit = soft_labels(seen, scatters, labels, loss.temperature)
        arrays, temperature = [*arrays, fit.features, fit.centers], fit.temperature
    shapes, temperature = ranks.gather([[array.shape for array in arrays], temperature])[0]
    if ranks.world > 1:
        tensors = [*map(paddle.to_tensor, arrays)] or [paddle.zeros(shape) for shape in shapes]
        ranks.broadcast_tensors(tensors)
        arrays = [tensor.numpy() for tensor in tensors]
    features = arrays.pop(0) if loss.features else None
    soft = SoftLabels(arrays[0], arrays[1], folds_of(labels), temperature) if loss.soft_labels else None
    return Teacher(fingerprint, features, soft)


def _timed(loss: TeacherLoss, extractor: Extractor, config: Config, views: Views, seconds: float) -> Teacher:
    """Return a teacher whose answers are zeros, with what computing them takes."""
    split, dataset = config.DataLoader.train, views.dataset
    assert split is not None
    whole = RecDataset(dataclasses.replace(split.dataset, transform_ops=extractor.transform_ops))
    batch_size, count = split.sampler.batch_size, loss.views * len(dataset)
    pace = pace_of(extractor.engine, whole, batch_size=batch_size, count=count, seconds=seconds)
    size = max(1, min(dataset.class_num - 1, LARGEST, extractor.feature_size))
    nothing = np.broadcast_to(np.float32(0), (loss.views, len(dataset), size))
    centers, folds = np.zeros((1, size, dataset.class_num), np.float32), np.zeros(len(dataset), np.int64)
    return Teacher(
        extractor.fingerprint,
        nothing if loss.features else None,
        SoftLabels(nothing, centers, folds, 1.0) if loss.soft_labels else None,
        pace,
        memory=count * 4 * (extractor.feature_size + size * (bool(loss.features) + bool(loss.soft_labels))),
    )


def _exported(what: str, reporter: Reporter) -> Path:
    """Return what an extractor can open: an exported model, a checkpoint, or published weights after exporting them."""
    path = Path(what)
    if is_exported(path) or path.with_name(f"{path.name.removesuffix('.pdparams')}.pdstates").is_file():
        return path
    return export_pretrained(what, reporter)
