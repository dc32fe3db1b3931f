"""`shitu models`: the networks, heads and losses that a config may name, with their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shitu_cli.cli.grouped import MORE, GroupedCommand
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command

if TYPE_CHECKING:
    from shitu_cli.model.catalogue import BackboneInfo


def register(app: typer.Typer) -> None:
    app.command("models", cls=GroupedCommand, rich_help_panel=MORE)(models)


def models(
    context: typer.Context,
    pattern: str = typer.Argument("", help="Only networks whose name contains this, such as PPLCNet."),
    size: int = typer.Option(224, "--size", min=32, max=4096, help="Input side in pixels, for the multiply-adds."),
    as_json: bool = typer.Option(False, "--json", help="Print the table as JSON."),
) -> None:
    """List the networks: parameters, multiply-adds (MACs) and feature size; then necks, heads and losses."""
    from shitu_cli.model.catalogue import describe_backbones, other_parts

    console = Session.of(context).console
    rows = describe_backbones(pattern, size)
    if as_json:
        console.json({"size": size, "backbones": [row.__dict__ for row in rows], **other_parts()})
        return
    table = [[r.name, f"{r.parameters / 1e6:.2f} M", f"{r.macs / 1e6:.0f} M", str(r.feature_size)] for r in rows]
    console.table(f"Networks (MACs at {size} px)", ["name", "parameters", "MACs", "feature size"], table)
    console.table("Other parts", ["kind", "names"], [[kind, ", ".join(names)] for kind, names in other_parts().items()])
    console.next_step(_command_for(rows[0] if pattern else None))


def _command_for(row: BackboneInfo | None) -> Command:
    """Return how to train with a network: it replaces the whole block, for its arguments are not another network's."""
    if row is None:
        return Command("models", "PPLCNet_x1_0")
    words = ["-o", f"Arch.Backbone={{name: {row.name}}}", "-o", f"Arch.Neck.num_features={row.feature_size}"]
    if row.stop_layer != "flatten":
        words += ["-o", f"Arch.BackboneStopLayer.name={row.stop_layer}"]
    return Command("train", *words)
