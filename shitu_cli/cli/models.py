"""`shitu models`: list the networks, heads and losses that a config may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.cli.grouped import GENERAL
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command

if TYPE_CHECKING:
    from shitu_cli.model.catalogue import BackboneInfo


def models(
    context: typer.Context,
    pattern: Annotated[str, argument("Show only networks whose name contains this, such as PPLCNet.")] = "",
    size: Annotated[
        int, option(GENERAL, "Side of the images in pixels, for which MACs are counted.", low=32, high=4096)
    ] = 224,
    as_json: options.JsonOption = False,
) -> None:
    """List the networks: parameters, multiply-adds (MACs) and feature size; then necks, heads and losses."""
    from shitu_cli.model.catalogue import describe_backbones, other_parts

    console = Session.of(context).console
    rows = describe_backbones(pattern, size)
    if console.as_json:
        console.json({"size": size, "backbones": [row.__dict__ for row in rows], **other_parts()})
        return
    table = [[r.name, f"{r.parameters / 1e6:.2f} M", f"{r.macs / 1e6:.0f} M", str(r.feature_size)] for r in rows]
    console.table(f"Networks (MACs at {size} px)", ["name", "parameters", "MACs", "feature size"], table)
    console.table("Other parts", ["kind", "names"], [[kind, ", ".join(names)] for kind, names in other_parts().items()])
    console.next_step(command_for(rows[0] if pattern else None))


def command_for(row: BackboneInfo | None) -> Command:
    """Return the command that trains a network; it replaces the whole block, as networks differ in their arguments."""
    if row is None:
        return Command("models", "PPLCNet_x1_0")
    words = ["-o", f"Arch.Backbone={{name: {row.name}}}", "-o", f"Arch.Neck.num_features={row.feature_size}"]
    if row.stop_layer != "flatten":
        words += ["-o", f"Arch.BackboneStopLayer.name={row.stop_layer}"]
    return Command("train", *words)
