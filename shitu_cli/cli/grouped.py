"""Commands whose help shows options in groups, whole at 80 columns, and which take --quiet and --debug anywhere."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from shitu_cli.runtime.memory import IMAGE_MEMORY, require_memory

EVERYWHERE = ("quiet", "debug")  # options of the root that may also stand after a command
GENERAL = "General"
_KINDS = {"int": "N", "float": "X", "path": "PATH", "str": "TEXT"}  # as help writes the values of options
_ENDLESS = 65_536  # upper bounds from here on only keep out mistakes; help does not show them
STEPS, USE, MORE = "From images to a model", "Using the model", "More"  # headings of the commands


class GroupedCommand(TyperCommand):
    """A command that enters its session before it runs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's own parameters and those that may stand anywhere."""
        own = super().get_params(ctx)
        everywhere = [p for p in ctx.find_root().command.params if p.name in EVERYWHERE]
        return [*own[:-1], *everywhere, *own[-1:]]  # --help stays the last

    def invoke(self, ctx: Any) -> Any:
        """Run the command in its session."""
        take_everywhere(ctx)
        ctx.obj.enter(ctx)
        require_memory(IMAGE_MEMORY)
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each group under its heading."""
        write_groups(self, ctx, formatter)


class GroupedCommands(TyperGroup):
    """The root, or a command with commands below it, such as `shitu index`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options in groups, then the commands."""
        write_groups(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with the whole first sentence of its help, in groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            heading = panel if isinstance(panel, str) else "Commands"
            groups.setdefault(heading, []).append((name, first_sentence(command.help or "")))
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def take_everywhere(context: typer.Context) -> None:
    """Move --quiet and --debug from a command's parameters to its session."""
    session = context.obj
    if context.params.pop("quiet", False):
        session.console.quiet = True
    if context.params.pop("debug", False):
        session.debug = True


def write_groups(command: Any, context: Any, formatter: Any) -> None:
    """Write a command's parameters under the headings of their groups, in the order in which groups first appear."""
    for heading, rows in groups_of(command, context).items():
        with formatter.section(heading):
            formatter.write_dl(rows)


def groups_of(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the parameters of a command by heading: how each is written, and what it does."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        heading = "Arguments" if parameter.param_type_name == "argument" else GENERAL
        panel = getattr(parameter, "rich_help_panel", None)
        groups.setdefault(panel if isinstance(panel, str) else heading, []).append(_readable(*record))
    groups[GENERAL] = groups.pop(GENERAL, [])  # at the end, with --help
    return groups


def _readable(written: str, text: str) -> tuple[str, str]:
    """Return a help record with kinds of values and ranges in words: `--seed N`, `1 to 1024`, `at least 1`."""
    if written.startswith("-"):
        written = re.sub(
            r"<(?:list\[)?(\w+)(?: range)?\]?>", lambda kind: _KINDS.get(kind[1].lower(), kind[0]), written
        )
    else:
        written = re.sub(r" <[^>]*>$", "", written)

    def in_words(match: re.Match[str]) -> str:
        low, high = match[1], match[2]
        return f"at least {low}" if float(high) >= _ENDLESS else f"{low} to {high}"

    return written, re.sub(r"([\d.e-]+)<=x<=([\d.e+]+)", in_words, text)


def first_sentence(text: str) -> str:
    """Return the first paragraph of a help text, on one line."""
    return " ".join(text.partition("\n\n")[0].split())
