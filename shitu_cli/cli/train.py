"""`shitu train`: train the network on the prepared lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.options import MANY, option
from shitu_cli.cli.session import Session
from shitu_cli.config.arguments import CLOSED_FORM, SEED, USUAL_VIEWS, VIEWS
from shitu_cli.errors import Command, UsageError
from shitu_cli.reporting import counted, duration
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.training.frozen import FrozenResult
    from shitu_cli.training.options import TrainResult

RUN = "The run"
MACHINES = "Several machines"
CHECKPOINTS = "Checkpoints"


def train(
    context: typer.Context,
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    epochs: Annotated[
        int | None, option(RUN, "How many times to go through the training images.", low=1, high=MANY)
    ] = None,
    batch_size: Annotated[int | None, option(RUN, "Images per step and process.", low=1, high=MANY)] = None,
    lr: Annotated[float | None, option(RUN, "The highest learning rate.", low=0.0, high=1000.0)] = None,
    device: options.DeviceOption = None,
    devices: options.DevicesOption = None,
    nnodes: Annotated[int, option(MACHINES, "How many machines train together.", low=1, high=1024)] = 1,
    master: Annotated[str | None, option(MACHINES, "host:port of the first machine, with --nnodes.")] = None,
    node_rank: Annotated[int, option(MACHINES, "The number of this machine, counted from 0.", low=0, high=1023)] = 0,
    secret_file: Annotated[
        Path | None,
        option(
            MACHINES,
            "File with the secret of the machines, which only you may read; by default the variable "
            "SHITU_MACHINES_SECRET, else .shitu/machines.secret in the workspace, which machine 0 writes.",
        ),
    ] = None,
    seed: Annotated[int | None, option(RUN, "The same seed gives the same training.", within=SEED)] = None,
    num_workers: Annotated[
        int | None, option(options.PROCESSOR, "Threads that read and decode images.", low=0, high=1024)
    ] = None,
    eval_during_train: Annotated[
        str | None,  # a bool would become a flag without a value
        option(RUN, "Measure recall after each epoch and keep the best model.", metavar="true|false"),
    ] = None,
    resume: Annotated[bool, option(RUN, "Continue where the last run stopped.", "--resume")] = False,
    init_from: Annotated[
        Path | None, option(RUN, "Start from these weights; the classes they were trained on may differ.")
    ] = None,
    pretrained: Annotated[
        str | None,
        option(
            RUN,
            "Start the backbone from these weights: a name of shitu weights list, an address, a file or NETWORK=FILE.",
            metavar="NAME|FILE",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        option(
            RUN,
            "Also learn from this trained network: an exported model, a checkpoint, or a name of shitu weights list.",
            metavar="PATH|NAME",
        ),
    ] = None,
    unlabelled: Annotated[
        str | None,
        option(RUN, "Also learn from these images without labels; needs a teacher.", metavar="FOLDER|LIST"),
    ] = None,
    save_every_steps: Annotated[
        int | None,
        option(CHECKPOINTS, "Also save during an epoch, each time after this many steps.", low=1, high=10**9),
    ] = None,
    keep: Annotated[
        int | None,
        option(CHECKPOINTS, "How many saves to keep in output/checkpoints/; by default one.", low=1, high=MANY),
    ] = None,
    keep_earlier: Annotated[
        int | None,
        option(CHECKPOINTS, "How many earlier models to keep in output/earlier/; by default all.", low=0, high=MANY),
    ] = None,
    frozen: Annotated[
        bool,
        option(
            RUN,
            "Keep the trained weights and only learn a projection of their features, which takes a minute.",
            "--frozen",
        ),
    ] = False,
    views: Annotated[
        int,
        option(
            RUN, "How many views of each image --frozen uses; all but the first are changed at random.", within=VIEWS
        ),
    ] = USUAL_VIEWS,
    neck: Annotated[
        str, option(RUN, "How --frozen learns the projection: closed-form or trained.", metavar="HOW")
    ] = CLOSED_FORM,
    dry_run: options.DryRunOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Train the network on the prepared lists; writes output/latest, output/best_model and output/train.log."""
    from shitu_cli.config.places import Places, as_given
    from shitu_cli.processes import launch
    from shitu_cli.processes.failures import TRAINING
    from shitu_cli.steps.train import require_network, require_teacher, train_frozen, training_config
    from shitu_cli.steps.train import train as run
    from shitu_cli.stores import absolute
    from shitu_cli.weights.store import given_start

    session = Session.of(context)
    evaluates = None if eval_during_train is None else options.parse_bool("--eval-during-train", eval_during_train)
    start = None if pretrained is None else given_start(pretrained)
    flags: dict[str, object] = {
        "Global.epochs": epochs,
        "DataLoader.Train.sampler.batch_size": batch_size,
        "Optimizer.lr.learning_rate": lr,
        "Global.device": device,
        "Global.seed": seed,
        "DataLoader.Train.loader.num_workers": num_workers,
        "Global.eval_during_train": evaluates,
        "Arch.Backbone.pretrained": None if start is None else start.source,
        "Loss.Train.+TeacherLoss.teacher": None if teacher is None else as_given(teacher),
        "Loss.Train.+TeacherLoss.unlabelled": None if unlabelled is None else absolute(unlabelled),
    }
    _refuse_ignored(session, dry_run=dry_run, frozen=frozen, resume=resume, nnodes=nnodes)
    space = opening.open_workspace(session, config)
    resumed = _config_of_run(session, space, config, override, flags) if resume else config
    if unlabelled is not None and teacher is None:
        require_teacher(space, resumed, override or ())
    settings = training_config(space, resumed, override or (), flags, init_from=init_from, resume=resume, frozen=frozen)
    if start is not None:
        require_network(settings, start)
    if dry_run:
        from shitu_cli.cli.dry_run import show_cost
        from shitu_cli.steps.training_costs import cost_of_train

        show_cost(session.console, cost_of_train(settings, init_from=init_from, keep=keep))
        return
    places = Places.of(settings)
    meeting = launch.Meeting(nnodes, node_rank, master, places.workspace.machines_secret, secret_file)
    show_line, wish = session.console.info, settings.Global.device
    if launch.launch(devices, output=places.output, advice=TRAINING, meeting=meeting, device=wish, show_line=show_line):
        return
    if frozen:
        learned = train_frozen(
            settings, init_from=init_from, keep=keep, keep_earlier=keep_earlier, views=views, neck=neck,
            reporter=session.console,
        )  # fmt: skip
        _show_projection(session, learned)
        return
    result = run(
        settings,
        resume=resume,
        init_from=init_from,
        save_every_steps=save_every_steps,
        keep=keep,
        keep_earlier=keep_earlier,
        reporter=session.console,
    )
    if result is not None:
        _show_result(session, space, result)


def _refuse_ignored(session: Session, *, dry_run: bool, frozen: bool, resume: bool, nnodes: int) -> None:
    """Raise UsageError for options that have no effect beside the others."""
    several = ["--devices", *(["--nnodes"] if nnodes > 1 else [])]
    if dry_run:
        session.refuse(*several, "--resume", why="--dry-run measures a new run in one process")
        of_frozen = "which takes about as long as evaluating the training images once for each of its --views"
        session.refuse(
            "--frozen", why=f"--dry-run measures steps of training; --frozen only computes features, {of_frozen}"
        )
    if frozen:
        session.refuse(
            *(*several, "--resume", "--teacher", "--unlabelled", "--save-every-steps", "--epochs", "--lr"),
            why="--frozen is a single step in one process",
        )
    else:
        session.refuse("--views", "--neck", why="only --frozen learns a projection", hint="add --frozen")
    if resume:
        session.refuse("--pretrained", why="--resume continues with the weights of the run")
    if session.given("--init-from") and session.given("--pretrained"):
        raise UsageError("--init-from and --pretrained both choose the weights to start from", hint="give one of them")
    if not session.given("--nnodes"):
        session.refuse(
            "--master",
            "--node-rank",
            "--secret-file",
            why="only for training on several machines",
            hint="say how many there are, as in --nnodes 2",
        )


def _show_projection(session: Session, result: FrozenResult) -> None:
    """Show what a projection of the features of a trained network reaches, and the next step."""
    if session.console.as_json:
        session.console.json(dataclasses.asdict(result))
    session.console.info(f"done in {duration(result.seconds)}")
    session.console.next_step(Command("evaluate") if result.after else Command("export"))


def _config_of_run(
    session: Session, space: Workspace, config: Path | None, override: list[str] | None, flags: dict[str, object]
) -> Path | None:
    """Return the config that the run to resume was started with; options given now override it."""
    from shitu_cli.config.places import Places
    from shitu_cli.steps.settings import workspace_config

    if config is not None or not space.config_path.is_file():
        return config
    snapshot = Places.of(workspace_config(space, None, override or (), flags)).output / "config.yaml"
    if not snapshot.is_file():
        return None
    if space.config_path.stat().st_mtime > snapshot.stat().st_mtime:
        session.console.warn(
            f"shitu.yaml was changed after this run began; resuming uses the config that it began with ({snapshot}). "
            "Give changes with -o, or start a new run"
        )
    return snapshot


def _show_result(session: Session, space: Workspace, result: TrainResult) -> None:
    """Show the result of a run and the next step."""

    from shitu_cli.steps.status import export_command

    console = session.console
    if console.as_json:
        console.json(dataclasses.asdict(result))
    if result.interrupted:
        console.info(f"stopped in epoch {result.epochs_done + 1}; everything is saved")
        console.next_step(Command("train", "--resume", without=("--init-from",)))
        raise typer.Exit(130)
    text = f"trained {counted(result.epochs_done, 'epoch')} in {duration(result.elapsed_seconds)}"
    if result.evaluation_seconds >= 0.05 * result.elapsed_seconds:
        parts = f"{duration(result.seconds)} of training, {duration(result.evaluation_seconds)}"
        text += f" ({parts} of evaluation)"
    if result.epoch_losses:
        text += f", loss {result.epoch_losses[0]:.3f} → {result.epoch_losses[-1]:.3f}"
    if result.best_score is not None and result.score_before is None:
        text += f", best {result.score} {result.best_score:.4f} after epoch {result.best_epoch}"
    console.info(text)
    if result.best_score is not None and result.score_before is not None:
        console.info(_gain(result.score, result.score_before, result.best_score, result.best_epoch or 0))
    if result.evaluations and result.best_score is None:
        console.warn(
            "no evaluation could tell the images apart: the features nearly coincide, so best_model holds the newest "
            "weights. Train longer (--epochs); if that does not help, try a lower rate (--lr) or published weights"
        )
    evaluates = (space.lists_dir / "query_list.txt").is_file() or not space.lists_dir.is_dir()
    console.next_step(Command("evaluate") if evaluates else export_command(space))


def _gain(score: str, before: float, best: float, epoch: int) -> str:
    """Return a sentence that compares the trained weights with those that training started from."""
    if epoch:
        return f"{score} before training {before:.4f}, now {best:.4f}: best_model holds the weights of epoch {epoch}"
    kept = "as they were" if best == before else f"with a projection of their features: {score} {best:.4f}"
    return f"{score} before training {before:.4f}; no epoch beat that: best_model holds the first weights {kept}"
