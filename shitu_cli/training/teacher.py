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

from shitu_cli.config.parts.heads import CircleMargin, Sampled
from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.schema import Config
from shitu_cli.data.batch import Batch
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.views import Views
from shitu_cli.deployment.pretrained import export_pretrained
from shitu_cli.errors import Command, ConfigError
from shitu_cli.features.backends import is_exported
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.list_features import pace_of
from shitu_cli.model.heads import MarginHead
from shitu_cli.model.losses import CombinedLoss
from shitu_cli.model.losses.teacher import TeacherLoss as TeacherLossLayer
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.arithmetic import kept_arithmetic
from shitu_cli.training.checks import training_part
from shitu_cli.training.loop_state import capture_rng, restore_rng
from shitu_cli.training.projection import LARGEST
from shitu_cli.training.teacher_targets import (
    STORED,
    Answers,
    SoftLabels,
    centers_of,
    folds_of,
    projected_features,
    scatter_of_folds,
    soft_labels,
)
from shitu_cli.training.teacher_views import Viewer


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What a student learns from: the answers about the training images, and about those without labels if there are.

    `fingerprint` identifies the network and its preprocessing. If computing the answers was only timed, they are zeros,
    and `seconds` and the bytes of `memory` are what all of them take.
    """

    fingerprint: str
    answers: Answers
    unlabelled: Answers | None = None
    seconds: float = 0.0
    memory: int = 0

    def __call__(self, batch: Batch) -> dict[str, paddle.Tensor]:
        """Return what `TeacherLoss` compares with, of the images of a batch and then of those without labels in it."""
        parts = [self.answers(batch.indices, batch.view)]
        if self.unlabelled is not None and batch.unlabelled is not None:
            parts.append(self.unlabelled(batch.unlabelled.indices, batch.unlabelled.view))
        return {name: paddle.to_tensor(np.concatenate([part[name] for part in parts])) for name in parts[0]}


def find_teacher(config: Config) -> TeacherLoss | None:
    """Return the loss that names a teacher; raise ConfigError for two, or for a head without all logits."""
    losses = [loss for loss in config.Loss if isinstance(loss, TeacherLoss)]
    if len(losses) > 1:
        raise ConfigError("Loss.Train: several losses name a teacher", hint="keep only one TeacherLoss")
    if not losses:
        return None
    head = config.Arch.head
    lacks = "there is no Arch.Head" if head is None else ""
    if isinstance(head, Sampled) and head.sample_ratio < 1:
        lacks = "Arch.Head.sample_ratio leaves some out"
    if losses[0].soft_labels and lacks:
        raise ConfigError(
            f"Loss.Train.TeacherLoss.soft_labels: needs the logits of all classes, but {lacks}",
            hint=["learn from its features only: ", Command("train", "-o", "Loss.Train.TeacherLoss.soft_labels=0")],
        )
    if losses[0].unlabelled is not None:
        _check_unlabelled(config, losses[0])
    return losses[0]


def _check_unlabelled(config: Config, loss: TeacherLoss) -> None:
    """Raise ConfigError for what a network cannot learn from images without labels."""
    key = "Loss.Train.TeacherLoss.unlabelled"
    if config.Distillation is not None:
        raise ConfigError(
            f"{key}: several networks that learn from each other (Arch.name: DistillationModel) need labels",
            hint=[
                "learn from the images with labels only: ",
                Command("train", "-o", f"{key}=null", without=("--unlabelled",)),
            ],
        )
    if loss.soft_labels and isinstance(config.Arch.head, CircleMargin):
        raise ConfigError(
            f"{key}: the logits of CircleMargin depend on the label, so soft labels need one",
            hint=["learn from the features only: ", Command("train", "-o", "Loss.Train.TeacherLoss.soft_labels=0")],
        )


def prepare_student(model: nn.Layer, loss: CombinedLoss, teacher: Teacher | None) -> None:
    """Connect the student to its teacher: a layer between their features, and a head that returns all logits."""
    if teacher is None:
        return
    answers = teacher.answers
    if answers.labels is not None and isinstance(model.head, MarginHead):
        model.head.needs_all_logits = True
    for part in loss.parts:
        if isinstance(part, TeacherLossLayer) and answers.features is not None:
            part.connect(model.feature_size, answers.features.shape[2])


def open_teacher(
    config: Config,
    views: Sequence[Views],
    ranks: Ranks,
    device: str,
    reporter: Reporter,
    *,
    seconds: float | None = None,
) -> Teacher | None:
    """Return the teacher that the losses name, with its answers about the training images; None if they name none.

    `views` are those of the images with labels, then perhaps those of images without. With `seconds`, computing the
    answers is only timed for about as long.

    Raises UsageError for a teacher that does not exist, DataError for one that is damaged and for images that cannot
    be read.
    """
    loss = find_teacher(config)
    if loss is None or not views:
        return None
    generators = capture_rng()
    try:
        with kept_arithmetic():
            extractor = _opened(loss, config, ranks, device, reporter)
            if seconds is not None:
                return _timed(loss, extractor, config, views, seconds)
            teacher = _answering(Viewer(loss, extractor, config, ranks, reporter), *views)
            if teacher.answers.labels is not None:
                accuracy = teacher.answers.labels.accuracy(views[0].dataset.labels)
                text = "of the training images, each judged without its own label"
                reporter.info(f"the teacher recognises {accuracy:.0%} {text}")
            return teacher
    finally:
        restore_rng(generators)


def _opened(loss: TeacherLoss, config: Config, ranks: Ranks, device: str, reporter: Reporter) -> Extractor:
    """Return the teacher's network, ready to compute features on the device of this process."""
    folder = _exported(loss.teacher, reporter) if ranks.is_main else None
    ranks.gather(None)  # the first process writes what the others of its machine then find
    folder = folder or _exported(loss.teacher, reporter)
    gpu = None if device == "cpu" else int(paddle.get_device().rpartition(":")[2])
    # A checkpoint is built as it was trained, whatever network the options of this run name.
    return Extractor(folder, config=dataclasses.replace(config, origins={}), gpu=gpu)


def _answering(viewer: Viewer, views: Views, unlabelled: Views | None = None) -> Teacher:
    """Return the teacher in all processes; the first one computes its answers and sends them to the others."""
    arrays, temperature = _sent_to_all(viewer.ranks, *_fitted_arrays(viewer, views, unlabelled))
    features, soft, more = (arrays.get(name) for name in ("features", "soft", "unlabelled"))
    known = None if soft is None else SoftLabels(soft, arrays["centers"], folds_of(views.dataset.labels), temperature)
    teacher = Teacher(viewer.extractor.fingerprint, Answers(features, known))
    if more is None:
        return teacher
    alone = np.zeros(more.shape[1], np.int64)  # one projection, fitted to none of them
    guessed = None if soft is None else SoftLabels(more, arrays["all_centers"], alone, temperature)
    return dataclasses.replace(teacher, unlabelled=Answers(None if features is None else more, guessed))


def _fitted_arrays(viewer: Viewer, views: Views, unlabelled: Views | None) -> tuple[dict[str, np.ndarray], float]:
    """Return the arrays that answers consist of, by name, and the temperature; {} in all processes but the first.

    `features` and `soft` are those of Answers and SoftLabels for images with labels, `unlabelled` both of them for the
    others; `centers` and `all_centers` belong to the soft labels of the two.
    """
    loss, labels, classes = viewer.loss, views.dataset.labels, views.dataset.class_num
    seen = [part.features for part in viewer.features(views) if part is not None]
    others = iter(()) if unlabelled is None else viewer.features_of_unlabelled(unlabelled)
    if not seen:
        for _ in others:  # takes part in computing them
            pass
        return {}, 0.0
    arrays, temperature = dict[str, np.ndarray](), 0.0
    scatters = scatter_of_folds(seen, labels, classes)
    projected = projected_features(seen, scatters)
    if loss.soft_labels:
        fit = soft_labels(seen, scatters, labels, loss.temperature)
        arrays, temperature = {"soft": fit.features, "centers": fit.centers}, fit.temperature
    if loss.features:
        arrays["features"] = projected
    if unlabelled is not None:
        arrays["unlabelled"] = projected_features(others, scatters)
        arrays["all_centers"] = centers_of(projected, labels, classes)
    return arrays, temperature


def _sent_to_all(
    ranks: Ranks, arrays: dict[str, np.ndarray], temperature: float
) -> tuple[dict[str, np.ndarray], float]:
    """Return the arrays and the temperature of the first process, in all of them."""
    plan = {name: [array.shape, str(array.dtype)] for name, array in arrays.items()}
    plan, temperature = ranks.gather([plan, temperature])[0]
    if ranks.world == 1:
        return arrays, temperature
    tensors = [
        paddle.to_tensor(arrays[name]) if name in arrays else paddle.zeros(shape, dtype)
        for name, (shape, dtype) in plan.items()
    ]
    ranks.broadcast_tensors(tensors)
    return {name: tensor.numpy() for name, tensor in zip(plan, tensors, strict=True)}, temperature


def _timed(loss: TeacherLoss, extractor: Extractor, config: Config, lists: Sequence[Views], seconds: float) -> Teacher:
    """Return a teacher whose answers are zeros, with what computing them takes."""
    classes, total, memory, answers = lists[0].dataset.class_num, 0.0, 0, list[Answers]()
    size = max(1, min(classes - 1, LARGEST, extractor.feature_size))
    for number, views in enumerate(lists):
        count = len(views.dataset)
        whole = RecDataset(dataclasses.replace(views.dataset.config, transform_ops=extractor.transform_ops))
        total += pace_of(
            extractor.engine, whole, batch_size=training_part(config).sampler.batch_size, count=loss.views * count,
            seconds=seconds / len(lists),
        ).whole()  # fmt: skip
        answers.append(_no_answers(loss, count, size, classes))
        # Images without labels have one array for both kinds of answers, and one view at a time is in memory.
        kinds, at_once = (bool(loss.features) + bool(loss.soft_labels), loss.views) if number == 0 else (1, 1)
        stored = kinds * loss.views * size * np.dtype(STORED).itemsize
        memory += count * (stored + at_once * extractor.feature_size * 4)
    return Teacher(extractor.fingerprint, answers[0], answers[1] if answers[1:] else None, total, memory)


def _no_answers(loss: TeacherLoss, count: int, size: int, classes: int) -> Answers:
    """Return answers of the right shapes about so many images, all zeros, which take no memory."""
    nothing = np.broadcast_to(STORED(0), (loss.views, count, size))
    centers, folds = np.zeros((1, size, classes), np.float32), np.zeros(count, np.int64)
    soft = SoftLabels(nothing, centers, folds, 1.0) if loss.soft_labels else None
    return Answers(nothing if loss.features else None, soft)


def _exported(what: str, reporter: Reporter) -> Path:
    """Return what an extractor can open: an exported model, a checkpoint, or published weights after exporting them."""
    path = Path(what)
    if is_exported(path) or path.with_name(f"{path.name.removesuffix('.pdparams')}.pdstates").is_file():
        return path
    return export_pretrained(what, reporter)
