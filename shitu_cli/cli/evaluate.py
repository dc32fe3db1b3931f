"""`shitu evaluate`: exact retrieval metrics over the query and gallery lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config
    from shitu_cli.retrieval.evaluate import EvalResult
    from shitu_cli.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    device: options.DeviceOption = None,
    model: Annotated[
        Path | None, typer.Option(help="Exported directory, ONNX file or checkpoint; default: the best one.")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Keep features for the next evaluation.")] = True,
    as_json: options.JsonOption = False,
) -> None:
    """Measure recall@k, mAP and friends of the best checkpoint; leaves reports/evaluate.json."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import load_workspace_config, open_workspace
    from shitu_cli.infer.load import load_engine
    from shitu_cli.model.runtime import setup_paddle
    from shitu_cli.retrieval.evaluate import evaluate_model
    from shitu_cli.workspace import atomic_write_json

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    settings = load_workspace_config(space, config, override, options.flag_overrides(device=device))
    base = (config or space.config_path).resolve().parent
    setup_paddle(settings.Global.device)
    engine = load_engine(model or _trained(space, settings), settings)
    console.reporter().info(f"{model or 'the best checkpoint'}, run by {engine.description}")
    result = evaluate_model(
        engine, settings, base, console.reporter(), cache=space.cache_dir / "features" if cache else None
    )
    values = result.to_json()
    atomic_write_json(space.reports_dir / "evaluate.json", values)
    if as_json:
        console.print_json(values)
    _show(result, space)


def _trained(space: Workspace, config: Config) -> Path:
    from shitu_cli.config.load import resolve_path

    return resolve_path(space.root, config.Global.output_dir) / "best_model"


def _show(result: EvalResult, space: Workspace) -> None:
    from shitu_cli.cli import console

    reporter = console.reporter()
    intervals = result.to_json()["intervals_95"]
    rows = []
    for name, value in result.metrics.items():
        low_high = intervals.get(name)
        rows.append([name, f"{value:.4f}", f"{low_high[0]:.3f} – {low_high[1]:.3f}" if low_high else ""])
    print_title = f"{result.queries:,} queries against {result.gallery:,} gallery pictures"
    console.print_table(print_title, ["metric", "value", "95 % interval"], rows)
    if result.unanswerable:
        reporter.warn(f"{result.unanswerable} queries have no picture of their label in the gallery: not in the means")
    if result.skipped:
        reporter.warn(f"{len(result.skipped)} pictures could not be read and were left out: {result.skipped[0]} ...")
    worst = result.confusions(3)
    if worst:
        pairs = "; ".join(f"{row['name']} taken for {row['found_name']} ({row['n']})" for row in worst)
        reporter.info(f"most confused: {pairs}")
    reporter.info(f"all figures: {space.reports_dir / 'evaluate.json'}")
    console.next_step("shitu export --out inference/")
