"""Write the reference of all commands as Markdown: `python -m shitu_cli.cli.reference > docs/commands.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from shitu_cli.cli.app import app
from shitu_cli.cli.grouped import GroupedCommands, groups_of
from shitu_cli.cli.session import Session

HEADING = """# Commands

Written by `python -m shitu_cli.cli.reference > docs/commands.md`; a test compares it with the program.

Exit codes: 0 done, 2 the command line, 3 data, 4 the configuration, 5 the machine, 6 training, 130 stopped by Ctrl-C.
"""


def reference() -> str:
    """Return every command with its arguments and options."""
    context = app.make_context("shitu", [], obj=Session(), resilient_parsing=True)
    return HEADING + "".join(_command(app, context))


def _command(command: Any, context: Any) -> Iterator[str]:
    level = "#" * (2 + len(context.command_path.split()) - 1) if context.parent else "##"
    yield f"\n{level} `{context.command_path}`\n\n{' '.join((command.help or '').split())}\n"
    for heading, rows in groups_of(command, context).items():
        yield f"\n| {heading} | |\n|---|---|\n"
        for written, text in rows:
            yield f"| {_cell(f'`{written}`')} | {_cell(text)} |\n"
    for below in command.below(context) if isinstance(command, GroupedCommands) else ():
        yield from _command(below, below.make_context(below.name, [], parent=context, resilient_parsing=True))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(reference())
