"""Cross-fitting of a whole network: train it again without some of the classes, which are then unknown to it.

In a closed split every class is trained, so none of them shows how similar an unknown product would look. A projection
is learnt again in a moment (training/cross_fit.py); a whole network has to be trained again, once for each group of
classes (Stone 1974).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.load import load_config
from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.places import Places, weights_of
from shitu_cli.config.schema import Config
from shitu_cli.data.lists import ImageList, read_list, write_list
from shitu_cli.errors import Command, TrainingError, UsageError
from shitu_cli.evaluation.evaluate import both_lists
from shitu_cli.evaluation.unknown import Fold
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.engine import engine_from_checkpoint
from shitu_cli.features.list_features import extract_list
from shitu_cli.files import atomic_write_text, sha256_of
from shitu_cli.reporting import Reporter, counted
from shitu_cli.steps.models import readable
from shitu_cli.steps.settings import with_lists
from shitu_cli.training.checkpoint import CONFIG
from shitu_cli.weights.files import find_weights

DONE = "done"  # a file that marks a finished training


def cross_trained(
    config: Config, prefix: Path, count: int, *, flip: bool = False, reporter: Reporter
) -> Iterator[Fold]:
    """Yield features of query and gallery by networks trained like the checkpoint `prefix`, each without some classes.

    Args:
        config: That of the evaluation; the config of the training is read from beside the checkpoint.
        prefix: The checkpoint whose threshold is to be measured.
        count: How many trainings there are; each class is left out of one of them.
        flip: Add the features of the mirrored images.
        reporter: Receives progress.

    Trainings begin with the weights of their config, even if the first one began with others (--init-from), and learn
    from the same images without labels, if there are any. Finished trainings are kept below `.shitu/` and not repeated,
    even if the evaluation is interrupted. Raises UsageError if the network cannot be trained this way, TrainingError if
    a training is interrupted.
    """
    config = config_of_training(config, prefix)
    split = config.DataLoader.train
    if config.Distillation is not None or split is None or not Path(split.dataset.cls_label_path).is_file():
        raise UsageError(
            "--cross-fit trains the network of this workspace again, but there is no training list, or the config has "
            "several networks",
            hint=["measure on photos of other things: ", Command("evaluate", "--unknown", "./not-ours")],
        )
    classes = np.unique(read_list(Path(split.dataset.cls_label_path)).labels)
    photos = _photos_without_labels(config)
    for text in _doubts(config):
        reporter.warn(text)
    place = Places.of(config).workspace.cache_dir / "cross-fit" / _key(config, prefix, count, photos)
    config = _with_photos(config, photos, place / "unlabelled.txt")
    for number in range(count):
        left_out = classes[np.arange(len(classes)) % count == number]
        reporter.info(
            f"training {number + 1} of {count}: without {counted(len(left_out), 'class', 'classes')} of {len(classes)}"
        )
        trained = _without(config, left_out, place / f"{number + 1}")
        _train(trained, place / f"{number + 1}", reporter)
        yield Fold(left_out, *_features(trained, flip, reporter))


def _doubts(config: Config) -> list[str]:
    """Return warnings of what may show left-out classes to a training, which nobody can tell from the files."""
    from shitu_cli.training.teacher import find_teacher

    loss = find_teacher(config)
    if loss is None:
        return []
    places = [] if not os.path.isabs(loss.teacher) else [f"the teacher {loss.teacher} may have been trained on"]
    places += [] if loss.unlabelled is None else [f"the images without labels of {loss.unlabelled} may show"]
    return [
        f"{place} things of the classes that are left out. If so, things that are really unknown look more familiar "
        "than is measured here: choose a higher threshold"
        for place in places
    ]


def _photos_without_labels(config: Config) -> list[str]:
    """Return the images without labels that the network learnt from, none of which is in its lists.

    The list of a training without some classes does not name their images, so that they would count as new ones.
    """
    from shitu_cli.training.teacher import find_teacher
    from shitu_cli.training.unlabelled import unlisted_images

    loss = find_teacher(config)
    return [] if loss is None or loss.unlabelled is None else unlisted_images(config, loss.unlabelled)[0]


def _with_photos(config: Config, photos: Sequence[str], path: Path) -> Config:
    """Return the config with these images without labels, whose list is written to `path`."""
    if not photos:
        return config
    write_list(path, ImageList.of(photos, np.full(len(photos), -1)))
    loss = tuple(
        dataclasses.replace(part, unlabelled=str(path)) if isinstance(part, TeacherLoss) else part
        for part in config.Loss
    )
    return dataclasses.replace(config, Loss=loss)


def _key(config: Config, prefix: Path, count: int, photos: Sequence[str]) -> str:
    """Return a key for the trainings, from the weights whose training they repeat, the list and the other images."""
    assert config.DataLoader.train is not None
    lists = sha256_of(Path(config.DataLoader.train.dataset.cls_label_path))
    text = "".join([sha256_of(find_weights(prefix)), lists, str(count), *photos])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _without(config: Config, left_out: np.ndarray, folder: Path) -> Config:
    """Return the config of a training without these classes, with its list and its output in `folder`."""
    split = config.DataLoader.train
    assert split is not None
    images = read_list(Path(split.dataset.cls_label_path))
    images = images.take(np.flatnonzero(~np.isin(images.labels, left_out)))
    classes, labels = np.unique(images.labels, return_inverse=True)
    images.labels = labels.reshape(-1).astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    write_list(folder / "train_list.txt", images)
    dataset = dataclasses.replace(split.dataset, cls_label_path=str(folder / "train_list.txt"))
    head = config.Arch.head
    counts: dict[str, Any] = {"num_classes": len(classes)}
    loss = [
        dataclasses.replace(item, **counts) if getattr(item, "num_classes", None) is not None else item
        for item in config.Loss
    ]
    return dataclasses.replace(
        config,
        root=folder,
        Global=dataclasses.replace(config.Global, output_dir=str(folder / "output")),
        Arch=dataclasses.replace(
            config.Arch, head=None if head is None else dataclasses.replace(head, class_num=len(classes))
        ),
        Loss=tuple(loss),
        DataLoader=dataclasses.replace(config.DataLoader, train=dataclasses.replace(split, dataset=dataset)),
    )


def config_of_training(config: Config, prefix: Path) -> Config:
    """Return the config that a checkpoint was trained with, for the images and features that are evaluated."""
    file = prefix.with_name(CONFIG)
    if not file.is_file():
        return config
    trained = with_lists(load_config(file, root=config.root), ("train",))
    return dataclasses.replace(
        trained,
        Global=dataclasses.replace(trained.Global, retrieval_feature_from=config.Global.retrieval_feature_from),
        DataLoader=dataclasses.replace(
            trained.DataLoader, query=config.DataLoader.query, gallery=config.DataLoader.gallery
        ),
    )


def _train(config: Config, folder: Path, reporter: Reporter) -> None:
    """Train, unless that was done before."""
    from shitu_cli.steps.train import train

    if (folder / DONE).is_file():
        return
    shutil.rmtree(folder / "output", ignore_errors=True)  # of a training that was cut off
    result = train(config, reporter=reporter)
    if result is None or result.interrupted:
        raise TrainingError(
            "a training of the cross-fit was interrupted",
            hint="run the same command again: finished trainings are kept",
        )
    atomic_write_text(folder / DONE, "")


def _features(config: Config, flip: bool, reporter: Reporter) -> list[np.ndarray]:
    places = Places.of(config)
    best = readable(places.best, reporter)
    exists = weights_of(best).is_file()
    engine = engine_from_checkpoint(best if exists else places.output / "latest", config)
    cache = FeatureCache(places.workspace.cache_dir / "features")
    lists = both_lists(config, lambda split, what: extract_list(engine, split, reporter, what, cache=cache, flip=flip))
    return [part.features for part in lists or ()]
