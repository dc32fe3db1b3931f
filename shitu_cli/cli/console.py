"""All that a user sees goes through here; the only module that imports rich."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shitu_cli.errors import ShituError
from shitu_cli.reporting import Bar, Reporter, SilentReporter

MAX_DETAILS = 40  # of an error

_COMMAND = re.compile(r"\bshitu (prepare|train|evaluate|export|extract|search|index (?:build|add|remove|show))\b")

_state: dict[str, Any] = {"quiet": False, "json": False, "index": (), "override": ()}
_state |= dict.fromkeys(("workspace", "config", "device"))
# Overrides that say where a run is and what it is measured with; others are its own affair.
_LASTING = ("Global.output_dir", "output_dir", "Global.device", "device", "DataLoader.Eval.")


def configure(
    *,
    quiet: bool | None = None,
    as_json: bool | None = None,
    workspace: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    index: Sequence[str] | None = None,
    device: str | None = None,
    override: Sequence[str] | None = None,
) -> None:
    """Set once per command: `quiet` keeps results, warnings and errors only; `as_json` keeps stdout for JSON.

    `workspace`, `config`, `device` and `override` are what the user gave with -w, -c, --device and -o, `index` the
    options that name an index and its model: the next command needs them too.
    """
    if device is not None:
        _state["device"] = device
    if override is not None:
        _state["override"] = [text for text in override if text.startswith(_LASTING)]
    if index is not None:
        _state["index"] = index
    if config is not None:
        _state["config"] = os.fspath(config)
    if workspace is not None:
        _state["workspace"] = os.fspath(workspace)
    if quiet is not None:
        _state["quiet"] = quiet
    if as_json is not None:
        _state["json"] = as_json


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    stderr = stderr or _state["json"]
    stream = sys.stderr if stderr else sys.stdout
    # Text in a file or a pipe is never wrapped: paths and commands stay whole for grep and copy.
    width = None if stream.isatty() else 10_000
    return Console(file=stream, highlight=False, emoji=False, soft_wrap=True, width=width)


class _PlainBar:
    """A line now and then, for logs and pipes."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.start = self.shown = time.monotonic()
        self.fields: dict[str, object] = {}

    def advance(self, n: int = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        now = time.monotonic()
        if now - self.shown >= 10:
            self.shown = now
            self.line(now)

    def line(self, now: float) -> None:
        rate = self.done / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        fields = "".join(f"  {key} {value}" for key, value in self.fields.items())
        text = f"{self.what} {self.done:,}/{self.total:,} {self.unit}  {rate:,.0f}/s  {_time(left)} left{fields}"
        _console(stderr=True).print(text, markup=False)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class _RichBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self.task = progress, task
        self.done, self.start = 0, time.monotonic()
        self.fields: dict[str, object] = {}

    def advance(self, n: int = 1, **fields: object) -> None:
        self.fields.update(fields)
        self.done += n
        rate = f"{self.done / max(time.monotonic() - self.start, 1e-9):,.0f}/s"
        shown = "  ".join([rate, *(f"{key} {value}" for key, value in self.fields.items())])
        self.progress.update(self.task, advance=n, fields=shown)


class RichReporter:
    """A Reporter for people: plain lines, and one live progress line on a terminal."""

    def info(self, text: str) -> None:
        if not _state["quiet"]:
            _console().print(text, markup=False)

    def warn(self, text: str) -> None:
        from rich.text import Text

        _console(stderr=True).print(Text("warning: ", style="yellow") + Text(text))

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "images") -> Iterator[Bar]:
        console = _console(stderr=True)
        if _state["quiet"] or not console.is_terminal or os.environ.get("TERM") == "dumb":
            bar = _PlainBar(what, total, unit)
            if _state["quiet"]:
                bar.shown = float("inf")
            yield bar
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[fields]}", markup=False),
            console=console,
            transient=True,
        ) as progress:
            yield _RichBar(progress, progress.add_task(what, total=total, fields=""))


def reporter() -> Reporter:
    """What commands hand to the inner layers."""
    return RichReporter()


def silent() -> Reporter:
    """For processes that must not speak beside another."""
    return SilentReporter()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A small table, of results, so also with --quiet; columns whose cells are all numbers are right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console()
    if not console.is_terminal:
        console.width = 160
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[number]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)


def _is_number(cell: object) -> bool:
    text = str(cell).strip().rstrip("%x×").replace(",", "").strip()
    try:
        float(text.split()[0] if text else "x")
    except ValueError:
        return text in ("", "-", "–")
    return True


def size(count: int) -> str:
    """Bytes for people: 932 B, 12.2 kB, 33.7 MB."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def print_json(value: object) -> None:
    """The result for machines, alone on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def completed(text: str) -> str:
    """A text that names commands, with the options that the user gave and that they need too."""

    def with_options(found: re.Match[str]) -> str:
        command, words = found[1], []
        if command.startswith(("index", "search")):
            others = ("--model",) if command in ("index remove", "index show") else ()  # they ask no model
            words += [word for word in _state["index"] if word.split()[0] not in (*text.split(), *others)]
        return " ".join([found[0], *words, *_place(command)])

    return _COMMAND.sub(with_options, text)


def _place(command: str) -> list[str]:
    given = [("-w", _state["workspace"])]
    if command in ("train", "evaluate", "export"):
        given += [("-c", _state["config"]), *(("-o", text) for text in _state["override"])]
    if command in ("train", "evaluate"):
        given.append(("--device", _state["device"]))
    return [f"{option} {shlex.quote(value)}" for option, value in given if value is not None]


def next_step(command: str) -> None:
    """The next command to run, ready to copy."""
    if _state["quiet"] or _state["json"]:
        return
    from rich.text import Text

    if command.startswith("shitu "):
        command = " ".join([command, *_place(command.split()[1])])
    _console().print(Text("\nnext: ", style="dim") + Text(command, style="bold"))


def show_error(error: ShituError) -> None:
    """One red line, its details, and the way out."""
    from rich.text import Text

    console = _console(stderr=True)
    console.print(Text("error: ", style="bold red") + Text(error.message))
    for detail in error.details[:MAX_DETAILS]:
        console.print(Text(f"  {detail}"))
    if len(error.details) > MAX_DETAILS:
        console.print(Text(f"  ... and {len(error.details) - MAX_DETAILS} more"))
    if error.hint:
        console.print(Text("hint: ", style="bold") + Text(completed(error.hint)))
