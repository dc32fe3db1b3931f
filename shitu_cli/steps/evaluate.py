"""`evaluate`: exact retrieval metrics over the query and gallery lists, and their reports."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shitu_cli.config.arguments import EXPANSION, FOLDS, require, require_flags, several
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.repeats import remarks_on_repeats
from shitu_cli.errors import Command, EnvironmentProblem, UsageError
from shitu_cli.evaluation.evaluate import check_answers, distinct_splits, evaluate_model
from shitu_cli.evaluation.result import EvalResult
from shitu_cli.evaluation.shards import JoinedLists, write_evaluation_shard
from shitu_cli.evaluation.thresholds import Thresholds
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.engine import Engine, features_fingerprint
from shitu_cli.features.selection import Request, load_engine, prepared_for, without_manifest
from shitu_cli.features.shard_file import Share
from shitu_cli.files import atomic_write_json, atomic_write_text
from shitu_cli.inputs import StrPath
from shitu_cli.journal import WAIT, transaction
from shitu_cli.processes import this_process
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.steps.models import changed_preparation, changed_since_training, place_of, readable
from shitu_cli.steps.settings import with_lists
from shitu_cli.steps.thresholds import Setting, measure

if TYPE_CHECKING:
    from shitu_cli.processes.collectives import Ranks


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: `result` in full, `values` as plain figures (those of `reports/evaluate.json`).

    `thresholds` is None if the ranking is not by the cosines that search gives.
    """

    config: Config = field(repr=False)
    result: EvalResult
    values: dict[str, Any] = field(repr=False)
    thresholds: Thresholds | None

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by name: `recall@1`, `mAP` and those of the config's Metric block."""
        return dict(self.result.metrics)

    def write_reports(self) -> Path:
        """Write `evaluate.json` and its page into the workspace's reports; return the former.

        Figures of an evaluation with options go to `evaluate-with-options.json`. Raises EnvironmentProblem if
        they cannot be written.
        """
        from shitu_cli.report.evaluate_page import evaluate_page
        from shitu_cli.report.evaluation import options_of, report_file
        from shitu_cli.training.history import read_histories

        places = Places.of(self.config)
        space = places.workspace
        file = report_file(space.reports_dir, options_of(self.values))
        try:
            page = evaluate_page(self.result, self.values, read_histories(places.output))
            with space.lock("prepare", command="evaluate", patience=WAIT), transaction(space) as change:
                atomic_write_json(change.path(file), self.values)
                atomic_write_text(change.path(file.with_suffix(".html")), page)
        except EnvironmentProblem as problem:
            hint = problem.advice or "the figures are above; to save them elsewhere, add: --json > evaluate.json"
            raise EnvironmentProblem(problem.message, hint=hint) from None
        return file


def evaluate(
    config: Config,
    *,
    model: StrPath | None = None,
    precision: str | None = None,
    flip: bool = False,
    query_expansion: int = 0,
    unknown: StrPath | Sequence[StrPath] = (),
    false_answers: float | Sequence[float] = (),
    cross_fit: int = 0,
    cache: bool = True,
    shards: StrPath | Sequence[StrPath] = (),
    other_options: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Evaluation | None:
    """Measure recall@k, mAP and other metrics; only the cache of features is written.

    Args:
        config: The result of `load_config`; its query and gallery lists are compared.
        model: An exported directory, an ONNX file or a checkpoint; by default the best checkpoint.
        precision: `fp32` or `bf16`; by default what the model was exported for.
        flip: Add the features of the mirrored images.
        query_expansion: Move each query towards this many of its nearest gallery images.
        unknown: Folders, lists or images of things that are not in the gallery, to measure thresholds on; by default
            the classes of the lists that the network was not trained on, each left out of the gallery.
        false_answers: Shares of such photos that may get an answer; the threshold for the first one is suggested,
            which is 0.05 by default.
        cross_fit: Where every class was trained, measure thresholds with this many more trainings, each without some
            of the classes.
        cache: Keep features for the next evaluation.
        shards: Files, folders or patterns of what `evaluate_share` wrote: their features are compared, none computed.
        other_options: Further options that change the figures, as on the command line, for the report.
        reporter: Receives progress and warnings; by default they are discarded.

    Returns None in all but the first process where the command line has started several. Raises DataError for lists and
    images that cannot be read, UsageError without trained weights.
    """
    shares = [false_answers] if isinstance(false_answers, (int, float, str)) else list(false_answers)
    invalid = [share for share in shares if isinstance(share, str) or not 0 < share < 1]
    if invalid:
        raise UsageError(f"--far {invalid[0]}: expected a share of photos between 0 and 1, such as 0.05")
    require(EXPANSION, query_expansion=query_expansion)
    require_flags(flip=flip, cache=cache)
    require(FOLDS, cross_fit=cross_fit or None)
    output, model_path = this_process.reporter_of(reporter), place_of(model)
    config = settings_for(config, model_path, output)
    if several(unknown) or shares or cross_fit:
        _require_cosines(config, query_expansion)
    places = Places.of(config)
    joined = JoinedLists(several(shards)).extract if shards else None
    engine, processes = _open(config, places, model_path, precision, output)
    lists = [RecDataset(split.dataset) for split in distinct_splits(config)]
    check_answers(lists[0], lists[-1])
    kept = FeatureCache(places.workspace.cache_dir / "features") if cache else None
    result = evaluate_model(
        engine,
        config,
        output,
        cache=kept,
        processes=processes,
        flip=flip,
        expansion=query_expansion,
        extract=joined,
    )
    if result is None:
        return None
    for remark in remarks_on_repeats([part.dataset for part in result.lists]):
        output.warn(remark)
    setting = Setting(config, result, engine, model_path, flip, kept, output, cross_fit)
    thresholds = measure(setting, unknown=several(unknown), wanted=shares)
    features = features_fingerprint(engine.fingerprint, result.query.dataset.config.transform_ops)
    words = [*measuring_options(config, model_path, precision, flip=flip, expansion=query_expansion), *other_options]
    measured = {
        "options": words,
        "features": f"{features}/flip" if flip else features,
        "model": _model_name(config, model_path, places),
    }
    values = {
        "measured": measured,
        **result.to_json(),
        "unknown": None if thresholds is None else thresholds.to_json(),
    }
    return Evaluation(config, result, values, thresholds)


def settings_for(config: Config, model: Path | None, output: Reporter) -> Config:
    """Return the config with plain lists, whose images are prepared as search prepares them for an exported model.

    Raises DataError if the lists are missing or damaged.
    """
    config = with_lists(config, ("query", "gallery"))
    if model is None:
        return config
    config, is_other = prepared_for(config, model)
    if is_other:
        if given := _overridden(config):
            raise UsageError(
                f"{given} has no effect: {model} prepares images in its own way, as in a search",
                hint="leave it out, or evaluate a checkpoint",
            )
        output.info(f"{model} prepares images in its own way, as in a search, not as the config says")
    return config


def _overridden(config: Config) -> str | None:
    """Return an option that changes how images are prepared for evaluation, None without one."""
    origins = (
        origin
        for key, origin in config.origins.items()
        if key.startswith("DataLoader.Eval.") and "transform_ops" in key and origin.startswith("-o")
    )
    return next(origins, None)


def _require_cosines(config: Config, query_expansion: int) -> None:
    """Raise UsageError if no threshold can be measured, as the evaluation ranks otherwise than a search."""
    ways = {
        "--query-expansion": query_expansion,
        "--rerank": config.Global.re_ranking,
        "Global.feature_binarize": config.Global.feature_binarize,
        "Global.feature_normalize: false": not config.Global.feature_normalize,
    }
    usual = {"Global.feature_binarize": "null", "Global.feature_normalize: false": "true"}
    if other := [name for name, is_used in ways.items() if is_used]:
        keys = [f"{name.partition(':')[0]}={value}" for name, value in usual.items() if name in other]
        words = [word for key in keys for word in ("-o", key)]
        raise UsageError(
            "--unknown, --far and --cross-fit measure a threshold for the cosines that a search compares, but with "
            f"{', '.join(other)} images are ranked by something else",
            hint=[
                "measure the threshold by itself: ",
                Command("evaluate", *words, without=("--query-expansion", "--rerank")),
            ],
        )


def evaluate_share(
    config: Config,
    share: Share,
    *,
    model: StrPath | None = None,
    precision: str | None = None,
    flip: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Compute the features of a share of the query and gallery lists; return the shard, a file in the reports.

    `evaluate` with all `shards` then gives the figures of one process. The other arguments are those of `evaluate`.
    """
    output, model_path = this_process.reporter_of(reporter), place_of(model)
    config = settings_for(config, model_path, output)
    places = Places.of(config)
    engine, _ = _open(config, places, model_path, precision, output)
    file = share.file(places.workspace.reports_dir / "shards" / "evaluate")
    write_evaluation_shard(file, share, engine, config, output, flip=flip)
    return file


def _open(
    config: Config, places: Places, model: Path | None, precision: str | None, output: Reporter
) -> tuple[Engine, Ranks]:
    """Return the engine that computes the features and the processes that share the work; report which model runs."""
    setup_paddle(this_process.own_device(config.Global.device))
    from shitu_cli.processes.collectives import join

    processes = join()
    engine = load_engine(readable(model or places.best, output), config, Request(precision=precision))
    if model is not None and (remark := without_manifest(model)):
        output.warn(remark)
    output.info(f"{model or 'the best checkpoint'}, run by {engine.summary()}")
    if change := changed_preparation(config, model or places.best):
        output.info(change)
    if model is None and _trained_on_others(config, places):
        output.warn(
            [
                "the training list has changed since this model was trained: the figures may include images "
                "that it has seen (",
                Command("train"),
                " trains on the new lists)",
            ]
        )
    return engine, processes


def _model_name(config: Config, model: Path | None, places: Places) -> str:
    """Return what is evaluated, for people: the path as typed, or the best checkpoint with its network."""
    if model is not None:
        return str(model)
    best = places.best if config.root is None else os.path.relpath(places.best, config.root)
    from shitu_cli.model.tracing import trained_arch

    return f"{best} ({trained_arch(places.best, config).backbone.name})"


def measuring_options(
    config: Config, model: Path | None, precision: str | None, *, flip: bool, expansion: int
) -> list[str]:
    """Return the options that make the figures differ from those of a plain `shitu evaluate`."""
    options = config.Global
    words = {
        "--flip": flip,
        "--rerank": options.re_ranking,
        f"--query-expansion {expansion}": expansion,
        "-o Global.feature_normalize=False": not options.feature_normalize,
        f"-o Global.feature_binarize={options.feature_binarize}": options.feature_binarize,
        f"--model {shlex.quote(str(model))}": model,
        f"--precision {precision}": precision and not (model is None and precision == "fp32"),
    }
    return [word for word, is_set in words.items() if is_set]


def _trained_on_others(config: Config, places: Places) -> bool:
    """Return whether the best checkpoint records another training list than the current one."""
    split = config.DataLoader.train
    now = None if split is None else Path(split.dataset.cls_label_path)
    return changed_since_training(places.best, "train_list", now)
