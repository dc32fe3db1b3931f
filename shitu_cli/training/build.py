"""Build everything that a run needs from its config, and check it before the first step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import paddle
from paddle import nn

from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset, spare_memory
from shitu_cli.data.loader import BatchLoader, MixedLoader
from shitu_cli.data.samplers import Repeated
from shitu_cli.data.views import Views
from shitu_cli.errors import ErrorCollector
from shitu_cli.files import sha256_of
from shitu_cli.model import build_rec_model
from shitu_cli.model.losses import CombinedLoss, build_loss
from shitu_cli.model.tracing import without_pretrained
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter
from shitu_cli.training.checks import TrainingData, check_run, training_part
from shitu_cli.training.ema import ExponentialMovingAverage
from shitu_cli.training.fingerprint import describe_run, require_same_everywhere
from shitu_cli.training.layer_checks import check_image_sizes, check_layers, shapes_of
from shitu_cli.training.layer_rates import set_layer_rates
from shitu_cli.training.loop_state import seed_everything
from shitu_cli.training.optimizer import OptimizerStep, build_optimizers, trainable_parameters
from shitu_cli.training.peers import networks_beside, prepare_peers
from shitu_cli.training.sharded_head import Shards, shard_head
from shitu_cli.training.start_checks import are_here
from shitu_cli.training.start_weights import build_started, start_of
from shitu_cli.training.sync_norm import synchronize_norms
from shitu_cli.training.teacher import Teacher, find_teacher, open_teacher, prepare_student
from shitu_cli.training.unlabelled import Unlabelled, batches_of, find_unlabelled, sources_of


@dataclass(frozen=True)
class Rehearsal:
    """A run that only finds out what it costs: it times its teacher for `seconds`, and leaves no list in the workspace.

    Lists that it needs are written to `lists_dir`.
    """

    seconds: float
    lists_dir: Path


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
    loader: BatchLoader | MixedLoader
    batch_size: int
    steps_per_epoch: int
    model: nn.Layer
    loss: CombinedLoss
    optimizer: OptimizerStep
    ema: ExponentialMovingAverage | None
    shards: Shards
    teacher: Teacher | None
    unlabelled: Unlabelled | None
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
    rehearsal: Rehearsal | None = None,
) -> Training:
    """Build data, network, loss and optimiser of a run; `reporter` shows downloads and what a teacher takes time for.

    Raises ConfigError if class counts and labels disagree, DataError if lists or weights do not fit.
    """
    seed = config.Global.seed or 0
    seed_everything(seed)
    lists_dir = None if rehearsal is None else rehearsal.lists_dir
    images = _find_images(config, ranks, init_from=init_from, resuming=resuming, lists_dir=lists_dir)
    dataset, steps = images.labelled.dataset, images.steps
    loader = _build_loader(config, images, ranks)
    for text in images.unseen_views(config, ranks):
        reporter.warn(text)
    run = _describe(config, images, ranks, threads)
    require_same_everywhere(run, ranks)
    seconds = None if rehearsal is None else rehearsal.seconds
    teacher = open_teacher(config, images.views, ranks, device, reporter, seconds=seconds)
    if teacher is not None:
        run["teacher"] = teacher.fingerprint
    # A checkpoint holds all weights. What a run costs does not depend on them: they need not be downloaded for that.
    empty = resuming or (rehearsal is not None and not are_here(config, init_from))
    network = _build_network(config, teacher, ranks, device, reporter, init_from=init_from, empty=empty)
    updates = -(-steps // max(1, config.Global.update_freq))
    parameters = trainable_parameters(("", network.model), ("loss.", network.loss))
    optimizer = build_optimizers(config, parameters, steps_per_epoch=updates, ranks=ranks)
    seed_everything(seed, ranks.rank)
    return Training(
        config=config,
        output=Path(config.Global.output_dir),
        device=device,
        ranks=ranks,
        dataset=dataset,
        loader=loader,
        batch_size=training_part(config).sampler.batch_size,
        steps_per_epoch=steps,
        model=network.model,
        loss=network.loss,
        optimizer=optimizer,
        ema=None if config.EMA is None else ExponentialMovingAverage(network.model, config.EMA.decay),
        shards=network.shards,
        teacher=teacher,
        unlabelled=images.unlabelled,
        run=run,
        remarks=[*images.labelled.remarks, *network.remarks],
    )


@dataclass(frozen=True)
class _Images:
    """The images of a run: those with labels, and perhaps those without, which only a teacher judges.

    `steps` counts the batches of an epoch, `views` are those that a teacher looks at: of the images with labels, then
    of those without.
    """

    labelled: TrainingData
    unlabelled: Unlabelled | None
    steps: int
    views: Sequence[Views]

    def unseen_views(self, config: Config, ranks: Ranks) -> list[str]:
        """Return a remark if a teacher looks at many more views of images without labels than training shows."""
        if self.unlabelled is None:
            return []
        batch_size = training_part(config).sampler.batch_size * ranks.world
        shown = config.Global.epochs * self.steps * min(batch_size, len(self.unlabelled.dataset))
        return self.unlabelled.too_many_views(self.views[1].count, shown)


def _find_images(
    config: Config, ranks: Ranks, *, init_from: Path | None, resuming: bool, lists_dir: Path | None
) -> _Images:
    """Return the images of a run; raise what keeps it from beginning, all of it at once."""
    problems = ErrorCollector()
    teacher_loss, unlabelled, keep_bytes = None, None, spare_memory() // ranks.world
    with problems:
        teacher_loss = find_teacher(config)
    if teacher_loss is not None and teacher_loss.unlabelled is not None:
        keep_bytes //= 2
    labelled = check_run(
        config, problems, init_from=init_from, resuming=resuming, rank=ranks.rank, world=ranks.world,
        keep_bytes=keep_bytes,
    )  # fmt: skip
    with problems:
        shapes = shapes_of(config)
        for check in (check_layers, check_image_sizes):
            with problems:
                check(config, shapes)
    with problems:
        unlabelled = find_unlabelled(config, teacher_loss, keep_bytes, lists_dir)
    problems.raise_all("training cannot begin", "train")
    assert labelled is not None
    steps = config.Global.iter_per_epoch or len(labelled.sampler)
    views: list[Views] = []
    if teacher_loss is not None:
        sources = sources_of(labelled.dataset, unlabelled)
        views = [Views(source, config.Global.seed or 0, teacher_loss.views) for source in sources]
    return _Images(labelled, unlabelled, steps, views)


def _describe(config: Config, images: _Images, ranks: Ranks, threads: int) -> dict[str, Any]:
    """Return the fingerprint of a run that may have images without labels."""
    dataset = images.labelled.dataset
    run = describe_run(
        config,
        train_list=dataset.list_path,
        label_map=dataset.list_path.with_name("label_map.txt"),
        samples=len(dataset),
        class_num=int(dataset.class_num),
        world=ranks.world,
        threads=threads,
    )
    if images.unlabelled is not None:
        run["unlabelled"] = sha256_of(images.unlabelled.dataset.list_path)
    return run


def _build_loader(config: Config, images: _Images, ranks: Ranks) -> BatchLoader | MixedLoader:
    """Build what loads the batches of an epoch, with and without labels."""
    split, seed = training_part(config), config.Global.seed or 0
    load = functools.partial(
        BatchLoader, seed=seed, num_workers=split.loader.num_workers, on_error=split.dataset.on_error
    )
    batches = Repeated(images.labelled.sampler, images.steps)
    loader = load(images.labelled.dataset, batches, views=images.views[0] if images.views else None)
    if images.unlabelled is None:
        return loader
    others = batches_of(images.unlabelled.dataset, split.sampler.batch_size, len(batches), seed, ranks)
    return MixedLoader(loader, load(images.unlabelled.dataset, others, views=images.views[1]))


class _Network(NamedTuple):
    """The network of a run and its loss; `remarks` say which of the initial weights were left out or missing."""

    model: nn.Layer
    loss: CombinedLoss
    shards: Shards
    remarks: list[str]


def _build_network(
    config: Config,
    teacher: Teacher | None,
    ranks: Ranks,
    device: str,
    reporter: Reporter,
    *,
    init_from: Path | None,
    empty: bool,
) -> _Network:
    """Build network and loss with stable parameter names, the keys of the optimiser state.

    If they stay `empty`, the weights that a run starts from are neither needed nor loaded.
    """
    remarks: list[str] = []
    with paddle.utils.unique_name.guard():
        if empty:
            model: nn.Layer = build_rec_model(without_pretrained(config.Arch))
        else:
            start, may_be_new = start_of(config, init_from, reporter), _new_parts(config)
            model, remarks = build_started(config, start, reporter, may_be_new=may_be_new)
        loss = build_loss(config.Loss, networks_beside(config, empty=empty), reporter)
        prepare_student(model, loss, teacher)
    set_layer_rates(model.backbone, config.Arch.backbone)
    remarks += prepare_peers(config, model, loss, ranks, device, reporter, empty=empty)
    if config.Arch.use_sync_bn:
        model = synchronize_norms(model, ranks, device)
    ranks.broadcast_state(model, loss)
    shards = shard_head(model, config.AMP, ranks, device)
    model.train()
    loss.train()
    if loss.peers is not None:
        loss.peers.fix()
    return _Network(model, loss, shards, remarks)


def _new_parts(config: Config) -> tuple[str, ...]:
    """Return the prefixes of what may begin new although a file of the whole network is given, as in PaddleClas."""
    # A projection that was learned in closed form is learned again.
    return ("head.", "neck.") if config.Global.projection else ("head.",)
