"""What must hold before the first step of a run: its lists, its batches, its class counts, and what it starts from.

All of it is looked at, so that a user reads every problem at once. Nothing here needs Paddle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shitu_cli.config.distillation import head_keys
from shitu_cli.config.parts.necks import FCBN, BNNeck, VehicleNeck
from shitu_cli.config.parts.samplers import DistributedBatchSampler
from shitu_cli.config.schema import Config, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.lists import MAX_SHOWN, ImageList
from shitu_cli.data.reader_classes import READERS
from shitu_cli.data.repeats import remarks_on_repeats
from shitu_cli.data.samplers import Feed, Sampler, build_sampler
from shitu_cli.errors import Command, ConfigError, DataError, ErrorCollector, ShituError, UsageError
from shitu_cli.evaluation.evaluate import check_answers
from shitu_cli.reporting import counted, shortened
from shitu_cli.training.start_checks import check_start


class TrainingData(NamedTuple):
    """The images of a run and the order of its batches; `remarks` are what to tell the user about them."""

    dataset: RecDataset
    sampler: Sampler
    remarks: list[str]


def check_run(
    config: Config,
    problems: ErrorCollector,
    *,
    lacking: Collection[str] = (),
    init_from: Path | None = None,
    resuming: bool = False,
    rank: int = 0,
    world: int = 1,
    keep_bytes: int = 0,
) -> TrainingData | None:
    """Return the data of a run; None if `problems` has got some that keep training from beginning.

    `lacking` blocks of the config are not the user's: what would be wrong with them is not reported.
    """
    before, split = len(problems.errors), config.DataLoader.train
    data, remarks = None, list[str]()
    if split is not None and split.dataset.name not in READERS:  # those that could not be read have been reported
        with problems:
            data = _training_data(
                config, split, problems, rank=rank, world=world, keep_bytes=keep_bytes, resuming=resuming
            )
    if "Global" not in lacking:
        with problems:
            remarks = _check_evaluation_lists(config)
        with problems:
            _check_projection(config)
    if not resuming:
        if "Arch" not in lacking:
            with problems:
                _check_head(config)
        with problems:
            check_start(config, init_from)
    if data is None or len(problems.errors) > before:
        return None
    return data._replace(remarks=[*data.remarks, *remarks])


def training_part(config: Config) -> SplitConfig:
    """Return DataLoader.Train; raise ConfigError if the config has none."""
    if config.DataLoader.train is None:
        raise ConfigError("DataLoader.Train is missing", hint=["prepare writes it: ", Command("prepare", "./data")])
    return config.DataLoader.train


def as_frozen(config: Config) -> Config:
    """Return the part of a config that `--frozen` uses: it replaces neck and head, and needs no losses or batches.

    Of several networks it uses the one that is kept, with the weights that are named for it.
    """
    arch, loaders = dataclasses.replace(config.Arch, neck=None, head=None), config.DataLoader
    alone = None if config.Distillation is None else dataclasses.replace(config.Distillation, peers=())
    if loaders.train is not None:
        train = dataclasses.replace(loaders.train, sampler=DistributedBatchSampler(drop_last=False))
        loaders = dataclasses.replace(loaders, train=train)
    return dataclasses.replace(config, Arch=arch, Loss=(), Distillation=alone, DataLoader=loaders)


def _training_data(
    config: Config,
    split: SplitConfig,
    problems: ErrorCollector,
    *,
    rank: int,
    world: int,
    keep_bytes: int,
    resuming: bool,
) -> TrainingData | None:
    list_path = Path(split.dataset.cls_label_path)
    if not list_path.is_file():
        raise UsageError(
            f"no training list at {list_path}",
            hint=[
                "prepare the data first: ",
                Command("prepare", "./data"),
                "   (or name a list of your own: -o DataLoader.Train.dataset.cls_label_path=LIST)",
            ],
        )
    dataset = RecDataset(split.dataset, keep_bytes=keep_bytes)
    remarks, sampler = list[str](), None
    with problems:
        remarks = check_labels(config, dataset.labels, dataset.images, list_path, resuming=resuming)
        remarks += remarks_on_repeats([dataset])
    if split.sampler.batch_size == 1 and isinstance(config.Arch.neck, (BNNeck, FCBN, VehicleNeck)):
        remarks.append(
            f"batches of one image: the batch norm of {config.Arch.neck.name} makes every feature the same, so that "
            "nothing is learnt (--batch-size 2 or more)"
        )
    with problems:
        sampler = build_sampler(split.sampler, Feed(dataset.labels, dataset.ids, config.Global.seed or 0, rank, world))
        if not len(sampler):
            raise ConfigError(
                f"{len(dataset)} training images are fewer than one batch of {split.sampler.batch_size}, and drop_last "
                "leaves incomplete batches out",
                hint=Command("train", "--batch-size", min(len(dataset), max(2, len(dataset) // 2))),
            )
    return None if sampler is None else TrainingData(dataset, sampler, remarks)


def _check_projection(config: Config) -> None:
    if config.Global.projection and config.Arch.neck is not None:
        raise ConfigError(
            "Global.projection: a projection takes the place of a neck, but the config has one",
            hint="leave out Arch.Neck, or set Global.projection to false",
        )


def _check_head(config: Config) -> None:
    """Check that there is a head where losses look at its logits.

    Evaluation does not call this: the config of a `--frozen` run has losses, but its network has no head.
    """
    names = [f"Loss.Train.{n}.{loss.name}" for n, loss in enumerate(config.Loss) if loss.needs_head]
    if names and config.Arch.head is None:
        raise ConfigError(
            f"{' and '.join(names)}: needs Arch.Head, which gives the logits of the classes",
            hint="add Arch.Head to the config, or take losses on features, such as TripletAngularMarginLoss",
        )


def _check_evaluation_lists(config: Config) -> list[str]:
    """Check the lists that evaluation during training needs; return remarks on images that they name again."""
    if not config.Global.eval_during_train:
        return []
    loaders = {"query": config.DataLoader.query, "gallery": config.DataLoader.gallery}
    datasets = {name: split.dataset for name, split in loaders.items() if split is not None}
    lists = {name: part.cls_label_path for name, part in datasets.items() if part.name not in READERS}
    missing = dict[str, str]()
    for name, path in lists.items():
        if not Path(path).is_file():
            missing[path] = f"{missing[path]} and {name}" if path in missing else name
    if missing:
        raise DataError(
            "; ".join(f"no {names} list at {path}" for path, names in missing.items())
            + ", which evaluation during training needs",
            hint=["train without evaluation: ", Command("train", "--eval-during-train", "false")],
        )
    if not {"query", "gallery"} <= lists.keys() or config.classifies:
        return []
    query, gallery = RecDataset(datasets["query"]), RecDataset(datasets["gallery"])
    check_answers(query, gallery, " or train without evaluation: ", Command("train", "--eval-during-train", "false"))
    return remarks_on_repeats([query] if query.list_path == gallery.list_path else [query, gallery])


def check_labels(
    config: Config, labels: np.ndarray, images: ImageList, list_path: Path, *, resuming: bool = False
) -> list[str]:
    """Compare the class counts of the config, or of the run when `resuming`, with the labels of the training list.

    Returns remarks on classes without images, which lists of `prepare` never have. Raises ConfigError for other counts.
    """
    if labels.min() < 0:
        negative = [f"{images.place(index)}: label {labels[index]}" for index in np.flatnonzero(labels < 0).tolist()]
        raise DataError(
            f"{counted(len(negative), 'image')} in the training list with a label below 0; labels start at 0",
            details=shortened(negative, MAX_SHOWN),
            hint="label -1 marks images without a class, which belong in the gallery only: remove these lines",
        )
    needed, counts = int(labels.max()) + 1, _class_counts(config)
    has_map = list_path.with_name("label_map.txt").is_file()
    may_be_more = config.Global.spare_classes or not has_map
    wrong = {key: count for key, count in counts.items() if count < needed or (count > needed and not may_be_more)}
    if wrong:
        raise _wrong_counts(wrong, needed, config, list_path, resuming=resuming)
    gaps = [] if has_map else _gaps(labels, needed, list_path)
    return gaps + [
        f"{key} is {count}, but {list_path.name} has {needed} classes (labels 0 to {needed - 1}): "
        f"{counted(count - needed, 'class has', 'classes have')} no images (-o {key}={needed} leaves them out)"
        for key, count in counts.items()
        if count > needed
    ]


def _class_counts(config: Config) -> dict[str, int]:
    """Return the numbers of classes that a config gives, by their keys: those of heads first, then those of losses."""
    counts = {f"{key}.class_num": head.class_num for key, head in head_keys(config).items()}
    for number, item in enumerate(config.Loss):
        if (count := getattr(item, "num_classes", None)) is not None:
            counts[f"Loss.Train.{number}.{item.name}.num_classes"] = count
    return counts


def _wrong_counts(
    wrong: Mapping[str, int], needed: int, config: Config, list_path: Path, *, resuming: bool
) -> ShituError:
    """Return the error for counts of classes that do not fit the labels of the training list."""
    if resuming:
        from shitu_cli.training.checkpoint import LATEST

        count = next(iter(wrong.values()))
        return UsageError(
            f"the run to resume has {count} classes, {list_path.name} has {needed} now: its head does not fit",
            hint=[
                "start a new run from all weights but the head: ",
                Command("train", "--init-from", Path(config.Global.output_dir) / LATEST),
                "   (or start from nothing: ",
                Command("train", without=("--resume",)),
                ")",
            ],
        )
    fix = [word for key in wrong for word in ("-o", f"{key}={needed}")]
    return ConfigError(
        f"{list_path.name} has {needed} classes (labels 0 to {needed - 1}), but the config says otherwise",
        details=[f"{key}: got {count}, expected {needed}" for key, count in wrong.items()],
        hint=[Command("train", *fix), "   (or let prepare count and write it: ", Command("prepare", "./data"), ")"],
    )


def _gaps(labels: np.ndarray, needed: int, list_path: Path) -> list[str]:
    """Return a remark on labels that no image of a list has: often numbers from 1, or those of a larger list."""
    present = np.unique(labels)
    if len(present) == needed:
        return []
    first = int(np.argmax(present != np.arange(len(present))))
    return [
        f"{needed - len(present):,} of the labels 0 to {needed - 1} of {list_path.name} have no images, such as {first}"
        ": the head has a class for each (-o DataLoader.Train.dataset.relabel=True numbers those with images from 0)"
    ]
