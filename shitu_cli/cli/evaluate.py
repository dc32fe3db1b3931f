"""`shitu evaluate`: exact retrieval metrics over the query and gallery lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.errors import UsageError
from shitu_cli.reporting import counted

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
    devices: Annotated[
        str | None, typer.Option(help="Several processes: 0,1,2,3 (GPUs) or cpu:2.", show_default=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Exported directory, ONNX file or checkpoint; default: the best one.")
    ] = None,
    precision: options.PrecisionOption = None,
    flip: Annotated[bool, typer.Option("--flip", help="Add the features of the mirrored pictures.")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="k-reciprocal re-ranking (Global.re_ranking).")] = False,
    query_expansion: Annotated[
        int, typer.Option(min=0, help="Move queries towards so many of their nearest gallery pictures.")
    ] = 0,
    far: Annotated[
        list[float] | None,
        typer.Option(help="Also report the threshold that keeps this false-accept rate.", show_default=False),
    ] = None,
    cache: Annotated[bool, typer.Option(help="Keep features for the next evaluation.")] = True,
    as_json: options.JsonOption = False,
) -> None:
    """Measure recall@k, mAP and friends of the best checkpoint; leaves reports/evaluate.json and evaluate.html."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import load_workspace_config, open_workspace
    from shitu_cli.data.reader_classes import as_lists
    from shitu_cli.train import distributed

    console.configure(as_json=as_json)
    space = open_workspace(workspace, config)
    flags = options.flag_overrides(device=device) | ({"Global.re_ranking": True} if rerank else {})
    settings = as_lists(load_workspace_config(space, config, override, flags), space.root, space.cache_dir / "lists")
    rates = _rates(far or [])
    if distributed.launch(devices, nnodes=1, node_rank=0, master=None, output=space.cache_dir / "processes"):
        return
    result = _evaluate(
        space, settings, model, precision, flip=flip, expansion=query_expansion, rates=rates, cache=cache
    )
    if result is None:
        return
    values = result.to_json()
    _write(result, values, space, settings)
    if as_json:
        console.print_json(values)
    else:
        _show(result, values, space, rates)


def _evaluate(
    space: Workspace,
    settings: Config,
    model: Path | None,
    precision: str | None,
    *,
    flip: bool,
    expansion: int,
    rates: list[float],
    cache: bool,
) -> EvalResult | None:
    """Run the engine over both lists, in this process or as one of several."""
    from shitu_cli.cli import console
    from shitu_cli.model.runtime import setup_paddle
    from shitu_cli.train import distributed

    reporter = console.reporter() if distributed.is_main() else console.silent()
    setup_paddle(distributed.own_device(settings.Global.device), distributed.own_threads())
    from shitu_cli.infer.load import load_engine
    from shitu_cli.retrieval.cache import FeatureCache
    from shitu_cli.retrieval.evaluate import evaluate_model
    from shitu_cli.train.ranks import join

    processes = join()
    engine = load_engine(model or _output(space, settings) / "best_model", settings, precision=precision)
    reporter.info(f"{model or 'the best checkpoint'}, run by {engine.told()}")
    if model is None and _trained_on_others(space, settings):
        reporter.warn(
            "the training list has changed since this model was trained: it may have seen what it is asked now "
            "(shitu train trains on the new lists)"
        )
    return evaluate_model(
        engine,
        settings,
        space.root,
        reporter,
        cache=FeatureCache(space.cache_dir / "features") if cache else None,
        processes=processes,
        flip=flip,
        expansion=expansion,
        accept_rates=rates,
    )


def _trained_on_others(space: Workspace, settings: Config) -> bool:
    """Whether the best checkpoint says that its training list was another than that of now."""
    import json

    from shitu_cli.config.load import resolve_path
    from shitu_cli.workspace import sha256_of

    split = settings.DataLoader.train
    now = None if split is None else resolve_path(space.root, split.dataset.cls_label_path)
    try:
        states = (_output(space, settings) / "best_model.pdstates").read_text(encoding="utf-8")
        then = json.loads(states)["run"]["train_list"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # weights from elsewhere do not say
    return bool(now is not None and now.is_file() and sha256_of(now) != then)


def _rates(given: list[float]) -> list[float]:
    wrong = [rate for rate in given if not 0 < rate < 1]
    if wrong:
        raise UsageError(f"--far {wrong[0]:g}: expected a share of pairs between 0 and 1, such as 0.001")
    return given


def _write(result: EvalResult, values: dict[str, Any], space: Workspace, settings: Config) -> None:
    from shitu_cli.report.evaluate_page import write_evaluate_page
    from shitu_cli.train.history import read_histories
    from shitu_cli.workspace import atomic_write_json

    atomic_write_json(space.reports_dir / "evaluate.json", values)
    runs = read_histories(_output(space, settings))
    write_evaluate_page(result, values, runs, space.reports_dir / "evaluate.html")


def _output(space: Workspace, settings: Config) -> Path:
    from shitu_cli.config.load import resolve_path

    return resolve_path(space.root, settings.Global.output_dir)


def _show(result: EvalResult, values: dict[str, Any], space: Workspace, rates: list[float]) -> None:
    from shitu_cli.cli import console
    from shitu_cli.cli.common import export_command
    from shitu_cli.report.evaluate_page import SUGGESTED

    reporter = console.reporter()
    rows = []
    for name, value in result.metrics.items():
        interval = values["intervals_95"].get(name)
        rows.append([name, f"{value:.4f}", f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else ""])
    title = f"{result.queries:,} queries against {result.gallery:,} gallery pictures"
    console.print_table(title, ["metric", "value", "95 % interval"], rows)
    if result.unanswerable:
        asked = counted(
            result.unanswerable, "query has no picture of its label", "queries have no picture of their label"
        )
        reporter.warn(f"{asked} in the gallery: not in the means")
    if result.skipped:
        reporter.warn(
            f"left out as they cannot be read: {counted(len(result.skipped), 'picture')}, such as {result.skipped[0]}"
        )
    if result.collapsed:
        reporter.warn(
            "features of different classes are still nearly the same: train longer; if that does not help, training "
            "has collapsed: try a lower rate (shitu train --lr), published weights, or Head.margin_warmup"
        )
    chosen = [row for row in values["accept_rates"] if row["far"] == SUGGESTED or row["far"] in rates]
    for row in chosen:
        reporter.info(
            f"threshold {row['threshold']:.3f} accepts at most {row['far']:g} of the pairs of other classes, and "
            f"{row['tar']:.4f} of those of the same class"
        )
    worst = values["confusions"][:3]
    if worst:
        pairs = "; ".join(f"{row['name']} taken for {row['found_name']} ({row['n']})" for row in worst)
        reporter.info(f"most confused: {pairs}")
    reporter.info(f"all figures: {space.reports_dir / 'evaluate.json'}, with pictures: evaluate.html beside it")
    console.next_step(export_command(space))
