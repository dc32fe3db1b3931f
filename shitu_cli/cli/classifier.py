"""`shitu evaluate` for configs that measure the classifier (`Global.eval_mode: classification`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.errors import Command
from shitu_cli.reporting import counted, unreadable

if TYPE_CHECKING:
    from shitu_cli.cli.console import Console
    from shitu_cli.cli.session import Session
    from shitu_cli.config.schema import Config

RETRIEVAL = ("-o", "Global.eval_mode=retrieval")


def refuse_options(session: Session) -> None:
    """Raise UsageError if an option is given that changes how retrieval is measured."""
    session.refuse(
        *("--flip", "--rerank", "--query-expansion", "--precision"),
        *("--far", "--unknown", "--cross-fit", "--shard", "--merge", "--dry-run"),
        why="only for retrieval, but this config measures how often the classifier is right (Global.eval_mode)",
        hint=["to measure retrieval: ", Command("evaluate", *RETRIEVAL)],
    )


def show_classifier(console: Console, settings: Config, model: Path | None, *, cache: bool) -> None:
    """Measure and show how often the classifier of a checkpoint is right, and write the report."""
    from shitu_cli.steps.classifier import evaluate_classifier

    evaluation = evaluate_classifier(settings, model=model, cache=cache, reporter=console)
    if evaluation is None:
        return
    if evaluation.skipped:
        console.warn(unreadable(evaluation.skipped))
    if console.as_json:
        console.json(evaluation.values)
    else:
        rows = [[name, f"{value:.4f}"] for name, value in evaluation.metrics.items()]
        console.table(f"the classifier, on {counted(evaluation.images, 'image')}", ["metric", "value"], rows)
    console.info(f"all figures: {evaluation.write_report()}")
    console.info(["retrieval, in which search uses the features: ", Command("evaluate", *RETRIEVAL)])
    console.next_step(Command("export", *(["--checkpoint", model] if model is not None else [])))
