"""`shitu` alone: where the workspace stands, and the next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shitu_cli.cli import console
from shitu_cli.cli.common import export_command, export_is_stale, open_workspace
from shitu_cli.errors import ShituError, UsageError
from shitu_cli.files import bytes_in, sha256_of
from shitu_cli.report.evaluation import PLAIN, WITH_OPTIONS, features_of, options_of, read_report
from shitu_cli.reporting import counted
from shitu_cli.workspace import EARLIER, Workspace, earlier_models


def status(workspace: Path | None = None) -> None:
    """Show what each step has left, and the first one that is missing or out of date."""
    reporter = console.reporter()
    try:
        space = open_workspace(workspace)
    except UsageError:
        if workspace is not None:
            raise
        reporter.info("No workspace here. Put the pictures of each class into a folder of its name, then:")
        console.next_step("shitu prepare ./data      (or see it work first: shitu demo)")
        return
    rows = [_prepared(space), _trained(space), _evaluated(space), _exported(space), _indexed(space)]
    console.print_table(f"Workspace {space.root}", ["step", "state"], [[name, state] for name, state, _ in rows])
    console.next_step(next((command for _, _, command in rows if command), "shitu search photo.jpg --top 5"))


def _prepared(space: Workspace) -> tuple[str, str, str | None]:
    parts = []
    for name in ("train", "query", "gallery"):
        path = space.lists_dir / f"{name}_list.txt"
        if path.is_file():
            with path.open("rb") as file:
                parts.append(f"{sum(1 for _ in file):,} {name}")
    if not parts:
        return "prepare", "no lists yet", "shitu prepare ./data"
    try:
        from shitu_cli.config.load import load_config

        load_config(space.config_path)
    except ShituError as error:
        return (
            "prepare",
            f"{', '.join(parts)} pictures; but: {error.message.partition(': ')[2] or error.message}"[:100],
            "shitu config",
        )
    return "prepare", f"{', '.join(parts)} pictures", None


def _trained(space: Workspace) -> tuple[str, str, str | None]:
    header = _json(space.output_dir / "latest.pdstates")
    if not header:
        return "train", "not trained yet", "shitu train"
    state = header.get("state", {})
    text = counted(state["epoch"], "epoch") if isinstance(state.get("epoch"), int) else "? epochs"
    if state.get("best_score") is not None:
        text += f", best recall@1 {state['best_score']:.4f} after epoch {state.get('best_epoch')}"
    text += _earlier(space)
    wanted = _epochs(space)
    if wanted is not None and isinstance(state.get("epoch"), int) and state["epoch"] < wanted:
        return "train", f"{text}, {wanted} wanted", "shitu train --resume"
    return "train", text, None


def _earlier(space: Workspace) -> str:
    models = earlier_models(space.output_dir)
    size = console.size(sum(bytes_in(folder) for folder in models))
    return f"; {counted(len(models), 'earlier model')} in output/{EARLIER} ({size})" if models else ""


def _epochs(space: Workspace) -> int | None:
    """As many as the last run was to make."""
    from shitu_cli.config.load import load_config

    for path in (space.output_dir / "config.yaml", space.config_path):
        try:
            return load_config(path).Global.epochs
        except ShituError:
            continue
    return None


def _evaluated(space: Workspace) -> tuple[str, str, str | None]:
    """The plain evaluation; beside it the last one with options, which are told."""
    plain, other = (read_report(space.reports_dir / f"{name}.json") for name in (PLAIN, WITH_OPTIONS))
    if plain is None and other is None:
        return "evaluate", "not evaluated yet", "shitu evaluate"
    weights = _weights(space)
    if plain is not None and other is not None and _is_old(other, weights):
        other = None  # nothing to act on
    told = [_figures(values, weights) for values in (plain, other) if values is not None]
    old = plain is not None and _is_old(plain, weights)
    return "evaluate", "; ".join(told), "shitu evaluate" if old else None


def _figures(values: dict[str, Any], weights: str | None) -> str:
    metrics = values["metrics"]
    options = f"with {' '.join(options_of(values))}: " if options_of(values) else ""
    text = f"{options}recall@1 {metrics.get('recall@1', float('nan')):.4f}, mAP {metrics.get('mAP', float('nan')):.4f}"
    return f"{text}, of an older model" if _is_old(values, weights) else text


def _is_old(values: dict[str, Any], weights: str | None) -> bool:
    """Whether the best checkpoint was evaluated, and is another now; other models are what the user named."""
    named = any(word.startswith(("--model", "-o", "-c")) for word in options_of(values))
    features = features_of(values)
    return bool(weights and features and not named and features.split("/")[0] != weights)


def _weights(space: Workspace) -> str | None:
    """The hash of the best checkpoint, as fingerprints of features begin with it."""
    file = space.output_dir / "best_model.pdparams"
    return sha256_of(file) if file.is_file() else None


def _exported(space: Workspace) -> tuple[str, str, str | None]:
    manifest = space.inference_dir / "manifest.json"
    values = _json(manifest)
    if not values:
        return "export", "not exported yet", export_command(space)
    text = f"{', '.join(sorted(values.get('files', {})))}"
    if export_is_stale(space):
        return "export", f"{text}: of an older model", export_command(space)
    return "export", text, None


def _indexed(space: Workspace) -> tuple[str, str, str | None]:
    values = _json(space.index_dir / "manifest.json")
    if not values:
        return "index", "no index yet", "shitu index build"
    text = f"{counted(values.get('count', 0), 'vector')}, {values.get('kind')}"
    exported = _json(space.inference_dir / "manifest.json").get("source", {}).get("sha256")
    model = str(values.get("model", ""))  # "" where features of an unknown model were indexed
    if exported and model and model.split("/")[0] != exported:
        return "index", f"{text}, of another model than the exported", "shitu index build"
    return "index", text, None


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
