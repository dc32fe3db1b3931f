"""Build everything that a run needs from its config, and check it before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu_cli.config.distillation import head_keys
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset, spare_memory
from shitu_cli.data.lists import MAX_SHOWN, ImageList
from shitu_cli.data.loader import BatchLoader
from shitu_cli.data.samplers import Feed, build_sampler
from shitu_cli.errors import Command, ConfigError, DataError, Gathered, UsageError
from shitu_cli.model import build_rec_model
from shitu_cli.model.losses import CombinedLoss, build_loss
from shitu_cli.model.rec_model import find_start
from shitu_cli.model.weights import load_start
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter, counted
from shitu_cli.training.checkpoint import LATEST
from shitu_cli.training.ema import ExponentialMovingAverage
from shitu_cli.training.fingerprint import describe_run, require_same_everywhere
from shitu_cli.training.loop_state import seed_everything
from shitu_cli.training.optimizer import OptimizerStep, build_optimizers, trainable_parameters
from shitu_cli.training.peers import prepare_peers
from shitu_cli.training.sharded_head import Shards, shard_head
from shitu_cli.training.sync_norm import synchronize_norms
from shitu_cli.training.teacher import Teacher, open_teacher
from shitu_cli.training.trunk import set_training
from shitu_cli.weights.files import find_weights
from shitu_cli.weights.store import looks_like_a_file, obtain


@dataclass
class Training:
    """The parts of one run; `steps_per_epoch` counts batches, `run` is the fingerprint stored in checkpoints.

    `remarks` are what to tell the user about the data before training starts.
    """

    config: Config
    output: Path
    device: str
    ranks: Ranks
    dataset: RecDataset
    loader: BatchLoader
    batch_size: int
    steps_per_epoch: int
    model: nn.Layer
    loss: CombinedLoss
    optimizer: OptimizerStep
    ema: ExponentialMovingAverage | None
    shards: Shards
    teacher: Teacher | None
    run: dict[str, Any]
    remarks: list[str]

    @property
    def networks(self) -> list[nn.Layer]:
        """All networks that take part: the one that is trained, then those that losses compare it with."""
        return [self.model, *(self.loss.peers.networks.values() if self.loss.peers is not None else ())]


def build_training(
    config: Config,
    *,
    device: str,
    ranks: Ranks,
    threads: int,
    reporter: Reporter,
    init_from: Path | None = None,
    resuming: bool = False,
) -> Training:
    """Build data, network, loss and optimiser of a run; `reporter` is told what takes long, a teacher's features.

    Raises ConfigError if class counts and labels disagree, DataError if lists or weights do not fit.
    """
    split = config.DataLoader.train
    if split is None:
        raise ConfigError("DataLoader.Train is missing", hint=["prepare writes it: ", Command("prepare", "./data")])
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
    seed = config.Global.seed or 0
    seed_everything(seed)
    dataset = RecDataset(split.dataset, keep_bytes=spare_memory() // ranks.world)
    sampler, remarks, problems = None, list[str](), Gathered()
    with problems:
        remarks = check_labels(config, dataset.labels, dataset.images, list_path, resuming=resuming)
    with problems:
        sampler = build_sampler(split.sampler, Feed(dataset.labels, dataset.ids, seed, ranks.rank, ranks.world))
    with problems:
        _check_evaluation_lists(config)
    with problems:
        _check_projection(config)
    if not resuming:
        with problems:
            _check_start(config, init_from)
    problems.raise_all("training cannot begin", "train")
    assert sampler is not None
    loader = BatchLoader(
        dataset, sampler, seed=seed, num_workers=split.loader.num_workers, on_error=split.dataset.on_error
    )
    steps = min(len(sampler), config.Global.iter_per_epoch or len(sampler))
    if steps == 0:
        raise ConfigError(
            f"{len(dataset)} training images do not fill one batch of {split.sampler.batch_size} with drop_last",
            hint=Command("train", "--batch-size", max(1, len(dataset) // 2)),
        )
    run = describe_run(
        config,
        train_list=list_path,
        label_map=list_path.with_name("label_map.txt"),
        samples=len(dataset),
        class_num=int(dataset.class_num),
        world=ranks.world,
        threads=threads,
    )
    require_same_everywhere(run, ranks)
    teacher = open_teacher(config, dataset, ranks, device, reporter)
    if teacher is not None:
        run["teacher"] = teacher.fingerprint
    model, loss, shards = _build_network(config, ranks, init_from, resuming, device, remarks)
    parameters = trainable_parameters(("", model), ("loss.", loss))
    updates = -(-steps // max(1, config.Global.update_freq))
    optimizer = build_optimizers(config, parameters, steps_per_epoch=updates, ranks=ranks)
    seed_everything(seed, ranks.rank)
    return Training(
        config=config,
        output=Path(config.Global.output_dir),
        device=device,
        ranks=ranks,
        dataset=dataset,
        loader=loader,
        batch_size=split.sampler.batch_size,
        steps_per_epoch=steps,
        model=model,
        loss=loss,
        optimizer=optimizer,
        ema=ExponentialMovingAverage(model, config.EMA.decay) if config.EMA is not None else None,
        shards=shards,
        teacher=teacher,
        run=run,
        remarks=remarks,
    )


def _build_network(
    config: Config, ranks: Ranks, init_from: Path | None, resuming: bool, device: str, remarks: list[str]
) -> tuple[nn.Layer, CombinedLoss, Shards]:
    """Build network and loss with stable parameter names, by which the state of the optimiser is keyed.

    Adds to `remarks` what of the weights to start from was not used as it is.
    """
    with paddle.utils.unique_name.guard():
        model: nn.Layer = build_rec_model(config.Arch)
        loss = build_loss(config.Loss, config.Distillation)
    set_training(model.backbone, config.Arch.backbone)
    if not resuming:  # the checkpoint contains all weights
        remarks += _load_start(config, model, init_from)
    prepare_peers(config, model, loss, ranks, device, resuming=resuming)
    if config.Arch.use_sync_bn:
        model = synchronize_norms(model, ranks, device)
    ranks.broadcast_state(model, loss)
    shards = shard_head(model, config.AMP, ranks, device)
    model.train()
    loss.train()
    if loss.peers is not None:
        loss.peers.fix()
    return model, loss, shards


def _load_start(config: Config, model: nn.Layer, init_from: Path | None) -> list[str]:
    """Load the weights of the whole network that a new run starts from, where there are any; return remarks."""
    start = config.Global.pretrained_model or (config.Distillation.weights if config.Distillation is not None else None)
    if init_from is not None:
        # A projection that was learned in closed form is learned anew.
        replaced = ("head.", "neck.") if config.Global.projection else ("head.",)
        return load_start(model, init_from, allow_missing_prefixes=replaced)
    if start:
        return load_start(model, obtain(start).path)
    new = model.backbone.left_new
    return (
        [f"{counted(len(new), 'array')} of the backbone, such as {new[0]}, start new: the weights lack them"]
        if new
        else []
    )


def _check_projection(config: Config) -> None:
    if config.Global.projection and config.Arch.neck is not None:
        raise ConfigError(
            "Global.projection: takes the neck's place, but there is one",
            hint="leave out Arch.Neck, or set Global.projection to false",
        )


def _check_start(config: Config, init_from: Path | None) -> None:
    """Check that the weights to start from exist; weights to download are looked up when the network is built."""
    start = find_start(config.Arch.backbone)
    if start is not None and looks_like_a_file(start):
        find_weights(start)
    if init_from is not None:
        find_weights(init_from)
    elif config.Global.pretrained_model and looks_like_a_file(config.Global.pretrained_model):
        try:
            find_weights(config.Global.pretrained_model)
        except DataError as error:
            raise DataError(
                f"Global.pretrained_model: {error.message}",
                hint=["start without them: ", Command("train", "-o", "Global.pretrained_model=null")],
            ) from None


def _check_evaluation_lists(config: Config) -> None:
    if not config.Global.eval_during_train:
        return
    loaders = {"query": config.DataLoader.query, "gallery": config.DataLoader.gallery}
    lists = {name: split.dataset.cls_label_path for name, split in loaders.items() if split is not None}
    missing = [f"no {name} list at {path}" for name, path in lists.items() if not Path(path).is_file()]
    if missing:
        raise DataError(
            "; ".join(missing) + ", which evaluation during training needs",
            hint=["train without evaluation: ", Command("train", "--eval-during-train", "false")],
        )


def check_labels(
    config: Config, labels: np.ndarray, images: ImageList, list_path: Path, *, resuming: bool = False
) -> list[str]:
    """Compare the class counts of the config, or of the run when `resuming`, with the labels of the training list.

    Returns remarks on classes without images, which lists of `prepare` never have. Raises ConfigError for other counts.
    """
    if labels.min() < 0:
        negative = np.flatnonzero(labels < 0)
        lines = [f"{images.place(index)}: label {labels[index]}" for index in negative[:MAX_SHOWN]]
        more = [f"... and {len(negative) - len(lines)} more"] if len(negative) > len(lines) else []
        raise DataError(
            f"{counted(len(negative), 'image')} of the training list with a label below 0; labels start at 0",
            details=lines + more,
            hint="label -1 marks images without a class, which belong in the gallery only: remove these lines",
        )
    needed = int(labels.max()) + 1
    counts = [
        (f"Loss.Train.{index}.{item.name}.num_classes", getattr(item, "num_classes", None))
        for index, item in enumerate(config.Loss)
    ]
    counts[:0] = [(f"{key}.class_num", head.class_num) for key, head in head_keys(config).items()]
    spare = config.Global.spare_classes or not list_path.with_name("label_map.txt").is_file()
    wrong = [
        (key, count)
        for key, count in counts
        if count is not None and (count < needed or (count > needed and not spare))
    ]
    if wrong and resuming:
        raise UsageError(
            f"the run to resume has {wrong[0][1]} classes, {list_path.name} has {needed} now: its head does not fit",
            hint=[
                "start a new run from all weights but the head: ",
                Command("train", "--init-from", Path(config.Global.output_dir) / LATEST),
                "   (or start from nothing: ",
                Command("train", without=("--resume",)),
                ")",
            ],
        )
    if wrong:
        fix = [word for key, _ in wrong for word in ("-o", f"{key}={needed}")]
        raise ConfigError(
            f"{list_path.name} has {needed} classes (labels 0 to {needed - 1}), the config says otherwise",
            details=[f"{key}: got {count}, expected {needed}" for key, count in wrong],
            hint=[Command("train", *fix), "   (or let prepare count and write it: ", Command("prepare", "./data"), ")"],
        )
    return [
        f"{key} is {count}, but {list_path.name} has {needed} classes (labels 0 to {needed - 1}): "
        f"{counted(count - needed, 'class has', 'classes have')} no images (-o {key}={needed} leaves them out)"
        for key, count in counts
        if count is not None and count > needed
    ]
