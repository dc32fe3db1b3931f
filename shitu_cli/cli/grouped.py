"""Commands whose help shows options in groups, whole at 80 columns, and which take --quiet and --debug anywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

from shitu_cli.cli.parameters import GENERAL, parameters_of
from shitu_cli.runtime.memory import IMAGE_MEMORY, require_memory

EVERYWHERE = ("quiet", "debug")  # options of the root that may also stand after a command
STEPS, USE, MORE = "From images to a model", "Using the model", "More"  # headings of the commands
HELP = {"help_option_names": ["-h", "--help"]}


class GroupedCommand(click.Command):
    """A command that enters its session before it runs; `heading` is that of the list in which help shows it."""

    def __init__(self, name: str, function: Callable[..., Any], heading: str = "", help: str | None = None) -> None:
        super().__init__(
            name,
            context_settings=HELP,
            callback=click.pass_context(function),
            params=list(parameters_of(function)),
            help=help or inspect.getdoc(function),
        )
        self.heading = heading

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters and those that may stand anywhere."""
        own = super().get_params(ctx)
        everywhere = [p for p in ctx.find_root().command.params if p.name in EVERYWHERE]
        return [*own[:-1], *everywhere, *own[-1:]]  # --help stays the last

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command in its session."""
        take_everywhere(ctx)
        ctx.obj.enter(ctx)
        require_memory(IMAGE_MEMORY)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments and options, each group under its heading."""
        write_groups(self, ctx, formatter)


class GroupedCommands(click.Group):
    """The root, or a command with commands below it, such as `shitu index`."""

    def __init__(self, name: str, heading: str = "", **settings: Any) -> None:
        super().__init__(name, context_settings=HELP, **settings)
        self.heading = heading

    def add(self, name: str, function: Callable[..., Any], heading: str = "", help: str | None = None) -> None:
        """Add the command of a function, whose signature says what it takes and whose docstring what it does."""
        self.add_command(GroupedCommand(name, function, heading, help))

    def below(self, context: click.Context) -> list[Any]:
        """Return the commands of this one, in their order."""
        return [self.get_command(context, name) for name in self.list_commands(context)]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of their addition."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write options in groups, then the commands."""
        write_groups(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the whole first sentence of its help, in groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for command in self.below(ctx):
            groups.setdefault(command.heading or "Commands", []).append(
                (command.name, first_sentence(command.help or ""))
            )
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def take_everywhere(context: click.Context) -> None:
    """Move --quiet and --debug from a command's parameters to its session."""
    session = context.obj
    if context.params.pop("quiet", False):
        session.console.quiet = True
    if context.params.pop("debug", False):
        session.debug = True


def write_groups(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    """Write a command's parameters under the headings of their groups, in the order in which groups first appear."""
    for heading, rows in groups_of(command, context).items():
        with formatter.section(heading):
            formatter.write_dl(rows)


def groups_of(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, str]]]:
    """Return the parameters of a command by heading: how each is written, and what it does."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            groups.setdefault(getattr(parameter, "heading", GENERAL), []).append(record)
    groups[GENERAL] = groups.pop(GENERAL, [])  # at the end, with --help
    return groups


def first_sentence(text: str) -> str:
    """Return the first paragraph of a help text, on one line."""
    return " ".join(text.partition("\n\n")[0].split())
