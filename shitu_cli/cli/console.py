"""How text reaches a user: the only module that writes to the terminal, and the only one that imports rich."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from shitu_cli.errors import Command, Message, ShituError, parts_of
from shitu_cli.reporting import HIDDEN, Bar, visible

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

MAX_DETAILS = 40  # of an error
LOG_SECONDS = 10  # between two progress lines of a log
_BLANK = "\ue000"  # stands for a blank inside a command while its sentence is broken into lines
_FIRST_TO_GO = ("memory", "rate", "bar")  # of a progress line that is too long, in this order


class Console:
    """A Reporter for people: plain lines, tables, errors, and one live progress line on a terminal.

    `quiet` keeps results, warnings and errors only; `as_json` keeps stdout for JSON. `complete` turns a command that a
    message proposes into the whole line to copy.
    """

    def __init__(self, complete: Callable[[Command], str] = str) -> None:
        self.quiet = False
        self.as_json = False
        self._complete = complete
        self._live: Any = None  # rich's console while a progress line stands on it

    def info(self, text: Message) -> None:
        """Print one line of what happens, which --quiet hides."""
        if not self.quiet:
            self._print(self._styled(text))

    def warn(self, text: Message) -> None:
        """Print one line that a user should act on, to stderr."""
        self._print(self._styled(text, "warning: ", "yellow"), stderr=True)

    def error(self, error: ShituError) -> None:
        """Print an error's message in one red line, its details, and the way out."""
        self._print(self._styled(error.message, "error: ", "bold red"), stderr=True)
        for detail in error.details[:MAX_DETAILS]:
            self._print(self._styled(f"  {detail}"), stderr=True)
        if len(error.details) > MAX_DETAILS:
            self._print(self._styled(f"  ... and {len(error.details) - MAX_DETAILS} more"), stderr=True)
        if error.advice:
            self._print(self._styled(error.advice, "hint: ", "bold"), stderr=True)

    def next_step(self, step: Message) -> None:
        """Print the next command to run, ready to copy."""
        if not self.quiet and not self.as_json:
            self._print(self._styled(step, "\nnext: ", "dim", body="bold"))

    def json(self, value: object) -> None:
        """Print the result for programs, alone on stdout."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        # JSON itself escapes what lies below U+0020; terminals obey some characters above it too.
        self.document(HIDDEN.sub(lambda character: f"\\u{ord(character[0]):04x}", text) + "\n")

    def document(self, text: str) -> None:
        """Print a whole document, such as a config, as it is to be saved."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a small table of results, also with --quiet; columns of numbers are right-aligned."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        console = self._rich()
        if not console.is_terminal:
            console.width = 160
        if title:  # as a line of its own, which no narrow table breaks
            console.print(Text(visible(title), style="bold"))
        table = Table(box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[number]) for row in rows)
            table.add_column(visible(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(str(cell))) for cell in row))
        console.print(table)

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "images") -> Iterator[Bar]:
        """Show how far a work of `total` units is: a live line on a terminal, now and then a line in a log."""
        console = self._rich(stderr=True)
        if self.quiet or not console.is_terminal or os.environ.get("TERM") == "dumb":
            yield _LoggedBar(self._log_line, what, total, unit, seconds=float("inf") if self.quiet else LOG_SECONDS)
            return
        from rich.progress import Progress

        with Progress(_live_column(console, unit), console=console, transient=True) as progress:
            self._live = console
            try:
                yield _LiveBar(progress, progress.add_task(visible(what), total=total, fields={}))
            finally:
                self._live = None

    def _log_line(self, text: str) -> None:
        self._print(self._styled(text), stderr=True)

    def _rich(self, stderr: bool = False) -> Any:
        from rich.console import Console as RichConsole

        stream = _stream(stderr or self.as_json)
        # Text in a file or a pipe is never wrapped: paths and commands stay whole for grep and copy.
        width = None if stream.isatty() else 10_000
        return RichConsole(file=stream, highlight=False, emoji=False, width=width)

    def _styled(self, message: Message, heading: str = "", style: str = "", body: str = "") -> Text:
        """Join the parts of a message, its commands complete and their blanks kept from being broken at."""
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
            console = self._live  # above the progress line, not through it
        for line in text.split("\n", allow_blank=True):
            for piece in line.divide(_breaks(line.plain, console.width)):
                piece.rstrip()
                whole = Text(piece.plain.replace(_BLANK, " "), spans=piece.spans, style=piece.style)
                console.print(whole, soft_wrap=True)


def _breaks(text: str, width: int) -> list[int]:
    """Return where to break a line: between words only. A path or a command that is too long stays whole."""
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


def _stream(stderr: bool) -> TextIO:
    return sys.stderr if stderr else sys.stdout


class _LoggedBar:
    """A line now and then, for logs and pipes."""

    def __init__(self, show: Callable[[str], None], what: str, total: int, unit: str, seconds: float) -> None:
        self.show, self.what, self.total, self.unit, self.seconds = show, what, total, unit, seconds
        self.done = 0
        self.start = self.shown = time.monotonic()
        self.fields: dict[str, object] = {}

    def advance(self, n: int = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        now = time.monotonic()
        if now - self.shown >= self.seconds:
            self.shown = now
            self.show(progress_line(10_000, self.what, self.done, self.total, self.unit, now - self.start, self.fields))


class _LiveBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self.task = progress, task
        self.fields: dict[str, object] = {}

    def advance(self, n: int = 1, **fields: object) -> None:
        self.fields.update(fields)
        self.progress.update(self.task, advance=n, fields=dict(self.fields))


def _live_column(console: Any, unit: str) -> Any:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Line(ProgressColumn):
        """The whole progress line, as long as the terminal is wide."""

        def render(self, task: Task) -> Text:
            done, total, seconds = int(task.completed), int(task.total or 0), task.elapsed or 0.0
            fields = task.fields["fields"]
            width = console.width - 1
            return Text(progress_line(width, task.description, done, total, unit, seconds, fields, bar=True))

    return Line()


def progress_line(
    width: int,
    what: str,
    done: int,
    total: int,
    unit: str,
    seconds: float,
    fields: dict[str, object],
    *,
    bar: bool = False,
) -> str:
    """Return `train 128/640 images  0:12 left  loss 2.31  12/s`, as much of it as `width` characters hold.

    What was done, of how much, and the time left are always there; memory, rate and bar go first, then the last fields.
    """
    rate = done / max(seconds, 1e-9)
    left = clock((total - done) / rate) if rate else "-:--"
    filled = round(24 * done / max(total, 1))
    parts = {"bar": "━" * filled + "╌" * (24 - filled)} if bar else {}
    parts |= {"count": f"{done:,}/{total:,} {unit}", "left": f"{left} left"}
    parts |= {name: f"{name} {value}" for name, value in fields.items()}
    parts["rate"] = f"{rate:,.0f}/s"
    removable = [*_FIRST_TO_GO, *(name for name in reversed(list(fields)) if name not in _FIRST_TO_GO)]
    for name in removable:
        if len(what) + sum(2 + len(text) for text in parts.values()) <= width:
            break
        parts.pop(name, None)
    return "  ".join([what, *parts.values()])


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
