"""`shitu export`: write the trained network as files for deployment, proven equal to it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import MODEL, OUTPUT, option
from shitu_cli.cli.session import Session
from shitu_cli.config.arguments import PORTION
from shitu_cli.errors import Command, ShituError, UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.reporting import byte_size, counted
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.deployment.run import Exported


def export(
    context: typer.Context,
    out: Annotated[Path | None, option(OUTPUT, "Directory for the model; by default inference/.")] = None,
    format: Annotated[
        list[str] | None, option(OUTPUT, "pdmodel, pir (inference.json) or onnx; by default pdmodel and onnx.")
    ] = None,
    checkpoint: Annotated[
        Path | None, option(MODEL, "Weights to export, such as output/latest; by default the best.")
    ] = None,
    pretrained: options.PretrainedOption = None,
    normalize: Annotated[
        bool, option(MODEL, "Let the exported network return features of length one.", "--normalize")
    ] = False,
    size: Annotated[
        str | None, option(MODEL, "Fix the input to HEIGHTxWIDTH, such as 224x224; by default any.")
    ] = None,
    precision: Annotated[
        str, option(options.PROCESSOR, "Precision of extract, index and search: fp32, bf16, or auto for the faster.")
    ] = "fp32",
    max_recall_drop: Annotated[
        float, option(options.PROCESSOR, "The largest loss of recall@1 at which bf16 is accepted.", within=PORTION)
    ] = 0.005,
    paddlex_name: Annotated[
        str | None, option(OUTPUT, "Name of the model in inference.yml; by default PP-ShiTuV2_rec.")
    ] = None,
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write inference.pdmodel and its parameters (or ONNX), run them on real images, and compare with the network."""
    from shitu_cli.steps.export import export as run
    from shitu_cli.steps.settings import workspace_config

    session = Session.of(context)
    console = session.console
    if pretrained is not None and checkpoint is not None:
        raise UsageError("--checkpoint and --pretrained both choose the weights", hint="give one of them")
    if precision == "fp32":
        session.refuse("--max-recall-drop", why="fp32 loses no recall", hint="leave it out, or give --precision auto")
    if pretrained is not None:
        session.refuse("--config", "--override", why="published weights are exported as they are", hint="leave it out")
    space = opening.open_workspace(session, config, optional=pretrained is not None)
    settings = None if pretrained is not None else workspace_config(space, config, override or ())
    exported = run(
        settings,
        out,
        checkpoint=checkpoint or (None if settings is None else opening.weights_override(session, settings)),
        pretrained=pretrained,
        formats=tuple(dict.fromkeys(part for item in format or () for part in item.split(","))),
        normalize=normalize,
        size=parse_size(size),
        precision=precision,
        max_recall_drop=max_recall_drop,
        paddlex_name=paddlex_name,
        reporter=console,
    )
    if console.as_json:
        chosen_way: dict[str, str] = {**dataclasses.asdict(exported.way), "reason": exported.reason}
        console.json({"out": str(exported.out), "files": exported.files, "proof": exported.rows, "chosen": chosen_way})
        return
    _show(console, exported)
    console.next_step(next_command(space, config, exported.out, os.path.relpath(exported.out) if out is None else out))


def next_command(space: Workspace, config: Path | None, out: Path, shown: str | Path) -> Command:
    """Return the command that indexes images with the model in `out`, which the user calls `shown`."""
    if not space.config_path.is_file():  # no other command takes -c: all that it needs is named
        return Command("index build", "./photos", "--model", shown, "--index", "index/")
    return Command("index build", *(["--model", shown] if out != _usual_place(space, config) else []))


def _usual_place(space: Workspace, config: Path | None) -> Path:
    """Return where other commands look for the exported model by default."""
    from shitu_cli.config.places import Places
    from shitu_cli.steps.settings import workspace_config

    try:
        return Places.of(workspace_config(space, config)).inference.resolve()
    except ShituError:  # it needs the overrides
        return Places.usual(space).inference.resolve()


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of `--size 224x224`; UsageError for any other text."""
    if text is None:
        return None
    height, width = (whole_number(part) for part in text.lower().partition("x")[::2])
    if not height or not width:
        raise UsageError(f"--size {text}: expected HEIGHTxWIDTH, such as 224x224")
    return height, width


def _show(console: Console, exported: Exported) -> None:
    from shitu_cli.features.backends import Way

    files = [[name, byte_size(size)] for name, size in exported.files.items()]
    console.table(f"Written to {exported.out}", ["file", "size"], files)
    rows = [
        [
            str(Way.of(row)),
            row["file"],
            f"{row['min_cosine']:.6f}",
            f"{row['difference']:.1e}",
            *("-" if row[key] is None else f"{row[key]:.4f}" for key in ("recall@1", "recall@1_trained")),
        ]
        for row in exported.rows
    ]
    count = exported.rows[0]["images"]
    same = min((row["same_answers"] for row in exported.rows if row["same_answers"] is not None), default=None)
    answers = "" if same is None else f"same answers: {same:,} of {count:,}. "
    title = (
        f"{answers}In a new process, the files compute what the trained network computes ({counted(count, 'image')})"
    )
    columns = ["by", "file", "smallest cosine", "largest difference", "recall@1 of the file", "of the network"]
    console.table(title, columns, rows)
    if coincide := exported.rows[0].get("coincide"):
        console.warn(
            f"recall@1 cannot be measured: {coincide}; the network is hardly trained yet, or training collapsed"
        )
    elif exported.rows[0]["recall@1"] is None:
        console.info("recall@1 cannot be measured: no two of these images are of the same class")
    else:
        console.info(
            [
                f"recall@1 here is the share of these {count:,} images whose most similar image among the other "
                f"{count - 1:,} is of the same class. It only compares the file with the network; ",
                Command("evaluate"),
                " searches the whole gallery and gives another figure",
            ]
        )
    times = [
        [str(Way.of(row)), row["file"], *(f"{median:.2f} ({high:.2f})" for median, high in row["latency_ms"].values())]
        for row in exported.rows
    ]
    title = "Milliseconds per image on this machine: median (95th percentile)"
    console.table(title, ["by", "file", *exported.rows[0]["latency_ms"]], times)
    console.info(f"extract, index and search will run {exported.way.file} with {exported.way}: {exported.reason}")
    for row in exported.rows:
        if row["refused"]:
            console.info(f"{Way.of(row)} is refused: {row['refused']}")
    for remark in exported.remarks:
        console.info(remark)
