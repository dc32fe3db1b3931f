"""`shitu templates`: the configs that come with the program."""

from __future__ import annotations

from typing import Annotated

import typer

from shitu_cli.cli import options


def register(app: typer.Typer) -> None:
    app.command("templates")(templates)


def templates(
    name: Annotated[str, typer.Argument(help="Print this template.")] = "", as_json: options.JsonOption = False
) -> None:
    """List the templates for `shitu prepare --template`, or print one."""
    from shitu_cli.cli import console
    from shitu_cli.templates import list_templates, read_template

    console.configure(as_json=as_json)
    if name:
        typer.echo(read_template(name), nl=False)
        return
    found = list_templates()
    if as_json:
        console.print_json([{"name": item.name, "summary": item.summary} for item in found])
        return
    console.print_table("Templates", ["name", "what it is"], [[item.name, item.summary] for item in found])
    console.next_step("shitu prepare ./data --template quick")
