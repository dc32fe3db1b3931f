"""`train`: train a network on the prepared lists, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.config.arguments import CLOSED_FORM, COUNT, NATURAL, NECKS, USUAL_VIEWS, VIEWS, require, require_flags
from shitu_cli.config.distillation import MODEL
from shitu_cli.config.load import InvalidConfig
from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.places import Places
from shitu_cli.config.schema import SPLITS, Config
from shitu_cli.config.source import ConfigSource
from shitu_cli.errors import Command, ErrorCollector, UsageError
from shitu_cli.inputs import StrPath
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.steps.settings import with_lists, workspace_config
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.training.frozen import FrozenResult
    from shitu_cli.training.options import TrainResult
    from shitu_cli.weights.store import Start


def training_config(
    workspace: Workspace,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    *,
    init_from: Path | None = None,
    resume: bool = False,
    frozen: bool = False,
) -> Config:
    """Return the config of a workspace or of another `file` for `train`, with plain lists.

    Where the config has problems or its data cannot be read, what else keeps training from beginning is looked for too;
    with `frozen`, what else keeps `train_frozen` from it.
    Raises UsageError without a config file, and ConfigError, DataError or UsageError that list all problems.
    """
    problems, lacking = ErrorCollector(), tuple[str, ...]()
    try:
        config = workspace_config(workspace, file, overrides, flags)
    except InvalidConfig as error:
        problems.errors.append(error)
        config, lacking = error.config, error.lacking
    for split in SPLITS:
        with problems:
            config = with_lists(config, (split,))
    if problems.errors:
        from shitu_cli.training.checks import as_frozen, check_run

        config = as_frozen(config) if frozen else config
        resumes = resume or (config.Global.checkpoints is not None and init_from is None)
        check_run(config, problems, lacking=lacking, init_from=init_from, resuming=resumes)
        problems.raise_all("training cannot begin", "train")
    return config


def require_teacher(workspace: Workspace, file: Path | None = None, overrides: Sequence[str] = ()) -> None:
    """Raise UsageError if nothing in a config could learn from images without labels: it needs a teacher for them."""
    path = file or workspace.config_path
    if not path.is_file():
        return  # training_config says so
    source = ConfigSource(path)
    for override in overrides:
        source.override(override)
    if source.has_entry("Loss.Train", TeacherLoss.__name__):
        return
    if source.at("Arch.name") == MODEL:
        raise UsageError(
            f"--unlabelled: the networks of {path.name} learn from each other (Arch.name: {MODEL}), which needs labels",
            hint=["learn from the images with labels only: ", Command("train", without=("--unlabelled",))],
        )
    raise UsageError(
        f"--unlabelled: images without labels need a teacher, which says what they show, and {path.name} has none "
        "(no TeacherLoss in Loss.Train)",
        hint=["name a trained network: ", Command("train", "--teacher", "efficientnet-lite0")],
    )


def require_network(config: Config, start: Start) -> None:
    """Raise UsageError if weights that were given as NETWORK=FILE belong to another network than that of a config."""
    from shitu_cli.model.misfit import is_of_other_family, way_to_train

    own = config.Arch.backbone
    if start.network and is_of_other_family(start.network, own):
        raise UsageError(
            f"--pretrained {start.network}={start.source}: the network of the config is {own.name}",
            hint=way_to_train(start.network),
        )


def train(
    config: Config,
    *,
    resume: bool = False,
    init_from: StrPath | None = None,
    save_every_steps: int | None = None,
    keep: int | None = None,
    keep_earlier: int | None = None,
    reporter: Reporter | None = None,
) -> TrainResult | None:
    """Train the network of a config and write `latest.*`, `best_model.*` and `train.log` to its output directory.

    Args:
        config: The result of `load_config`, which also takes overrides and the device.
        resume: Continue where the last run of this output directory stopped; the result is the same to the bit.
        init_from: Start from these weights; their head may have other classes.
        save_every_steps: Save also within epochs, after this many steps.
        keep: How many saves to keep under `checkpoints/`; one by default.
        keep_earlier: How many models of earlier runs to keep under `earlier/`; all by default.
        reporter: Receives progress and warnings; by default they are discarded.

    Returns the losses, scores and times of the run; None in all but the first process where the command line
    has started several. Ctrl-C saves and returns a result with `interrupted` set. Raises ConfigError, DataError or
    UsageError before the first step if training is impossible, TrainingError if the loss is no longer finite.
    """
    require(COUNT, save_every_steps=save_every_steps, keep=keep)
    require_flags(resume=resume)
    require(NATURAL, keep_earlier=keep_earlier)
    from shitu_cli.processes import this_process
    from shitu_cli.runtime.setup import setup_paddle

    config = with_lists(config, SPLITS)
    output = this_process.reporter_of(reporter)
    for note in config.notes:
        output.info(note)
    device = setup_paddle(this_process.own_device(config.Global.device))
    from shitu_cli.processes.collectives import join
    from shitu_cli.training.options import TrainOptions
    from shitu_cli.training.run import run_training

    return run_training(
        config,
        device=device,
        ranks=join(),
        reporter=output,
        options=TrainOptions(save_every_steps=save_every_steps, keep=keep, keep_earlier=keep_earlier),
        resume=resume,
        init_from=None if init_from is None else Path(init_from),
        lock=Places.of(config).workspace.lock,
    )


def train_frozen(
    config: Config,
    *,
    init_from: StrPath | None = None,
    keep: int | None = None,
    keep_earlier: int | None = None,
    views: int = USUAL_VIEWS,
    neck: str = CLOSED_FORM,
    reporter: Reporter | None = None,
) -> FrozenResult:
    """Learn a projection of the unchanged features of a trained network, and write it into the network as its neck.

    Args:
        config: As for `train`; its backbone names trained weights, its neck and head are replaced.
        init_from: Start from these weights instead.
        keep: How many saves to keep under `checkpoints/`; one by default.
        keep_earlier: How many models of earlier runs to keep under `earlier/`; all by default.
        views: How many views of each image to use; all but the first are cropped and mirrored at random.
        neck: "trained" to train the projection further on these features; it is kept if the evaluation lists agree.
        reporter: Receives progress and warnings; by default they are discarded.

    Returns the metrics before and after. Raises UsageError if no trained weights are named, DataError when lists,
    images or weights do not fit.
    """
    require(VIEWS, views=views)
    if neck not in NECKS:
        raise UsageError(f"--neck {neck}: expected {' or '.join(NECKS)}")
    require(COUNT, keep=keep)
    require(NATURAL, keep_earlier=keep_earlier)
    from shitu_cli.runtime.setup import setup_paddle

    config, places = with_lists(config, SPLITS), Places.of(config)
    setup_paddle(config.Global.device)
    from shitu_cli.features.cache import FeatureCache
    from shitu_cli.training.frozen import train_frozen as run
    from shitu_cli.training.options import TrainOptions

    with places.workspace.lock("train"):
        return run(
            config,
            reporter=reporter or SilentReporter(),
            cache=FeatureCache(places.workspace.cache_dir / "features"),
            options=TrainOptions(keep=keep, keep_earlier=keep_earlier),
            init_from=None if init_from is None else Path(init_from),
            views=views,
            neck=neck,
        )
