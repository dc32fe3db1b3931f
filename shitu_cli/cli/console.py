"""Write to the terminal: the only module that does, and the only one that imports rich."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shitu_cli.errors import Command, Message, ShituError, parts_of
from shitu_cli.pace import Left, Pace
from shitu_cli.reporting import Bar, visible, visible_json

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

MAX_DETAILS = 40  # of an error
LOG_SECONDS = 10  # between two progress lines in a log
_BLANK = "\ue000"  # replaces blanks inside commands while a sentence is broken into lines
_DROPPED_FIRST = ("memory", "rate", "bar")  # from a progress line that is too long, in this order


class Console:
    """Shows people lines, tables, errors and, on a terminal, a live line for each progress.

    With `quiet`, only results, warnings and errors are shown; with `as_json`, stdout carries nothing but JSON.
    `complete` turns a command that a message proposes into the whole line to copy.
    """

    def __init__(self, complete: Callable[[Command], str] = str) -> None:
        self.quiet = False
        self.as_json = False
        self._complete = complete
        self._live: Any = None  # rich's Progress while it shows lines

    def info(self, text: Message) -> None:
        """Print one line about what happens; hidden by --quiet."""
        if not self.quiet:
            self._print(self._styled(text))

    def warn(self, text: Message) -> None:
        """Print to stderr one line that a user should act on."""
        self._print(self._styled(text, "warning: ", "yellow"), stderr=True)

    def error(self, error: ShituError) -> None:
        """Print an error to stderr: its message, its details and its hint."""
        self._print(self._styled(error.message, "error: ", "bold red"), stderr=True)
        for detail in error.details[:MAX_DETAILS]:
            self._print(self._styled(f"  {detail}"), stderr=True)
        if len(error.details) > MAX_DETAILS:
            self._print(self._styled(f"  ... and {len(error.details) - MAX_DETAILS} more"), stderr=True)
        if error.advice:
            self._print(self._styled(error.advice, "hint: ", "bold"), stderr=True)

    def trace(self, error: BaseException) -> None:
        """Print to stderr where an error was raised, for who reports it."""
        sys.stderr.write(visible("".join(traceback.format_exception(error))))

    def next_step(self, step: Message) -> None:
        """Print the next command to run, ready to copy."""
        if not self.quiet and not self.as_json:
            self._print(self._styled(step, "\nnext: ", "dim", body="bold"))

    def json(self, value: object) -> None:
        """Print the result as JSON on stdout."""
        # Elsewhere than in UTF-8, what a stream cannot write would become an escape that JSON does not have.
        is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        text = json.dumps(_finite(value), indent=2, ensure_ascii=not is_utf8)
        self.document(visible_json(text) + "\n")

    def document(self, text: str) -> None:
        """Print a whole document, such as a config; unchanged but for what terminals obey."""
        sys.stdout.write(visible(text))
        sys.stdout.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a small table of results, also with --quiet; columns of numbers are right-aligned.

        Without columns, only the title is printed; beside JSON, which has it all, --quiet hides it.
        """
        if self.quiet and self.as_json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        console = self._rich()
        if not console.is_terminal:
            console.width = 160
        if title:  # on its own line, so that a narrow table does not wrap it
            console.print(Text(visible(title), style="bold"))
        if not columns:
            return
        table = Table(box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[number]) for row in rows)
            table.add_column(visible(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(str(cell))) for cell in row))
        if console.is_terminal:
            console.print(table)
            return
        with console.capture() as capture:
            console.print(table)
        lines = [line.rstrip() for line in capture.get().split("\n")]  # rich fills every line with blanks
        console.file.write("\n".join(lines).strip("\n") + "\n\n")

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "images") -> Iterator[Bar]:
        """Show the progress of `total` units: as a live line on a terminal, as occasional lines in a log.

        A progress inside another one has its line below it.
        """
        console, pace = self._rich(stderr=True), Pace(total)
        if self.quiet:
            yield _Bar(pace, lambda fields: None)
            return
        if not console.is_terminal or os.environ.get("TERM") == "dumb":
            shown = time.monotonic()

            def write_now_and_then(fields: dict[str, object]) -> None:
                nonlocal shown
                if time.monotonic() - shown >= LOG_SECONDS:
                    shown = time.monotonic()
                    self._print(self._styled(progress_line(10_000, what, unit, pace, fields)), stderr=True)

            yield _Bar(pace, write_now_and_then)
            return
        with self._live_lines(console) as live:
            task = live.add_task(visible(what), total=total, unit=unit, pace=pace, fields={})
            try:
                yield _Bar(pace, lambda fields: live.update(task, completed=pace.done, fields=dict(fields)))
            finally:
                live.remove_task(task)

    @contextmanager
    def _live_lines(self, console: Any) -> Iterator[Any]:
        """Return rich's Progress: a new one on `console`, or the one that is there."""
        if self._live is not None:
            yield self._live
            return
        from rich.progress import Progress

        with Progress(_live_column(console), console=console, transient=True) as self._live:
            try:
                yield self._live
            finally:
                self._live = None

    def _rich(self, stderr: bool = False) -> Any:
        from rich.console import Console as RichConsole

        stream = sys.stderr if stderr or self.as_json else sys.stdout
        # Text in a file or a pipe is never wrapped: paths and commands stay whole for grep and copy.
        width = None if stream.isatty() else 10_000
        return RichConsole(file=stream, highlight=False, emoji=False, width=width)

    def _styled(self, message: Message, heading: str = "", style: str = "", body: str = "") -> Text:
        """Return a message as styled text, its commands completed and protected from line breaks."""
        from rich.text import Text

        text = Text(heading, style=style)
        for part in parts_of(message):
            if isinstance(part, Command):
                text.append(visible(self._complete(part)).replace(" ", _BLANK), style=body)
            else:
                text.append(visible(part), style=body)
        return text

    def _print(self, text: Text, stderr: bool = False) -> None:
        from rich.text import Text

        console = self._rich(stderr)
        if self._live is not None and console.is_terminal:
            console = self._live.console  # above the progress lines, not through them
        for line in text.split("\n", allow_blank=True):
            for piece in line.divide(_breaks(line.plain, console.width)):
                piece.rstrip()
                whole = Text(piece.plain.replace(_BLANK, " "), spans=piece.spans, style=piece.style)
                console.print(whole, soft_wrap=True)


def _breaks(text: str, width: int) -> list[int]:
    """Return the positions at which to break a line: only between words, so that long paths and commands stay whole."""
    from rich.cells import cell_len

    breaks: list[int] = []
    column = 0
    for word in re.finditer(r"\s*\S+", text):
        if column and column + cell_len(word[0]) > width:
            breaks.append(word.start() + len(word[0]) - len(word[0].lstrip()))
            column = cell_len(word[0].lstrip())
        else:
            column += cell_len(word[0])
    return breaks


def _finite(value: Any) -> Any:
    """Return plain values with null in place of numbers that JSON does not have: not-a-number and infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Bar:
    """Shows progress by `show`, which is called with the newest fields after each step."""

    def __init__(self, pace: Pace, show: Callable[[dict[str, object]], None]) -> None:
        self.pace, self._show, self._fields = pace, show, dict[str, object]()

    def advance(self, n: int = 1, **fields: object) -> None:
        self.pace.advance(n)
        self._fields.update(fields)
        self._show(self._fields)


def _live_column(console: Any) -> Any:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Line(ProgressColumn):
        """Draws the whole progress line, as wide as the terminal."""

        def render(self, task: Task) -> Text:
            return Text(progress_line(console.width - 1, task.description, bar=True, **task.fields))

    return Line()


def progress_line(
    width: int,
    what: str,
    unit: str,
    pace: Pace,
    fields: Mapping[str, object],
    *,
    bar: bool = False,
) -> str:
    """Return a line like `train 128/640 images  0:12 left  loss 2.31  12/s` of at most `width` characters.

    Count and time left always stay; memory, rate and bar are dropped first, then the last of the `fields`.
    """
    rate, total = pace.rate(), pace.total
    filled = round(24 * pace.done / max(total, 1))
    parts = {"bar": "━" * filled + "╌" * (24 - filled)} if bar else {}
    parts |= (
        {"count": f"{pace.done:,}/{total:,} {unit}", "left": _left(pace.left())}
        if total
        else {"count": f"{pace.done:,} {unit}"}
    )
    parts |= {name: f"{name} {value}" for name, value in fields.items()}
    if rate is not None:
        parts["rate"] = f"{rate:,.0f}/s" if rate >= 1 else f"{rate * 60:,.1f}/min"
    removable = [*_DROPPED_FIRST, *(name for name in reversed(list(fields)) if name not in _DROPPED_FIRST)]
    for name in removable:
        if len(what) + sum(2 + len(text) for text in parts.values()) <= width:
            break
        parts.pop(name, None)
    return "  ".join([what, *parts.values()])


def _left(seconds: Left | None) -> str:
    """Return `4:05 left`, or `3:00 to 5:00 left` where that is not sure."""
    if seconds is None:
        return "measuring the time"
    least, most = clock(seconds.least), clock(seconds.most)
    return f"{clock(seconds.middle)} left" if seconds.is_sure or least == most else f"{least} to {most} left"


def clock(seconds: float) -> str:
    """Return `1:02:03` or `4:05` for a number of seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _is_number(cell: object) -> bool:
    text = str(cell).strip().rstrip("%x×").replace(",", "").strip()
    try:
        float(text.split()[0] if text else "x")
    except ValueError:
        return text in ("", "-", "–")
    return True
