"""`shitu export`: the trained network as files that deploy, proven equal to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.errors import UsageError

if TYPE_CHECKING:
    from shitu_cli.export.run import Exported


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
    from shitu_cli.cli.common import load_workspace_config, open_workspace
    from shitu_cli.config.load import resolve_path
    from shitu_cli.model.runtime import setup_paddle

    console.configure(as_json=as_json)
    space = open_workspace(workspace, config)
    settings = load_workspace_config(space, config, override)
    base = space.root
    setup_paddle("cpu")
    from shitu_cli.export.deploy_config import PADDLEX_NAME
    from shitu_cli.export.run import ExportOptions
    from shitu_cli.export.run import export as run

    chosen = ExportOptions(
        formats=tuple(dict.fromkeys(part for item in format or ["pdmodel,onnx"] for part in item.split(","))),
        optional=() if format else ("onnx",),
        normalize=normalize,
        size=_size(size),
        feature=settings.Global.retrieval_feature_from,
        paddlex_name=paddlex_name or PADDLEX_NAME,
    )
    weights = checkpoint or resolve_path(space.root, settings.Global.output_dir) / "best_model"
    # A path given by the user counts from where the user is, the default from the workspace.
    target = out if out is not None else resolve_path(space.root, settings.Global.save_inference_dir)
    made = run(settings, base, weights, Path(target).resolve(), chosen)
    if as_json:
        console.print_json({"out": str(made.out), "files": made.files, "proof": made.rows})
        return
    _show(made)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UsageError(f"--size {text}: expected height x width, such as 224x224")
    return int(height), int(width)


def _show(made: Exported) -> None:
    from shitu_cli.cli import console
    from shitu_cli.infer.load import fastest

    files = [[name, f"{size / 1e6:.2f} MB"] for name, size in made.files.items()]
    console.print_table(f"Written to {made.out}", ["file", "size"], files)
    rows = [
        [
            row["file"],
            f"{row['min_cosine']:.6f}",
            f"{row['difference']:.1e}",
            f"{row['recall@1']:.4f}",
            f"{row['recall@1_trained']:.4f}",
        ]
        for row in made.rows
    ]
    title = f"Proof: run in a new process on {made.rows[0]['pictures']} pictures, beside the trained network"
    console.print_table(title, ["file", "smallest cosine", "difference", "recall@1 among them", "of the trained"], rows)
    times = [[row["file"], what, *map(str, ms)] for row in made.rows for what, ms in row["latency_ms"].items()]
    console.print_table("Milliseconds per picture on this machine", ["file", "how", "median", "95 %"], times)
    chosen = fastest(made.rows)
    console.reporter().info(f"extract, index and search will run {chosen[0]}: {chosen[1]}")
    for remark in made.remarks:
        console.reporter().info(remark)
    console.next_step("shitu index build")
