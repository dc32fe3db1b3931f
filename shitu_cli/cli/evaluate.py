"""`shitu evaluate`: exact retrieval metrics over the query and gallery lists."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.cli.grouped import STEPS, GroupedCommand
from shitu_cli.cli.options import option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command, ConfigError, EnvironmentProblem
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.cli.console import Console
    from shitu_cli.config.schema import Config
    from shitu_cli.evaluation.evaluate import EvalResult
    from shitu_cli.workspace import Workspace

NAMED = ("re_ranking", "feature_normalize", "feature_binarize", "device")  # overrides that the report names anyway

MEASURE = "What is measured"

HARDLY_TRAINED = (
    "The network is hardly trained yet, or training has collapsed: train longer (train --epochs); if that does not "
    "help, try a lower rate (train --lr) or published weights"
)


def register(app: typer.Typer) -> None:
    app.command("evaluate", cls=GroupedCommand, rich_help_panel=STEPS)(evaluate)


def evaluate(
    context: typer.Context,
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    device: options.DeviceOption = None,
    devices: options.DevicesOption = None,
    model: Annotated[
        Path | None,
        option(options.MODEL, "Exported directory, ONNX file or checkpoint; by default the best checkpoint."),
    ] = None,
    pretrained: options.PretrainedOption = None,
    precision: options.PrecisionOption = None,
    flip: Annotated[bool, option(MEASURE, "Add the features of the mirrored images.", "--flip")] = False,
    rerank: Annotated[bool, option(MEASURE, "k-reciprocal re-ranking (Global.re_ranking).", "--rerank")] = False,
    query_expansion: Annotated[
        int, option(MEASURE, "Move each query towards this many of its nearest gallery images.", low=0, high=1000)
    ] = 0,
    far: Annotated[
        list[float] | None,
        option(
            MEASURE,
            "How many false accepts the suggested threshold may let through, as a share of pairs; by default 0.001. "
            "search --threshold auto uses it. May be repeated: the first is suggested, the others are reported.",
            low=0.0,
            high=1.0,
        ),
    ] = None,
    cache: Annotated[bool, option(options.PROCESSOR, "Keep features for the next evaluation.")] = True,
    as_json: options.JsonOption = False,
) -> None:
    """Measure recall@k, mAP and friends of the best checkpoint; leaves reports/evaluate.json and evaluate.html.

    Figures of another model, of --flip, --rerank, --query-expansion or of other config values are left in
    reports/evaluate-with-options.json and .html instead.
    """
    from shitu_cli.cli.common import chosen_model, open_workspace
    from shitu_cli.config.places import Places
    from shitu_cli.processes import launch
    from shitu_cli.steps.evaluate import evaluate as run
    from shitu_cli.steps.settings import with_lists, workspace_config
    from shitu_cli.steps.status import export_command

    session = Session.of(context)
    console = session.console
    space = open_workspace(session, config)
    flags = {"Global.device": device, "Global.re_ranking": rerank or None}
    settings = with_lists(workspace_config(space, config, override or (), flags), ("query", "gallery"))
    model = chosen_model(session, model, pretrained)
    if pretrained is not None and model is not None:
        from shitu_cli.deployment.pretrained import with_preprocessing

        settings = with_preprocessing(settings, model)
    if launch.launch(devices, nnodes=1, node_rank=0, master=None, output=Places.of(settings).cache / "processes"):
        return
    evaluation = run(
        settings,
        model=model,
        precision=precision,
        flip=flip,
        query_expansion=query_expansion,
        accept_rates=far or (),
        cache=cache,
        other_options=_other_options(space, settings, config, override or ()),
        reporter=console,
    )
    if evaluation is None:
        return
    problem, file = None, None
    try:
        file = evaluation.write_reports()
    except EnvironmentProblem as refused:
        problem = refused
    if as_json:
        console.json(evaluation.values)
    else:
        _show(console, evaluation.result, evaluation.values, far or [])
    if problem is not None or file is None:  # only now: the figures are not lost with it
        raise problem or AssertionError
    console.info(f"all figures: {file}, with images: {file.stem}.html beside it")
    trained = evaluation.result.ranking.coincidence() is None
    console.next_step(export_command(space) if trained else Command("train"))


def _other_options(space: Workspace, settings: Config, config: Path | None, overrides: Sequence[str]) -> list[str]:
    """Return the -c and -o that make the figures others than those of a plain `shitu evaluate`."""
    from shitu_cli.steps.settings import with_lists, workspace_config

    words = []
    own = config is None or not space.config_path.is_file() or config.resolve() == space.config_path
    if not own:
        words.append(f"-c {shlex.quote(str(config))}")
    try:
        plain = _decisive(with_lists(workspace_config(space, config)))
    except ConfigError:  # it needs the overrides
        plain = ()
    if _decisive(settings) != plain:
        others = [text for text in overrides if text.partition("=")[0].rpartition(".")[2] not in NAMED]
        words += [f"-o {shlex.quote(text)}" for text in others]
    return words


def _decisive(settings: Config) -> tuple[object, ...]:
    """Return what of a config decides which features are ranked, beside what has an option of its own."""
    loaders, chosen = settings.DataLoader, settings.Global
    lists = [None if part is None else part.dataset for part in (loaders.query, loaders.gallery)]
    return settings.Arch, chosen.output_dir, chosen.retrieval_feature_from, *lists


def _show(console: Console, result: EvalResult, values: dict[str, Any], rates: list[float]) -> None:
    from shitu_cli.report.evaluation import options_of

    reporter = console
    rows = []
    for name, value in result.metrics.items():
        interval = values["intervals_95"].get(name)
        rows.append([name, f"{value:.4f}", f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else ""])
    title = f"{counted(result.queries, 'query')} against {counted(result.gallery, 'gallery image')}"
    title += f" (with {' '.join(options_of(values))})" if options_of(values) else ""
    coincidence = result.ranking.coincidence()
    if coincidence is None:
        console.table(title, ["metric", "value", "95 % interval"], rows)
        answerable = result.ranking.answerable
        reporter.info(
            f"{int(result.ranking.hits[answerable, 0].sum()):,} of {counted(int(answerable.sum()), 'query')} found "
            f"an image of the right class first (recall@1), each among the {result.gallery:,} gallery images"
        )
    else:
        reporter.warn(f"{title}: {coincidence}. {HARDLY_TRAINED}")
    if result.unanswerable:
        reporter.warn(
            f"{counted(result.unanswerable, 'query')} without an image of the same label in the gallery: "
            "not in the means"
        )
    if result.skipped:
        count = counted(len(result.skipped), "image")
        reporter.warn(f"left out as unreadable: {count}, such as {result.skipped[0]}")
    if result.collapsed and coincidence is None:
        reporter.warn(
            "features of different classes are still nearly the same: train longer; if that does not help, training "
            "has collapsed: try a lower rate (train --lr), published weights, or Head.margin_warmup"
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
