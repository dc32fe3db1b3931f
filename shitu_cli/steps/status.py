"""The state of a workspace: the results of each step, and which of them are missing or out of date."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu_cli.config.load import load_config
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.errors import Command, ShituError
from shitu_cli.features.engine import features_fingerprint
from shitu_cli.files import bytes_in, sha256_of
from shitu_cli.inputs import MAX_TEXT, count_lines, read_note
from shitu_cli.report.evaluation import (
    CLASSIFIER,
    PLAIN,
    WITH_OPTIONS,
    features_of,
    is_undecided,
    is_worth_deploying,
    model_of,
    options_of,
    read_report,
)
from shitu_cli.reporting import byte_size, counted
from shitu_cli.steps.models import export_is_stale, exported_features
from shitu_cli.workspace import EARLIER, Workspace, earlier_models


@dataclass(frozen=True)
class StepState:
    """A step, a description of its results, and the command to run; None if it is up to date."""

    step: str
    state: str
    command: Command | None = None


@dataclass(frozen=True)
class _Facts:
    """Facts that several steps need: `lists` is the hash of the training list, `weights` of the best checkpoint.

    `preprocessing` is how the config prepares images, as fingerprints of features end; `classifies` says whether
    evaluations measure the head instead of retrieval.
    """

    places: Places
    header: dict[str, Any]
    lists: str | None
    weights: str | None
    problem: ShituError | None
    preprocessing: str = ""
    classifies: bool = False

    @property
    def is_frozen(self) -> bool:
        """Whether the last training left the network unchanged (`train --frozen`)."""
        return bool(_block(self.header, "run").get("frozen"))

    @property
    def trained_on_others(self) -> bool:
        """Whether the training list has changed since the last training."""
        then = _block(self.header, "run").get("train_list")
        return bool(then and self.lists and then != self.lists)


def status(workspace: Workspace) -> list[StepState]:
    """Return the state of each step in order; the first with a command is the one to do next."""
    facts = _facts(workspace)
    return [
        _prepare_state(facts),
        _train_state(facts),
        _evaluate_state(facts),
        _export_state(facts),
        _index_state(facts),
    ]


def _facts(space: Workspace) -> _Facts:
    places, lists, problem = Places.usual(space), space.lists_dir / "train_list.txt", None
    preprocessing, classifies = "", False
    try:
        config = load_config(space.config_path)
        preprocessing, classifies = _preprocessing_of(config), config.classifies
        places = Places.of(config, space)
        if config.DataLoader.train is not None:
            lists = Path(config.DataLoader.train.dataset.cls_label_path)
    except ShituError as error:
        problem = error
    header = read_note(places.output / "latest.pdstates")
    digests = _hash_of(_list_of(header, space) or lists, MAX_TEXT), _hash_of(places.best_weights)
    return _Facts(places, header, *digests, problem, preprocessing, classifies)


def _preprocessing_of(config: Config) -> str:

    split = config.DataLoader.as_deployed
    return "" if split is None else features_fingerprint("", split.dataset.transform_ops)


def _hash_of(file: Path, limit: int | None = None) -> str | None:
    return sha256_of(file, limit=limit) if file.is_file() else None


def _list_of(header: dict[str, Any], space: Workspace) -> Path | None:
    """Return the training list of the last run, which may differ from the config's."""
    path = _block(_block(header, "run"), "config").get("DataLoader.Train.dataset.cls_label_path")
    return space.root / path if isinstance(path, str) else None


def _block(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a block of a note, {} if it is missing or damaged."""
    block = values.get(name)
    return block if isinstance(block, dict) else {}


def _prepare_state(facts: _Facts) -> StepState:
    parts = []
    for name in ("train", "query", "gallery"):
        path = facts.places.workspace.lists_dir / f"{name}_list.txt"
        if path.is_file():
            parts.append(f"{count_lines(path):,} {name}")
    if not parts and facts.lists is None:
        return StepState("prepare", "no lists yet", Command("prepare", "./data"))
    text = f"{', '.join(parts)} images" if parts else "lists of your own"
    if facts.problem is not None:
        why = facts.problem.message.partition(": ")[2] or facts.problem.message
        return StepState("prepare", f"{text}; but: {why}"[:100], Command("config"))
    return StepState("prepare", text)


def _train_state(facts: _Facts) -> StepState:
    if not facts.header:
        return StepState("train", "not trained yet", Command("train"))
    state = _block(facts.header, "state")
    epoch, best = state.get("epoch"), state.get("best_score")
    if facts.is_frozen:
        return _frozen_state(facts, best)
    settings = _run_settings(facts.places)
    text = counted(epoch, "epoch") if isinstance(epoch, int) else "? epochs"
    if isinstance(best, float):
        score = "best" if settings is None else f"best {settings.score}"
        text += f", {score} {best:.4f} after epoch {state.get('best_epoch')}"
    text += _earlier_models(facts.places)
    if facts.trained_on_others:
        return StepState("train", f"{text}; the training list has changed since", Command("train"))
    if settings is not None and isinstance(epoch, int) and epoch < settings.Global.epochs:
        text += f", of {settings.Global.epochs}"
        if not _has_stopped(state, settings):
            return StepState("train", text, Command("train", "--resume"))
    return StepState("train", text)


def _frozen_state(facts: _Facts, best: object) -> StepState:
    """Return the state after `train --frozen`, which trains no epochs and cannot be resumed."""
    text = "a projection of the features of trained weights"
    text += f", recall@1 {best:.4f}" if isinstance(best, float) else ""
    text += _earlier_models(facts.places)
    if facts.trained_on_others:
        return StepState("train", f"{text}; the training list has changed since", Command("train", "--frozen"))
    return StepState("train", text)


def _has_stopped(state: dict[str, Any], settings: Config) -> bool:
    """Return whether the run ended early, as its last evaluations were no better than those before."""
    from shitu_cli.training.options import has_stagnated

    try:
        return has_stagnated(state.get("evaluations") or [], settings.score, settings.Global.early_stop)
    except (LookupError, TypeError):  # a damaged file
        return False


def _earlier_models(places: Places) -> str:
    models = earlier_models(places.output)
    size = byte_size(sum(bytes_in(folder) for folder in models))
    return f"; {counted(len(models), 'earlier model')} in {places.output.name}/{EARLIER} ({size})" if models else ""


def _run_settings(places: Places) -> Config | None:
    """Return the settings that the last run was started with."""
    for path in (places.output / "config.yaml", places.workspace.config_path):
        try:
            return load_config(path)
        except ShituError:
            continue
    return None


def _evaluate_state(facts: _Facts) -> StepState:
    """Return the state of the plain evaluation, and of the last one with options."""
    reports = facts.places.workspace.reports_dir
    if facts.classifies and (values := read_report(reports / f"{CLASSIFIER}.json")):
        text = ", ".join(f"{name} {value:.4f}" for name, value in values["metrics"].items())
        is_old = _weights_of(values) != facts.weights
        text += ", of another model" if is_old else ""
        text += ", of a model trained on earlier lists" if facts.trained_on_others and not is_old else ""
        return StepState("evaluate", text, Command("evaluate") if is_old or facts.trained_on_others else None)
    plain, other = (read_report(reports / f"{name}.json") for name in (PLAIN, WITH_OPTIONS))
    if plain is None and other is None:
        return StepState("evaluate", "not evaluated yet", Command("evaluate"))
    if plain is not None and other is not None and _is_old(other, facts):
        other = None  # out of date, but not worth repeating
    text = "; ".join(_figures(values, facts) for values in (plain, other) if values is not None)
    is_old = plain is not None and _is_old(plain, facts)
    if facts.trained_on_others and not is_old:
        text += ", of a model trained on earlier lists"
    if is_old or facts.trained_on_others:
        return StepState("evaluate", text, Command("evaluate"))
    if plain is not None and not is_worth_deploying(plain):
        why = "decided by rounding, as the features nearly coincide" if is_undecided(plain) else "too few to deploy"
        return StepState("evaluate", f"{text}: {why}; train longer", Command("train"))
    return StepState("evaluate", text)


def _figures(values: dict[str, Any], facts: _Facts) -> str:
    metrics = values["metrics"]
    options = f"with {' '.join(options_of(values))}: " if options_of(values) else ""
    text = f"{options}recall@1 {metrics.get('recall@1', float('nan')):.4f}, mAP {metrics.get('mAP', float('nan')):.4f}"
    if not _is_old(values, facts):
        return text
    what = "an older model" if _weights_of(values) != facts.weights else "images prepared in another way"
    return f"{text}, of {what}"


def _is_old(values: dict[str, Any], facts: _Facts) -> bool:
    """Return whether the best checkpoint, or how its images are prepared, has changed since this evaluation.

    False if the user named another model.
    """
    best = os.path.relpath(facts.places.best, facts.places.workspace.root)
    if not facts.weights or not features_of(values) or not model_of(values).startswith(f"{best} ("):
        return False
    is_plain = not options_of(values)
    return _weights_of(values) != facts.weights or (is_plain and not features_of(values).endswith(facts.preprocessing))


def _weights_of(values: dict[str, Any]) -> str:
    return features_of(values).split("/")[0]


def export_command(space: Workspace) -> Command:
    """Return the command that exports into the workspace: --out is relative to the current directory."""
    return Command("export", *(["--out", "inference/"] if Path.cwd() == space.root else []))


def _export_state(facts: _Facts) -> StepState:
    command = export_command(facts.places.workspace)
    values = read_note(facts.places.manifest)
    if not values:
        return StepState("export", "not exported yet", command)
    files = values.get("files")
    text = ", ".join(sorted(files)) if isinstance(files, dict) else "a manifest that cannot be read"
    if export_is_stale(facts.places):
        return StepState("export", f"{text}: exported from older weights", command)
    features = exported_features(facts.places)
    if features and not features.endswith(facts.preprocessing):
        return StepState("export", f"{text}: prepares images in another way than the config", command)
    if facts.trained_on_others:
        return StepState("export", f"{text}: of a model trained on earlier lists", command)
    return StepState("export", text)


def _index_state(facts: _Facts) -> StepState:
    values = read_note(facts.places.workspace.index_dir / "manifest.json")
    if not values:
        return StepState("index", "no index yet", Command("index build"))
    text = f"{counted(values.get('count', 0), 'vector')}, {values.get('kind')}"
    features = exported_features(facts.places)
    model = str(values.get("model", ""))  # "" where features of an unknown model were indexed
    if features and model and model != features:
        return StepState(
            "index", f"{text}, of another model or preprocessing than the exported one", Command("index build")
        )
    if facts.trained_on_others:
        return StepState("index", f"{text}, of a model trained on earlier lists", Command("index build"))
    return StepState("index", text)
