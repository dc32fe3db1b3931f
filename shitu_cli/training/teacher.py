"""A trained network as a teacher: its features of the training images, computed once before training.

The student learns which images are alike for the teacher (`TeacherLoss`). The teacher does not take part in the steps:
it sees every image once uncropped, with its own preprocessing, and once mirrored. So even a large one costs little
more than an evaluation, and the trained network contains nothing of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import paddle

from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.deployment.pretrained import export_pretrained
from shitu_cli.errors import ConfigError
from shitu_cli.features.backends import is_exported
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.list_features import extract_list, pace_of, prepared_engine
from shitu_cli.features.unit_length import normalized
from shitu_cli.pace import Pace
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.arithmetic import kept_arithmetic
from shitu_cli.training.loop_state import capture_rng, restore_rng
from shitu_cli.training.projection_fit import unaugmented_training


class Teacher:
    """Features [N, D] of the training images, of unit length around their mean; `fingerprint` says whose they are.

    `pace` is set if computing them was only timed; they are noise then.
    """

    def __init__(self, features: np.ndarray, fingerprint: str, pace: Pace | None = None) -> None:
        self.features, self.fingerprint, self.pace = features, fingerprint, pace

    def __call__(self, indices: np.ndarray) -> paddle.Tensor:
        """Return the features [n, D] of the images with these positions in the list."""
        return paddle.to_tensor(self.features[indices].astype(np.float32))


def find_teacher(config: Config) -> TeacherLoss | None:
    """Return the loss that names a teacher; raise ConfigError if two do."""
    losses = [loss for loss in config.Loss if isinstance(loss, TeacherLoss)]
    if len({loss.teacher for loss in losses}) > 1:
        raise ConfigError("Loss.Train: two losses name different teachers", hint="leave one TeacherLoss")
    return losses[0] if losses else None


def open_teacher(
    config: Config, dataset: RecDataset, ranks: Ranks, device: str, reporter: Reporter, *, seconds: float | None = None
) -> Teacher | None:
    """Return the teacher that the losses name, with its features of the training images; None if they name none.

    With `seconds`, computing the features is only timed for about as long.

    Raises UsageError for a teacher that does not exist, DataError for one that is damaged and for images that cannot
    be read.
    """
    loss = find_teacher(config)
    if loss is None:
        return None
    generators = capture_rng()
    try:
        with kept_arithmetic():
            return _computed(loss.teacher, config, len(dataset), ranks, device, reporter, seconds)
    finally:
        restore_rng(generators)


def _computed(
    what: str, config: Config, count: int, ranks: Ranks, device: str, reporter: Reporter, seconds: float | None
) -> Teacher:
    folder = _exported(what, reporter) if ranks.is_main else None
    ranks.gather(None)  # the first process writes what the others of its machine then find
    folder = folder or _exported(what, reporter)
    gpu = None if device == "cpu" else int(paddle.get_device().rpartition(":")[2])
    # A checkpoint is built as it was trained, whatever network the options of this run name.
    extractor = Extractor(folder, config=dataclasses.replace(config, origins={}), gpu=gpu)
    split = unaugmented_training(config)
    split = dataclasses.replace(
        split, dataset=dataclasses.replace(split.dataset, transform_ops=extractor.transform_ops)
    )
    if seconds is not None:
        engine, seen = prepared_engine(extractor.engine, flip=True, normalize=True), RecDataset(split.dataset)
        pace = pace_of(engine, seen, batch_size=split.sampler.batch_size, seconds=seconds)
        noise = np.random.default_rng(0).standard_normal((count, extractor.feature_size), np.float32)
        return Teacher(centred(noise), extractor.fingerprint, pace)
    cache = FeatureCache(Places.of(config).workspace.cache_dir / "features")
    name = f"the teacher {Path(what).name}"
    part = extract_list(extractor.engine, split, reporter, name, cache=cache, processes=ranks, flip=True)
    features = paddle.zeros([count, extractor.feature_size]) if part is None else paddle.to_tensor(part.features)
    ranks.broadcast_tensors([features])
    return Teacher(centred(features.numpy()), extractor.fingerprint)


def centred(features: np.ndarray) -> np.ndarray:
    """Return features [N, D] less their mean, at unit length; NaN rows are missing images and stay so.

    What all images have in common makes all pairs alike and would leave little for the student to learn.
    """
    return normalized(features - np.nanmean(features, axis=0, dtype=np.float64).astype(np.float32))


def _exported(what: str, reporter: Reporter) -> Path:
    """Return what an extractor can open: an exported model, a checkpoint, or published weights after exporting them."""
    path = Path(what)
    if is_exported(path) or path.with_name(f"{path.name.removesuffix('.pdparams')}.pdstates").is_file():
        return path
    return export_pretrained(what, reporter)
