"""`shitu templates`: list or print the configs that come with the program."""

from __future__ import annotations

from typing import Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.cli.options import argument
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command


def templates(
    context: typer.Context,
    name: Annotated[str, argument("Print this template.")] = "",
    as_json: options.JsonOption = False,
) -> None:
    """List the templates for `shitu prepare --template`, or print one."""
    from shitu_cli.templates import list_templates, read_template

    session = Session.of(context)
    console = session.console
    if name:
        text = read_template(name)
        console.json({"name": name, "text": text}) if console.as_json else console.document(text)
        return
    rows = [[template.name, template.summary] for template in list_templates()]
    if console.as_json:
        console.json([{"name": name, "summary": summary} for name, summary in rows])
        return
    console.table("Templates", ["name", "what it is"], rows)
    console.next_step(Command("prepare", "./data", "--template", "quick"))
