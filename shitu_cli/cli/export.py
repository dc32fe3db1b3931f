"""`shitu export`: the trained network as files that deploy, proven equal to it."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.errors import UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.deployment.run import Exported


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    out: Annotated[Path | None, typer.Option(help="Directory for the model; default: inference/.")] = None,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", help="pdmodel, pir (inference.json), onnx; default: pdmodel and onnx."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights to export, such as output/latest; default: the best.")
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Features leave the graph at unit length.")] = False,
    size: Annotated[str | None, typer.Option(help="Fix height x width, such as 224x224; default: any.")] = None,
    precision: Annotated[
        str, typer.Option(help="What extract, index and search compute in: fp32, bf16, or auto: the faster one.")
    ] = "fp32",
    max_recall_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Loss of recall@1 up to which bf16 is accepted.")
    ] = 0.005,
    paddlex_name: Annotated[
        str | None, typer.Option(help="Model name in inference.yml; default: PP-ShiTuV2_rec.")
    ] = None,
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write inference.pdmodel and its parameters (or ONNX), run them on real pictures, and compare with the network."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import load_workspace_config, open_workspace, standing
    from shitu_cli.config.load import resolve_path
    from shitu_cli.runtime.setup import setup_paddle

    console.configure(as_json=as_json, override=override)
    space = open_workspace(workspace, config)
    settings = load_workspace_config(space, config, override)
    base = space.root
    setup_paddle("cpu")
    from shitu_cli.deployment.deploy_config import PADDLEX_NAME
    from shitu_cli.deployment.run import ExportOptions
    from shitu_cli.deployment.run import export as run

    chosen = ExportOptions(
        formats=tuple(dict.fromkeys(part for item in format or ["pdmodel,onnx"] for part in item.split(","))),
        optional=() if format else ("onnx",),
        normalize=normalize,
        size=_size(size),
        feature=settings.Global.retrieval_feature_from,
        paddlex_name=paddlex_name or PADDLEX_NAME,
        precision=precision,
        max_recall_drop=max_recall_drop,
    )
    weights = standing(checkpoint or resolve_path(space.root, settings.Global.output_dir) / "best_model")
    # A path given by the user counts from where the user is, the default from the workspace.
    target = out if out is not None else resolve_path(space.root, settings.Global.save_inference_dir)
    made = run(settings, base, weights, Path(target).resolve(), chosen)
    if as_json:
        chosen_way: dict[str, str] = {**dataclasses.asdict(made.way), "reason": made.reason}
        console.print_json({"out": str(made.out), "files": made.files, "proof": made.rows, "chosen": chosen_way})
        return
    _show(made)
    elsewhere = made.out != space.inference_dir.resolve()
    shown = os.path.relpath(made.out) if out is None else str(out)
    console.next_step("shitu index build" + (f" --model {shlex.quote(shown)}" if elsewhere else ""))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UsageError(f"--size {text}: expected height x width, such as 224x224")
    return int(height), int(width)


def _show(made: Exported) -> None:
    from shitu_cli.cli import console
    from shitu_cli.features.backends import Way

    files = [[name, console.size(size)] for name, size in made.files.items()]
    console.print_table(f"Written to {made.out}", ["file", "size"], files)
    rows = [
        [
            str(Way.of(row)),
            row["file"],
            f"{row['min_cosine']:.6f}",
            f"{row['difference']:.1e}",
            *("-" if row[key] is None else f"{row[key]:.4f}" for key in ("recall@1", "recall@1_trained")),
        ]
        for row in made.rows
    ]
    pictures = counted(made.rows[0]["pictures"], "picture")
    title = f"Proof: the files give what the trained network gives, run in a new process on {pictures}"
    columns = ["by", "file", "smallest cosine", "largest difference", "recall@1 of the file", "of the network"]
    console.print_table(title, columns, rows)
    if made.rows[0]["recall@1"] is None:
        console.reporter().info("recall@1: no two of these pictures are of one class")
    else:
        console.reporter().info(
            "recall@1 is of each of these pictures among the others; shitu evaluate measures the model"
        )
    times = [
        [str(Way.of(row)), row["file"], *(f"{median:.2f} ({high:.2f})" for median, high in row["latency_ms"].values())]
        for row in made.rows
    ]
    title = "Milliseconds per picture on this machine: median (95 %)"
    console.print_table(title, ["by", "file", *made.rows[0]["latency_ms"]], times)
    console.reporter().info(f"extract, index and search will run {made.way.file} by {made.way}: {made.reason}")
    for row in made.rows:
        if row["refused"]:
            console.reporter().info(f"{Way.of(row)} is refused: {row['refused']}")
    for remark in made.remarks:
        console.reporter().info(remark)
