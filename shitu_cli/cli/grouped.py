"""Commands whose help shows options in groups, whole at 80 columns, and which take --quiet and --debug anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from shitu_cli.cli.plain_values import take_plain_values
from shitu_cli.runtime.memory import IMAGE_MEMORY, require_memory

GLOBAL_OPTIONS = ("quiet", "debug")  # options of the root that may also follow a command
GENERAL = "General"
HELP = {"help_option_names": ["-h", "--help"]}
# Scripts and modes of PaddleClas and PaddleX, and the commands that do the same.
ELSEWHERE = {
    **{"eval": "evaluate", "export_model": "export", "infer": "extract", "predict_rec": "extract"},
    **{"build_gallery": "index build", "predict_system": "search", "predict": "search", "check_dataset": "prepare"},
}
_STATE = ("status", "state", "info")
_KINDS = {"int": "N", "float": "X", "path": "PATH", "str": "TEXT"}  # as help writes the values of options
_ENDLESS = 65_536  # upper bounds from here on only keep out mistakes; help does not show them


class GroupedCommand(TyperCommand):
    """A command that enters its session before it runs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's own parameters and the global options, which may follow any command."""
        params = super().get_params(ctx)
        shared = [p for p in ctx.find_root().command.params if p.name in GLOBAL_OPTIONS]
        return take_plain_values([*params[:-1], *shared, *params[-1:]])  # --help stays the last

    def invoke(self, ctx: Any) -> Any:
        """Run the command in its session."""
        apply_global_options(ctx)
        ctx.obj.enter(ctx)
        require_memory(IMAGE_MEMORY)
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each group under its heading."""
        write_groups(self, ctx, formatter)


class GroupedCommands(TyperGroup):
    """The root, or a command with commands below it, such as `shitu index`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help among them."""
        return take_plain_values(super().get_params(ctx))

    def add(self, name: str, function: Callable[..., Any], heading: str = "") -> None:
        """Add the command of a function, whose signature says what it takes and whose docstring what it does.

        `heading` is that of the list in which help shows the command.
        """
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, cls=GroupedCommand, rich_help_panel=heading, context_settings=HELP)(function)
        self.add_command(get_command(single), name)

    def add_group(self, name: str, below: Mapping[str, Callable[..., Any]], help: str, heading: str) -> None:
        """Add a command that has others below it, by their names; without one of them it shows its help."""
        group = GroupedCommands(
            name=name,
            help=help,
            rich_help_panel=heading,
            rich_markup_mode=None,
            no_args_is_help=True,
            context_settings=HELP,
        )
        for inner, function in below.items():
            group.add(inner, function)
        self.add_command(group, name)

    def below(self, context: Any) -> list[Any]:
        """Return the commands of this one, in their order."""
        return [self.get_command(context, name) for name in self.list_commands(context)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line; show the help, and exit with code 2, where a command is missing."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names; refuse an unknown one and suggest similar names."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            import difflib

            word = PurePath(args[0]).stem  # `tools/eval.py`
            theirs = [] if ctx.parent else [ELSEWHERE[word]] if word in ELSEWHERE else []
            similar = theirs or difflib.get_close_matches(word, self.list_commands(ctx))
            remark = f"; did you mean {' or '.join(similar)}?" if similar else ""
            if not ctx.parent and word in _STATE:
                remark = "; shitu alone shows what has been done"
            ctx.fail(f"there is no command {args[0]!r}{remark}")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options in groups, then the commands."""
        write_groups(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with the whole first sentence of its help, in groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for command in self.below(ctx):
            groups.setdefault(_heading(command) or "Commands", []).append(
                (command.name, first_sentence(command.help or ""))
            )
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def apply_global_options(context: typer.Context) -> None:
    """Take --quiet and --debug out of a command's parameters and set them in its session."""
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
        if record is not None:
            usual = "Arguments" if parameter.param_type_name == "argument" else GENERAL
            groups.setdefault(_heading(parameter) or usual, []).append(_readable(*record))
    groups[GENERAL] = groups.pop(GENERAL, [])  # at the end, with --help
    return groups


def _heading(part: Any) -> str:
    """Return the heading under which help shows a command or a parameter, "" for the usual one."""
    panel = getattr(part, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def _readable(written: str, text: str) -> tuple[str, str]:
    """Return a help record with kinds of values and ranges in words: `--seed N`, `1 to 1024`, `at least 1`."""
    if written.startswith("-"):
        written = re.sub(
            r"<(?:list\[)?(\w+)(?: range)?\]?>", lambda kind: _KINDS.get(kind[1].lower(), kind[0]), written
        )
    else:
        written = re.sub(r" <[^>]*>$", "", written)

    def in_words(match: re.Match[str]) -> str:
        low, high = (float(bound) for bound in match.groups())
        return f"at least {low:g}" if high >= _ENDLESS else f"{low:g} to {high:g}"

    return written, re.sub(r"([\d.e-]+)<=x<=([\d.e+]+)", in_words, text)


def first_sentence(text: str) -> str:
    """Return the first paragraph of a help text, on one line."""
    return " ".join(text.partition("\n\n")[0].split())
