"""`shitu train`: from the prepared lists to trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config
    from shitu_cli.training.options import TrainResult
    from shitu_cli.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def train(
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    epochs: options.EpochsOption = None,
    batch_size: options.BatchSizeOption = None,
    lr: options.LrOption = None,
    device: options.DeviceOption = None,
    devices: Annotated[
        str | None, typer.Option(help="Several processes: 0,1,2,3 (GPUs) or cpu:2.", show_default=False)
    ] = None,
    nnodes: Annotated[int, typer.Option(min=1, help="Machines that train together.")] = 1,
    master: Annotated[
        str | None, typer.Option(help="host:port of the first machine, with --nnodes.", show_default=False)
    ] = None,
    node_rank: Annotated[int, typer.Option(min=0, help="Which of the machines this is, from 0.")] = 0,
    seed: options.SeedOption = None,
    num_workers: options.WorkersOption = None,
    eval_during_train: options.EvalDuringTrainOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where the last run stopped.")] = False,
    init_from: Annotated[
        Path | None, typer.Option(help="Start from these weights; their head may be of other classes.")
    ] = None,
    save_every_steps: Annotated[
        int | None, typer.Option(min=1, help="Save inside epochs too, every so many steps.", show_default=False)
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="How many saves to keep under output/checkpoints/; default: one.", show_default=False),
    ] = None,
    keep_earlier: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many earlier models to keep in output/earlier/; default: all.", show_default=False
        ),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Train the network on the prepared lists; leaves output/latest, output/best_model and output/train.log."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import load_workspace_config, open_workspace
    from shitu_cli.data.reader_classes import SPLITS
    from shitu_cli.processes import launch

    console.configure(as_json=as_json, override=override, device=device)
    flags = options.flag_overrides(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        seed=seed,
        num_workers=num_workers,
        eval_during_train=eval_during_train,
    )
    space = open_workspace(workspace, config)
    own = _own_config(space, config, override, flags) if resume else config
    settings = load_workspace_config(space, own, override, flags, needed=SPLITS)
    if launch.launch(
        devices,
        nnodes=nnodes,
        node_rank=node_rank,
        master=master,
        output=space.output_dir,
        tell=console.reporter().info,
    ):
        return
    base = space.root
    saving = {"save_every_steps": save_every_steps, "keep": keep, "keep_earlier": keep_earlier}
    result = _run(space, base, settings, saving, resume, init_from)
    if result is not None:
        _tell(space, result, devices, as_json)


def _own_config(
    space: Workspace, config: Path | None, override: list[str] | None, flags: dict[str, object]
) -> Path | None:
    """The config that the run to resume was started with, its options included; what is given now comes on top."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import load_workspace_config
    from shitu_cli.config.load import resolve_path

    if config is not None or not space.config_path.is_file():
        return config
    output = resolve_path(space.root, load_workspace_config(space, None, override, flags).Global.output_dir)
    snapshot = output / "config.yaml"
    if not snapshot.is_file():
        return None
    if space.config_path.stat().st_mtime > snapshot.stat().st_mtime:
        console.reporter().warn(
            f"shitu.yaml was changed after this run began; resuming keeps the run's own config ({snapshot}): "
            "give changes with -o, or start a new run"
        )
    return snapshot


def _run(
    space: Workspace, base: Path, config: Config, saving: dict[str, int | None], resume: bool, init_from: Path | None
) -> TrainResult | None:
    """Build everything, train, and return the result (on the first process)."""
    from shitu_cli.cli import console
    from shitu_cli.processes import launch
    from shitu_cli.runtime.setup import setup_paddle

    reporter = console.reporter() if launch.is_main() else console.silent()
    chosen = setup_paddle(launch.own_device(config.Global.device))
    from shitu_cli.processes.collectives import join
    from shitu_cli.training.options import TrainOptions
    from shitu_cli.training.run import run_training

    return run_training(
        config,
        base,
        device=chosen,
        ranks=join(),
        reporter=reporter,
        options=TrainOptions(**saving),  # type: ignore[arg-type]
        resume=resume,
        init_from=init_from,
        lock=space.lock,
    )


def _tell(space: Workspace, result: TrainResult, devices: str | None, as_json: bool) -> None:
    """What came out, and what to do next."""
    import dataclasses

    from shitu_cli.cli import console
    from shitu_cli.cli.common import export_command
    from shitu_cli.training.log import format_seconds

    if as_json:
        console.print_json(dataclasses.asdict(result))
    if result.interrupted:
        console.reporter().info(f"stopped in epoch {result.epochs_done + 1}; everything is saved")
        console.next_step("shitu train --resume" + (f" --devices {devices}" if devices else ""))
        raise typer.Exit(130)
    text = f"trained {counted(result.epochs_done, 'epoch')} in {format_seconds(result.elapsed_seconds)}"
    if result.evaluation_seconds >= 0.05 * result.elapsed_seconds:
        parts = f"{format_seconds(result.seconds)} of training, {format_seconds(result.evaluation_seconds)}"
        text += f" ({parts} of evaluation)"
    if result.epoch_losses:
        text += f", loss {result.epoch_losses[0]:.3f} → {result.epoch_losses[-1]:.3f}"
    if result.best_score is not None:
        text += f", best recall@1 {result.best_score:.4f} after epoch {result.best_epoch}"
    console.reporter().info(text)
    evaluates = (space.lists_dir / "query_list.txt").is_file() or not space.lists_dir.is_dir()
    console.next_step("shitu evaluate" if evaluates else export_command(space))
