"""One run of the command line: its console, the options given, and the commands to propose."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from shitu_cli import errors
from shitu_cli.boundary import protect
from shitu_cli.cli.console import Console
from shitu_cli.cli.grouped import GroupedCommands
from shitu_cli.errors import ARGUMENTS
from shitu_cli.workspace import enclosing_root, named_root

# Options that a proposed command repeats if it has them too. Of -o, it repeats only where a run is stored and what it
# is evaluated on; a run records all other values itself.
LASTING = (
    *("--workspace", "--config", "--override", "--device", "--index", "--store", "--collection"),
    *("--model", "--pretrained", "--detector", "--detector-threshold"),
)
LASTING_VALUES = ("Global.output_dir", "output_dir", "Global.device", "device", "DataLoader.Eval.")
_EXCLUSIVE = (("--resume", "--init-from"), ("--model", "--pretrained"))
EXCLUSIVE = {name: other for pair in _EXCLUSIVE for name, other in (pair, pair[::-1])}
# To which --model and --pretrained mean the same.
MODEL_COMMANDS = ("extract", "index build", "index add", "search", "serve")


class Session:
    """The object that commands receive as `context.obj`."""

    def __init__(self) -> None:
        self.console = Console(self.complete)
        self.debug = False
        self._context: typer.Context | None = None

    @classmethod
    def of(cls, context: typer.Context) -> Session:
        """Return the session that a command runs in."""
        assert isinstance(context.obj, cls)
        return context.obj

    def enter(self, context: typer.Context) -> None:
        """Remember the options of a command; with --json, reserve stdout for the result.

        Raises EnvironmentProblem if the current directory was removed: every relative path would be refused.
        """
        try:
            os.getcwd()
        except FileNotFoundError:
            raise errors.EnvironmentProblem(
                "the current directory no longer exists", hint="change to one that does, such as: cd ~"
            ) from None
        self._context = context
        if (root := named_root(self.workspace) or enclosing_root()) is not None:
            protect(root)  # also from commands that are told by options where everything is
        if "as_json" in context.params:
            self.console.as_json = bool(context.params["as_json"])

    @property
    def command(self) -> str:
        """The running command, such as `index build`; "" before one runs."""
        return "" if self._context is None else self._context.command_path.partition(" ")[2]

    @property
    def workspace(self) -> Path | None:
        """The directory given with -w, before the command or after it."""
        context: Any = self._context
        while context is not None:
            if context.params.get("workspace") is not None:
                return Path(context.params["workspace"])
            context = context.parent
        return None

    def complete(self, command: errors.Command) -> str:
        """Return a proposed command as the whole line to copy, with those of the user's options that it needs."""
        if self._context is None:
            return str(command)
        target = _find(self._context.find_root(), command.name)
        if target is None:
            return str(command)
        proposal = _split(target, command.words)
        words = list(proposal.arguments)
        if command.name == self.command and not words and ARGUMENTS not in command.without:
            words = list(self._arguments())
        keep = [option for option in self._options() if self._needed(option, command, target, proposal)]
        # The last override decides: one of a whole block must not undo what is proposed for a key in it.
        first = [option for option in keep if option[0] == "--override" and _overlaps(option[1], proposal.overrides)]
        keep = [option for option in keep if option not in first]
        options = [*_flat(first), *proposal.options, *_flat(keep)]
        return " ".join(["shitu", command.name, *map(shlex.quote, [*words, *options])])

    def given(self, *names: str) -> list[str]:
        """Return those of these options that the user has given."""
        options = [option[0] for option in self._options()]
        return [name for name in names if name in options]

    def refuse(self, *names: str, why: str, hint: errors.Message | None = None) -> None:
        """Raise UsageError if the user has given one of these options, which would be ignored."""
        if given := self.given(*names):
            raise errors.UsageError(f"{', '.join(given)}: {why}", hint=hint)

    def _needed(self, option: list[str], command: errors.Command, target: Any, proposal: _Words) -> bool:
        name = option[0]
        if name in command.without or name not in _options_of(target):
            return False
        if name == "--override":
            if any(option[1].partition("=")[0] == value.partition("=")[0] for value in proposal.overrides):
                return False
            return command.name == self.command or option[1].startswith(LASTING_VALUES)
        if name in proposal.names or EXCLUSIVE.get(name) in proposal.names:
            return False
        if command.name == self.command:
            return True
        if name in ("--model", "--pretrained") and not {command.name, self.command} <= set(MODEL_COMMANDS):
            return False
        return name in LASTING

    def _arguments(self) -> Iterator[str]:
        assert self._context is not None
        for parameter, value in self._given(self._context):
            if parameter.param_type_name == "argument":
                yield from (str(item) for item in (value if isinstance(value, (list, tuple)) else [value]))

    def _options(self) -> Iterator[list[str]]:
        """Yield each option that the user has given with its value; --workspace once, wherever it stood."""
        assert self._context is not None
        for parameter, value in self._given(self._context):
            if parameter.param_type_name != "option" or parameter.name in ("workspace", "debug"):
                continue
            name = _long(parameter.opts)
            if parameter.is_flag:
                yield [name] if value else [_long(parameter.secondary_opts)]
            else:
                yield from ([name, str(item)] for item in (value if isinstance(value, (list, tuple)) else [value]))
        if self.workspace is not None:
            yield ["--workspace", str(self.workspace)]

    @staticmethod
    def _given(context: typer.Context) -> Iterator[tuple[Any, Any]]:
        for parameter in context.command.params:
            source = context.get_parameter_source(parameter.name or "")
            if source is not None and source.name == "COMMANDLINE":
                yield parameter, context.params.get(parameter.name or "")


@dataclass
class _Words:
    """The words of a proposed command: its arguments, and its options with their values."""

    arguments: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    overrides: list[str] = field(default_factory=list)


def _split(target: Any, words: list[str]) -> _Words:
    options = _options_of(target)
    result, rest = _Words(), iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            result.arguments.append(word)
            continue
        parameter = options.get(word)
        result.options.append(word)
        result.names.add(word if parameter is None else _long(parameter.opts))
        if parameter is not None and not parameter.is_flag:
            value = next(rest, "")
            result.options.append(value)
            if parameter.name == "override":
                result.overrides.append(value)
    return result


def _overlaps(override: str, others: list[str]) -> bool:
    """Return whether an override `Key.path=value` is of a block around one of the others, or of a key inside one."""
    key, *keys = (f"{text.partition('=')[0]}." for text in (override, *others))
    return any(key.startswith(other) or other.startswith(key) for other in keys)


def _find(context: Any, name: str) -> Any:
    """Return the command of that name, such as `index build`, below the root; None if there is no such command."""
    command: Any = context.command
    for word in name.split():
        command = command.get_command(context, word) if isinstance(command, GroupedCommands) else None
    return command


def _options_of(target: Any) -> dict[str, Any]:
    return {text: p for p in target.params if p.param_type_name == "option" for text in (*p.opts, *p.secondary_opts)}


def _long(names: list[str]) -> str:
    return max(names, key=len)


def _flat(options: list[list[str]]) -> Iterator[str]:
    short = {"--workspace": "-w", "--config": "-c", "--override": "-o"}
    for option in options:
        yield short.get(option[0], option[0])
        yield from option[1:]
