"""`shitu evaluate`: exact retrieval metrics over the query and gallery lists."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import option
from shitu_cli.cli.session import Session
from shitu_cli.config.arguments import EXPANSION, FOLDS, PORTION
from shitu_cli.errors import Command, ConfigError, EnvironmentProblem, ShituError, UsageError
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config
    from shitu_cli.features.shard_file import Share
    from shitu_cli.steps.evaluate import Evaluation

NAMED = (
    "re_ranking",
    "feature_normalize",
    "feature_binarize",
    "device",
)  # overrides that the report names by other options

MEASURE = "What is measured"


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
    flip: Annotated[
        bool, option(MEASURE, "Add the features of each image's mirror image to its own.", "--flip")
    ] = False,
    rerank: Annotated[
        bool, option(MEASURE, "Rank neighbours again by their own neighbours (k-reciprocal re-ranking).", "--rerank")
    ] = False,
    query_expansion: Annotated[
        int, option(MEASURE, "Move each query towards this many of its nearest gallery images.", within=EXPANSION)
    ] = 0,
    far: Annotated[
        list[float] | None,
        option(
            MEASURE,
            "How many photos of things that are not in the index may wrongly get an answer, as a share; by default "
            "0.05. The threshold that keeps to it is what search --threshold auto uses. May be repeated: the threshold "
            "of the first is suggested, those of the others are reported.",
            within=PORTION,
        ),
    ] = None,
    unknown: Annotated[
        list[str] | None,
        option(
            MEASURE,
            "Measure the threshold on these photos of things that are not in the gallery: a folder, a list or images. "
            "By default, each class that was not trained is left out of the gallery in turn.",
            metavar="PHOTOS",
        ),
    ] = None,
    cross_fit: Annotated[
        int | None,
        option(
            MEASURE,
            "For a network that was trained on every class: train it again this many times, each time without some of "
            "the classes, and measure the threshold on those. Each training takes as long as the first; all are kept.",
            within=FOLDS,
        ),
    ] = None,
    cache: Annotated[
        bool, option(options.PROCESSOR, "Keep the features, so that the next evaluation need not compute them.")
    ] = True,
    shard: options.ShardOption = None,
    merge: Annotated[
        list[str] | None,
        option(
            options.PROCESSOR,
            "Evaluate the features that --shard computed: their files, or folder. May be repeated.",
            metavar="SHARDS",
        ),
    ] = None,
    dry_run: options.DryRunOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure how well images find their class in the gallery: recall@k, mAP and more; writes reports/evaluate.html.

    Figures of another model, of --flip, --rerank, --query-expansion or of other config values go to
    reports/evaluate-with-options.json and .html instead. The page shows all metrics, all classes, and the images.
    """
    from shitu_cli.processes import launch, this_process
    from shitu_cli.processes.failures import Advice
    from shitu_cli.steps.evaluate import evaluate as run
    from shitu_cli.steps.settings import with_lists, workspace_config

    session = Session.of(context)
    console = session.console
    space = opening.open_workspace(session, config)
    flags = {"Global.device": device, "Global.re_ranking": rerank or None}
    settings = with_lists(workspace_config(space, config, override or (), flags), ("query", "gallery"))
    model = opening.chosen_model(session, model, pretrained, dry_run=dry_run)
    model = model or opening.weights_override(session, settings, dry_run=dry_run)
    classifies = settings.classifies and pretrained is None
    if classifies:
        from shitu_cli.cli.classifier import refuse_options, show_classifier

        refuse_options(session)
    _refuse_conflicts(session, dry_run, shard, merge, cross_fit)
    share = opening.share_of(shard)
    if dry_run:
        from shitu_cli.cli.dry_run import show_cost
        from shitu_cli.steps.training_costs import cost_of_evaluate

        cost = cost_of_evaluate(
            settings,
            model=model,
            precision=precision,
            flip=flip,
            query_expansion=query_expansion,
            cross_fit=cross_fit or 0,
            share=share,
            merge=merge or (),
            unknown=unknown or (),
            cache=cache,
        )
        show_cost(console, cost)
        return
    if share is not None:
        _evaluate_share(session, settings, share, model=model, precision=precision, flip=flip)
        return
    advice = Advice(EnvironmentProblem, ["run it again: ", Command("evaluate")])
    logs = space.cache_dir / "processes"
    if launch.launch(devices, output=logs, advice=advice, device=settings.Global.device):
        return
    if cross_fit is not None and this_process.world() > 1:
        raise UsageError("--cross-fit can only train in one process", hint="start the command without a launcher")
    if classifies:
        show_classifier(console, settings, model, cache=cache)
        return
    evaluation = run(
        settings,
        model=model,
        precision=precision,
        flip=flip,
        query_expansion=query_expansion,
        unknown=unknown or (),
        false_answers=far or (),
        cross_fit=cross_fit or 0,
        cache=cache,
        shards=merge or (),
        other_options=other_options(space, settings, config, override or ()),
        reporter=console,
    )
    if evaluation is not None:
        _finish(console, space, evaluation, far or [])


def _refuse_conflicts(
    session: Session, dry_run: bool, shard: str | None, merge: list[str] | None, cross_fit: int | None
) -> None:
    """Raise UsageError for options that exclude each other."""
    if dry_run:
        session.refuse("--devices", why="--dry-run measures one process", hint="leave out --devices")
    if shard is not None and merge:
        raise UsageError("--shard computes one part, --merge evaluates all parts together", hint="give one of them")
    if shard is not None:
        session.refuse("--devices", why="--shard is for one process", hint="start a process for each part")
    if merge:
        session.refuse("--devices", why="--merge computes no features", hint="leave out --devices")
    if cross_fit is not None and session.given("--devices", "--unknown"):
        raise UsageError("--cross-fit cannot be combined with --devices or --unknown", hint="leave out one of them")


def _finish(console: Console, space: Workspace, evaluation: Evaluation, shares: list[float]) -> None:
    """Write the reports, show the figures, and say what to do next."""
    from shitu_cli.cli.figures import show_figures
    from shitu_cli.report.evaluation import is_worth_deploying
    from shitu_cli.steps.status import export_command

    try:
        file = evaluation.write_reports()
    finally:  # the figures are shown even if the disk refuses the reports
        if console.as_json:
            console.json(evaluation.values)
        else:
            show_figures(console, evaluation.result, evaluation.values, shares)
    _note_in_index(console, space, evaluation.values)
    console.info(f"all figures: {file}, with images: {file.stem}.html beside it")
    console.next_step(export_command(space) if is_worth_deploying(evaluation.values) else Command("train"))


def _evaluate_share(
    session: Session, settings: Config, share: Share, *, model: Path | None, precision: str | None, flip: bool
) -> None:
    """Compute a part of the features, and propose the command that evaluates all parts."""
    from shitu_cli.steps.evaluate import evaluate_share

    file = evaluate_share(settings, share, model=model, precision=precision, flip=flip, reporter=session.console)
    if session.console.as_json:
        session.console.json({"shard": str(file), "part": share.number, "of": share.of})
    session.console.info(f"part {share.number} of {share.of}: {file}")
    if later := session.given("--rerank", "--query-expansion", "--far", "--unknown", "--cross-fit"):
        session.console.info(f"only used with --merge, not for a single part: {', '.join(later)}")
    merge = Command("evaluate", "--merge", file.parent, without=("--shard",))
    session.console.next_step(["when all parts are there: ", merge])


def _note_in_index(console: Console, space: Workspace, values: dict[str, Any]) -> None:
    """Record the threshold that a search here would use in the workspace's index, if it holds the same features."""
    from shitu_cli.report.evaluation import features_of, newest_thresholds
    from shitu_cli.steps.measured_threshold import note_in_index

    if values["unknown"] is None:  # not ranked as a search does
        return
    features = features_of(values)
    unknown = newest_thresholds(space.reports_dir, features)
    try:
        is_noted = note_in_index(space.index_dir, features, unknown)
    except ShituError as problem:  # the reports hold what was measured either way
        console.warn(f"the threshold could not be saved with the index: {problem.message}")
        return
    if is_noted and unknown:
        console.info(f"the threshold is saved in {space.index_dir} too, so a copy of the index has it")


def other_options(space: Workspace, settings: Config, config: Path | None, overrides: Sequence[str]) -> list[str]:
    """Return the -c and -o that make the figures differ from those of a plain `shitu evaluate`."""
    from shitu_cli.steps.settings import with_lists, workspace_config

    words = []
    if config is not None and space.config_path.is_file() and config.resolve() != space.config_path:
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
    """Return the config values that decide which features are ranked, except those that have an option of their own."""
    loaders, chosen = settings.DataLoader, settings.Global
    lists = [None if part is None else part.dataset for part in (loaders.query, loaders.gallery)]
    return settings.Arch, chosen.output_dir, chosen.retrieval_feature_from, *lists
