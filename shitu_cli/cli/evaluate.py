"""`shitu evaluate`: exact retrieval metrics over the query and gallery lists."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.errors import ConfigError, EnvironmentProblem, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config
    from shitu_cli.evaluation.evaluate import EvalResult
    from shitu_cli.workspace import Workspace

NAMED = ("re_ranking", "feature_normalize", "feature_binarize", "device")  # overrides that `_options` tells already

HARDLY_TRAINED = (
    "The network is hardly trained yet, or training has collapsed: train longer (shitu train --epochs); if that does "
    "not help, try a lower rate (shitu train --lr) or published weights"
)


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
        typer.Option(
            help="False-accept rate of the suggested threshold, which search --threshold auto takes; default: 0.001. "
            "Repeat it to report others too: the first one is suggested.",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[bool, typer.Option(help="Keep features for the next evaluation.")] = True,
    as_json: options.JsonOption = False,
) -> None:
    """Measure recall@k, mAP and friends of the best checkpoint; leaves reports/evaluate.json and evaluate.html.

    Figures of another model, of --flip, --rerank, --query-expansion or of other config values are left in
    reports/evaluate-with-options.json and .html instead.
    """
    from shitu_cli.cli import console
    from shitu_cli.cli.common import export_command, load_workspace_config, open_workspace
    from shitu_cli.processes import launch

    console.configure(as_json=as_json, override=override, device=device)
    space = open_workspace(workspace, config)
    flags = options.flag_overrides(device=device) | ({"Global.re_ranking": True} if rerank else {})
    settings = load_workspace_config(space, config, override, flags, needed=("query", "gallery"))
    rates = _rates(far or [])
    if launch.launch(devices, nnodes=1, node_rank=0, master=None, output=space.cache_dir / "processes"):
        return
    evaluated = _evaluate(
        space, settings, model, precision, flip=flip, expansion=query_expansion, rates=rates, cache=cache
    )
    if evaluated is None:
        return
    result, features = evaluated
    asked = _options(space, settings, config, override, model, precision, flip=flip, expansion=query_expansion)
    values = _values(result, features, asked, rates)
    file, problem = _written(result, values, space, settings)
    if as_json:
        console.print_json(values)
    else:
        _show(result, values, rates)
    if problem is not None:  # only now: the figures are not lost with it
        raise problem
    console.reporter().info(f"all figures: {file}, with pictures: {file.stem}.html beside it")
    console.next_step(export_command(space) if result.ranking.coincidence() is None else "shitu train")


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
) -> tuple[EvalResult, str] | None:
    """Run the engine over both lists, in this process or as one of several; with the features' fingerprint."""
    from shitu_cli.cli import console
    from shitu_cli.processes import launch
    from shitu_cli.runtime.setup import setup_paddle

    reporter = console.reporter() if launch.is_main() else console.silent()
    setup_paddle(launch.own_device(settings.Global.device))
    from shitu_cli.cli.common import standing
    from shitu_cli.evaluation.evaluate import evaluate_model
    from shitu_cli.features.cache import FeatureCache
    from shitu_cli.features.engine import features_fingerprint
    from shitu_cli.features.selection import load_engine, without_manifest
    from shitu_cli.processes.collectives import join

    processes = join()
    weights = standing(model or _output(space, settings) / "best_model")
    engine = load_engine(weights, settings, precision=precision)
    if model is not None and (remark := without_manifest(model)):
        reporter.warn(remark)
    reporter.info(f"{model or 'the best checkpoint'}, run by {engine.told()}")
    if model is None and _trained_on_others(space, settings):
        reporter.warn(
            "the training list has changed since this model was trained: it may have seen what it is asked now "
            "(shitu train trains on the new lists)"
        )
    result = evaluate_model(
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
    if result is None:
        return None
    features = features_fingerprint(engine.fingerprint, result.query.dataset.config.transform_ops)
    return result, f"{features}/flip" if flip else features


def _options(
    space: Workspace,
    settings: Config,
    config: Path | None,
    overrides: Sequence[str] | None,
    model: Path | None,
    precision: str | None,
    *,
    flip: bool,
    expansion: int,
) -> list[str]:
    """What makes the figures others than those of a plain `shitu evaluate`, in the words of the command line."""
    from shitu_cli.cli.common import load_workspace_config

    asked = {
        "--flip": flip,
        "--rerank": settings.Global.re_ranking,
        f"--query-expansion {expansion}": expansion,
        "-o Global.feature_normalize=False": not settings.Global.feature_normalize,
        f"-o Global.feature_binarize={settings.Global.feature_binarize}": settings.Global.feature_binarize,
        f"--model {shlex.quote(str(model))}": model,
        f"--precision {precision}": precision and not (model is None and precision == "fp32"),
    }
    words = [word for word, given in asked.items() if given]
    own = config is None or not space.config_path.is_file() or config.resolve() == space.config_path
    if not own:
        words.append(f"-c {shlex.quote(str(config))}")
    try:
        plain = _decisive(load_workspace_config(space, config))
    except ConfigError:  # it needs the overrides
        plain = ()
    if _decisive(settings) != plain:
        others = [text for text in overrides or () if text.partition("=")[0].rpartition(".")[2] not in NAMED]
        words += [f"-o {shlex.quote(text)}" for text in others]
    return words


def _decisive(settings: Config) -> tuple[object, ...]:
    """What of a config decides which features are ranked, beside what has an option of its own."""
    loaders, chosen = settings.DataLoader, settings.Global
    lists = [None if part is None else part.dataset for part in (loaders.query, loaders.gallery)]
    return settings.Arch, chosen.output_dir, chosen.retrieval_feature_from, *lists


def _values(result: EvalResult, features: str, options: list[str], rates: list[float]) -> dict[str, Any]:
    """All figures as plain values: of what, and the threshold that `shitu search --threshold auto` takes."""
    from shitu_cli.evaluation.evaluate import SUGGESTED

    values = result.to_json()
    far = rates[0] if rates else SUGGESTED
    suggested = next((row for row in values["accept_rates"] if row["far"] == far), None)
    return {"measured": {"options": options, "features": features}, **values, "suggested": suggested}


def _trained_on_others(space: Workspace, settings: Config) -> bool:
    """Whether the best checkpoint says that its training list was another than that of now."""
    from shitu_cli.config.load import resolve_path
    from shitu_cli.files import sha256_of
    from shitu_cli.training.checkpoint import read_header

    split = settings.DataLoader.train
    now = None if split is None else resolve_path(space.root, split.dataset.cls_label_path)
    header = read_header(_output(space, settings) / "best_model")
    then = None if header is None else header.get("run", {}).get("train_list")  # weights from elsewhere do not say
    return bool(then and now is not None and now.is_file() and sha256_of(now) != then)


def _rates(given: list[float]) -> list[float]:
    wrong = [rate for rate in given if not 0 < rate < 1]
    if wrong:
        raise UsageError(f"--far {wrong[0]:g}: expected a share of pairs between 0 and 1, such as 0.001")
    return given


def _written(
    result: EvalResult, values: dict[str, Any], space: Workspace, settings: Config
) -> tuple[Path, EnvironmentProblem | None]:
    """Leave JSON and page in reports/: the former's path, and what was in the way."""
    from shitu_cli.files import atomic_write_json
    from shitu_cli.report.evaluate_page import write_evaluate_page
    from shitu_cli.report.evaluation import options_of, report_file
    from shitu_cli.training.history import read_histories

    file = report_file(space.reports_dir, options_of(values))
    try:
        atomic_write_json(file, values)
        runs = read_histories(_output(space, settings))
        write_evaluate_page(result, values, runs, file.with_suffix(".html"))
    except EnvironmentProblem as problem:
        hint = problem.hint or "the figures stand above; shitu evaluate --json > evaluate.json keeps them elsewhere"
        return file, EnvironmentProblem(problem.message, hint=hint)
    return file, None


def _output(space: Workspace, settings: Config) -> Path:
    from shitu_cli.config.load import resolve_path

    return resolve_path(space.root, settings.Global.output_dir)


def _show(result: EvalResult, values: dict[str, Any], rates: list[float]) -> None:
    from shitu_cli.cli import console
    from shitu_cli.report.evaluation import options_of

    reporter = console.reporter()
    rows = []
    for name, value in result.metrics.items():
        interval = values["intervals_95"].get(name)
        rows.append([name, f"{value:.4f}", f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else ""])
    title = f"{counted(result.queries, 'query')} against {counted(result.gallery, 'gallery picture')}"
    title += f" (with {' '.join(options_of(values))})" if options_of(values) else ""
    coincidence = result.ranking.coincidence()
    if coincidence is None:
        console.print_table(title, ["metric", "value", "95 % interval"], rows)
    else:
        reporter.warn(f"{title}: {coincidence}. {HARDLY_TRAINED}")
    if result.unanswerable:
        reporter.warn(
            f"{counted(result.unanswerable, 'query')} without a picture of the same label in the gallery: "
            "not in the means"
        )
    if result.skipped:
        count = counted(len(result.skipped), "picture")
        reporter.warn(f"left out as unreadable: {count}, such as {result.skipped[0]}")
    if result.collapsed and coincidence is None:
        reporter.warn(
            "features of different classes are still nearly the same: train longer; if that does not help, training "
            "has collapsed: try a lower rate (shitu train --lr), published weights, or Head.margin_warmup"
        )
    if coincidence is not None:  # neither thresholds nor confusions mean anything then
        return
    chosen = [row for row in values["accept_rates"] if row["far"] in rates]
    for row in chosen or filter(None, [values["suggested"]]):
        reporter.info(
            f"threshold {row['threshold']:.3f} accepts at most {row['far']:g} of the pairs of other classes, and "
            f"{row['tar']:.4f} of those of the same class"
            + ("; search --threshold auto takes it" if len(chosen) > 1 and row == values["suggested"] else "")
        )
    worst = values["confusions"][:3]
    if worst:
        pairs = "; ".join(f"{row['name']} taken for {row['found_name']} ({row['n']})" for row in worst)
        reporter.info(f"most confused: {pairs}")
