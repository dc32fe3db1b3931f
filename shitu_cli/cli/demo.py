"""`shitu demo`: run the four steps and a search, visibly, on images that the program draws itself."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli.console import Console
from shitu_cli.cli.grouped import GENERAL
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.config.arguments import SEED
from shitu_cli.errors import Command, ShituError, UsageError
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.report.neighbours import Neighbours

STEPS = ("train --epochs {epochs}", "evaluate", "export --out inference/", "index build")
EPOCHS_FROM_START, EPOCHS_FROM_NOTHING = 3, 24  # both take about a minute on two cores


def demo(
    context: typer.Context,
    directory: Annotated[Path, argument("New directory for the demo's workspace.")] = Path("shitu-demo"),
    epochs: Annotated[
        int | None,
        option(
            GENERAL,
            "Passes over the training images; by default 3 from trained weights, 24 from random ones.",
            low=1,
            high=10_000,
        ),
    ] = None,
    seed: Annotated[int, option(GENERAL, "Another seed draws other images.", within=SEED)] = 0,
) -> None:
    """Watch the four steps and a search on images drawn for the purpose: offline, in a few minutes."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} exists and is not empty", hint=Command("demo", "another-directory"))
    start = time.monotonic()
    console = Session.of(context).console
    _draw(console, directory, seed)
    workspace = Workspace(directory.resolve())
    _run(console, directory, "prepare images")
    epochs = epochs or (EPOCHS_FROM_START if _starts_trained(workspace) else EPOCHS_FROM_NOTHING)
    for step in STEPS:
        _run(console, directory, step.format(epochs=epochs))
    rows = _search(console, directory, _queries(directory))
    sheet = workspace.reports_dir / "neighbours.png"
    from shitu_cli.report.neighbours import draw_neighbours

    draw_neighbours(rows, sheet)
    trained = json.loads((workspace.reports_dir / "evaluate.json").read_text())["metrics"]["recall@1"]
    before = _recall_before(console, workspace)
    console.info(f"\nrecall@1 on classes never seen in training: {trained:.3f} (before training: {before:.3f})")
    console.info(f"the queries with their nearest gallery images: {directory / 'reports' / 'neighbours.png'}")
    console.info(f"the whole demo took {time.monotonic() - start:.0f} s")
    console.next_step(Command("prepare", "/path/to/your/images"))


def _draw(console: Console, directory: Path, seed: int) -> None:
    from shitu_cli.preparation.synthetic import write_dataset

    counts = write_dataset(directory / "images", seed=seed)
    parts = ", ".join(f"{n} {split}" for split, n in counts.items())
    console.info(f"Drew {sum(counts.values())} images ({parts}) in {directory / 'images'}.")
    console.info(f"\n$ cd {shlex.quote(str(directory))}")


def _run(console: Console, directory: Path, command: str) -> None:
    """Run one `shitu` command in the demo's workspace as a user would, with its output on the terminal."""
    console.info(f"\n$ shitu {command}")
    done = subprocess.run([sys.executable, "-m", "shitu_cli", *shlex.split(command)], cwd=directory)
    if done.returncode:
        raise ShituError(f"`shitu {command}` failed with exit code {done.returncode}", hint="see its message above")


def _queries(directory: Path, count: int = 6) -> list[Path]:
    """Return the first image of `count` classes, spread over all."""
    folders = sorted((directory / "images" / "query").iterdir())
    return [sorted(folder.iterdir())[0] for folder in folders[:: max(1, len(folders) // count)][:count]]


def _search(console: Console, directory: Path, queries: list[Path]) -> list[Neighbours]:
    """Search all queries with one command; show and return the matches."""
    from shitu_cli.report.neighbours import Neighbours

    names = [str(query.relative_to(directory)) for query in queries]
    console.info(f"\n$ shitu search {' '.join(names)} --top 5")
    argv = [sys.executable, "-m", "shitu_cli", "search", *names, "--top", "5", "--json"]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise ShituError("`shitu search` failed", details=done.stderr.splitlines())
    rows = []
    for query, result in zip(queries, json.loads(done.stdout)["results"], strict=True):
        hits: list[dict[str, Any]] = result["matches"]
        console.info(f"  {query.parent.name}: " + ", ".join(f"{h['label']} {h['score']:.2f}" for h in hits))
        rows.append(
            Neighbours(query, [(directory / h["path"], h["label"] == query.parent.name, h["score"]) for h in hits])
        )
    return rows


def _starts_trained(workspace: Workspace) -> bool:
    from shitu_cli.config.load import load_config

    return bool(load_config(workspace.config_path).Arch.backbone.pretrained)


def _recall_before(console: Console, workspace: Workspace) -> float:
    """Return the recall@1 of the same network as it is before training, with trained weights or random ones."""
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")
    from shitu_cli.config.load import load_config
    from shitu_cli.evaluation.evaluate import evaluate_model
    from shitu_cli.features.engine import engine_from_model
    from shitu_cli.model import build_rec_model

    config = load_config(workspace.config_path)
    engine = engine_from_model(build_rec_model(config.Arch), config)
    result = evaluate_model(engine, config, console)
    assert result is not None
    return float(result.metrics["recall@1"])
