"""`shitu models`: the networks, heads and losses that a config may name, with their sizes."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command("models")(models)


def models(
    pattern: str = typer.Argument("", help="Only networks whose name contains this, such as PPLCNet."),
    size: int = typer.Option(224, "--size", min=32, help="Input side in pixels, for the multiply-adds."),
    as_json: bool = typer.Option(False, "--json", help="Print the table as JSON."),
) -> None:
    """List the networks: parameters, multiply-adds (MACs) and feature size; then necks, heads and losses."""
    from shitu_cli.cli.console import next_step, print_json, print_table
    from shitu_cli.model.catalogue import describe_backbones, other_parts

    rows = describe_backbones(pattern, size)
    if as_json:
        print_json({"size": size, "backbones": [row.__dict__ for row in rows], **other_parts()})
        return
    table = [[r.name, f"{r.parameters / 1e6:.2f} M", f"{r.macs / 1e6:.0f} M", str(r.feature_size)] for r in rows]
    print_table(f"Networks (MACs at {size} px)", ["name", "parameters", "MACs", "feature size"], table)
    print_table("Other parts", ["kind", "names"], [[kind, ", ".join(names)] for kind, names in other_parts().items()])
    next_step("shitu train -o Arch.Backbone.name=PPLCNet_x1_0")
