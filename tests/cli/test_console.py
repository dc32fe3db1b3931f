"""What reaches a terminal: nothing that it obeys, nothing broken inside a word, and one line at a time."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shitu_cli.cli.console import Console, clock, progress_line
from shitu_cli.cli.pace import Pace
from shitu_cli.errors import Command, DataError
from shitu_cli.reporting import visible

NASTY = "a\x1b]0;owned\x07\x1b[2Jb\rc\x9b31m\u202ed\u2028e\udcff\x7f"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 40) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return stream


def plain_lines(stream: Terminal) -> list[str]:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


def test_nothing_that_a_terminal_obeys_gets_through(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.info(NASTY)
    console.warn(["x ", NASTY])
    console.error(DataError(NASTY, hint=Command("train", NASTY), details=[NASTY]))
    console.table(NASTY, [NASTY, "b"], [[NASTY, 1]])
    console.json({NASTY: [NASTY]})
    out, err = capsys.readouterr()
    assert visible(NASTY) == r"a\x1b]0;owned\x07\x1b[2Jb\rc\x9b31m\u202ed\u2028e\udcff\x7f"
    assert not set(out + err) & set(NASTY) - set("abcdeowned]0;[2J31m")
    assert json.loads(out[out.index("{") :]) == {NASTY: [NASTY]}


def test_sentences_break_between_words_and_commands_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    command = Command("prepare", "./a-folder-with-a-long-name", "--split", "open")
    console = Console()
    console.warn(["there is nothing here that could be compared: ", command, " keeps some images for evaluation"])
    lines = plain_lines(stream)
    assert str(command) in lines
    assert " ".join(line.strip() for line in lines).split() == (
        f"warning: there is nothing here that could be compared: {command} keeps some images for evaluation".split()
    )
    assert all(len(line) <= 40 for line in lines if str(command) not in line)


def test_files_and_pipes_get_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Console().info("word " * 100)
    assert capsys.readouterr().out.strip() == ("word " * 100).strip()


def test_lines_stand_above_the_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch, 80)
    console = Console()
    with console.progress("train", 100) as bar:
        bar.advance(10, loss="2.1")
        console.info("epoch 1: loss 2.1")
    cleared = stream.getvalue().partition("epoch 1: loss 2.1")[0]
    assert cleared.endswith("\x1b[2K")  # the progress line is wiped before the text takes its place
    assert stream.getvalue().count("epoch 1: loss 2.1\n") == 1


@pytest.fixture
def clock_of(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("shitu_cli.cli.pace.time.monotonic", lambda: clock.now)
    return clock


class Clock:
    """A clock that is set by hand, and the pace of a task by it."""

    def __init__(self) -> None:
        self.now, self.pace = 0.0, Pace()

    def work(self, units: int, seconds: float) -> None:
        """Do so many units one by one, each in so many seconds."""
        for _ in range(units):
            self.now += seconds
            self.pace.advance(1)


@pytest.mark.parametrize("width", range(20, 140, 7))
def test_a_progress_line_keeps_count_and_time(width: int, clock_of: Clock) -> None:
    clock_of.work(128, 0.5)
    fields: dict[str, object] = {"epoch": 3, "loss": "2.3100", "lr": "0.04", "memory": "1.2 GB"}
    line = progress_line(width, "train", 1280, "images", clock_of.pace, fields, bar=True)
    assert line.startswith("train  ") and "128/1,280 images" in line and "9:36 left" in line
    assert len(line) <= width or line == "train  128/1,280 images  9:36 left"
    # Memory, rate and bar are what goes first.
    gone = ["memory" not in line, "/s" not in line, "━" not in line, "loss" not in line]
    assert gone == sorted(gone, reverse=True)


def test_the_time_left_does_not_count_what_is_spent_before_the_first_units(clock_of: Clock) -> None:
    """50 s of loading, a few slow images, then one a second: after 1 % of 2,000 images 1,980 s are left, not 6,900."""
    pace = clock_of.pace
    clock_of.now = 50.0
    assert pace.rate() is None and pace.left(2000) is None
    assert "-:-- left" in progress_line(200, "extracting", 2000, "images", pace, {})
    clock_of.work(1, 1.0)
    assert pace.left(2000) is None, "the first one took the loading too"
    clock_of.work(3, 3.0)
    clock_of.work(16, 1.0)
    assert "33:00 left" in progress_line(200, "extracting", 2000, "images", pace, {})


def test_what_is_done_between_units_is_expected_not_taken_for_their_pace(clock_of: Clock) -> None:
    """10 epochs of 100 s, an evaluation of 30 s after each."""
    pace = clock_of.pace
    pace.expected = 300.0
    clock_of.work(10, 1.0)
    assert pace.left(1000) == pytest.approx(990 + 300)
    clock_of.work(90, 1.0)
    for epoch in range(1, 10):
        with pace.aside():
            clock_of.now += 30.0
            assert pace.rate() == pytest.approx(1.0), "also while a live line is drawn during the evaluation"
        pace.expected = 300.0 - 30.0 * epoch
        assert pace.left(1000) == pytest.approx(130.0 * (10 - epoch))
        clock_of.work(100, 1.0)
    assert pace.left(1000) == 30.0


def test_one_piece_of_work_has_no_pace(clock_of: Clock) -> None:
    clock_of.now = 5.0
    clock_of.pace.advance(40)
    line = progress_line(200, "extracting", 40, "images", clock_of.pace, {})
    assert line == "extracting  40/40 images  0:00 left"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.001, 100)), min_size=2, max_size=60))
def test_the_time_left_lies_between_those_of_the_fastest_and_the_slowest_pace(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shitu_cli.cli.pace.time.monotonic", lambda: clock.now)
        for units, seconds in steps:
            clock.now += seconds
            clock.pace.advance(units)
        paces = [units / seconds for units, seconds in steps[1:]]
        left = clock.pace.left(clock.pace.done + 100)
    assert left is not None and 0.999 * 100 / max(paces) <= left <= 1.001 * 100 / min(paces)


def test_times_for_people() -> None:
    assert [clock(value) for value in (0.4, 59.6, 3725)] == ["0:00", "1:00", "1:02:05"]


def test_a_real_terminal_shows_one_progress_line(tmp_path: Path) -> None:
    """Two consoles on one terminal once wrote through each other."""
    code = (
        "from shitu_cli.cli.console import Console\n"
        "console = Console()\n"
        "with console.progress('train', 30) as bar:\n"
        "    for n in range(3):\n"
        "        bar.advance(10)\n"
        "        console.info(f'epoch {n}')\n"
    )
    pid, terminal_end = pty.fork()
    if pid == 0:
        os.environ.update(COLUMNS="80", TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    while True:
        try:
            shown += os.read(terminal_end, 65536)
        except OSError:
            break
    os.waitpid(pid, 0)
    os.close(terminal_end)
    lines = shown.decode().replace("\r", "\n").split("\n")
    for number in range(3):
        assert any(line.rpartition("\x1b[2K")[2] == f"epoch {number}" for line in lines), shown


def test_a_table_in_a_pipe_has_no_blanks_at_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("sizes", ["file", "size"], [["a b", "1"], ["c", "20"]])
    lines = capsys.readouterr().out.split("\n")
    assert [line.split() for line in lines[:2]] == [["sizes"], ["file", "size"]] and "  a b       1" in lines
    assert all(line == line.rstrip() for line in lines)


def test_a_table_without_columns_is_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("photo.jpg: unknown", [], [])
    assert capsys.readouterr().out == "photo.jpg: unknown\n"
