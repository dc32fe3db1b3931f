"""What reaches a terminal: nothing that it obeys, nothing broken inside a word, and one line at a time."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
from pathlib import Path

import pytest
import yaml

from shitu_cli.cli.console import Console, clock, progress_line
from shitu_cli.errors import Command, DataError
from shitu_cli.reporting import visible
from shitu_cli.templates import read_template
from tests.command import shitu
from tests.test_pace import Clock

NASTY = "a\x1b]0;owned\x07\x1b[2Jb\rc\x9b31m\u202ed\u2028e\udcff\x7f\u061c"


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
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


def test_nothing_that_a_terminal_obeys_gets_through(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.info(NASTY)
    console.warn(["x ", NASTY])
    console.error(DataError(NASTY, hint=Command("train", NASTY), details=[NASTY]))
    console.table(NASTY, [NASTY, "b"], [[NASTY, 1]])
    console.json({NASTY: [NASTY]})
    out, err = capsys.readouterr()
    assert visible(NASTY) == r"a\x1b]0;owned\x07\x1b[2Jb\rc\x9b31m\u202ed\u2028e\udcff\x7f\u061c"
    assert not set(out + err) & set(NASTY) - set("abcdeowned]0;[2J31m")
    assert json.loads(out[out.index("{") :]) == {NASTY: [NASTY]}


def test_a_traceback_and_a_config_print_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    done = shitu("--debug", "prepare", NASTY.replace("\udcff", ""), cwd=tmp_path, check=False)
    assert "Traceback" in done.stderr and done.stderr.count(r"a\x1b]0;owned") > 1
    assert not set(done.stderr) & set(NASTY) - set("abcdeowned]0;[2J31m")
    (tmp_path / "shitu.yaml").write_text(read_template("quick"))
    values = yaml.safe_load(read_template("quick"))
    values["DataLoader"]["Train"]["dataset"]["image_root"] = root = f"/{NASTY[:-3]}\u061c"
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(values))
    shown = shitu("config", "--yaml", "-c", "bad.yaml", cwd=tmp_path).stdout
    assert not set(shown) & set(NASTY) - set("abcdeowned]0;[2J31m")
    assert yaml.safe_load(shown)["DataLoader"]["Train"]["dataset"]["image_root"] == root


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


def test_a_progress_inside_another_has_its_line_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch, 80)
    console = Console()
    with console.progress("training", 100) as bar:
        bar.advance(10)
        with console.progress("gallery", 40) as inner:
            inner.advance(40)
            console._live.refresh()
        both = stream.getvalue()
        console.info("epoch 1")
        bar.advance(10)
        console._live.refresh()
    assert re.search(r"training [^\n]*10/100 images[^\n]*\n[^\n]*gallery [^\n]*40/40 images", both), both
    assert stream.getvalue().rindex("gallery") < stream.getvalue().rindex("20/100 images")


@pytest.mark.parametrize("width", range(20, 140, 7))
def test_a_progress_line_keeps_count_and_time(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1280)
    clock.work(128, 0.5)
    fields: dict[str, object] = {"epoch": 3, "loss": "2.3100", "lr": "0.04", "memory": "1.2 GB"}
    line = progress_line(width, "train", "images", clock.pace, fields, bar=True)
    assert line.startswith("train  ") and "128/1,280 images" in line and "9:36 left" in line
    assert len(line) <= width or line == "train  128/1,280 images  9:36 left"
    # Memory, rate and bar are what goes first.
    gone = ["memory" not in line, "/s" not in line, "━" not in line, "loss" not in line]
    assert gone == sorted(gone, reverse=True)


def test_the_time_left_is_a_range_until_it_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 2000)
    clock.work(6, 1.0)
    assert (
        progress_line(200, "extracting", "images", clock.pace, {}) == "extracting  6/2,000 images  measuring the time"
    )
    for seconds in (0.8, 0.8, 1.2, 1.2, 0.9, 0.9):
        clock.work(1, seconds)
    line = progress_line(200, "extracting", "images", clock.pace, {})
    assert re.fullmatch(r"extracting  12/2,000 images  2\d:\d\d to 4\d:\d\d left  1/s", line), line
    clock.work(100, 1.0)
    assert "112/2,000 images  31:28 left" in progress_line(200, "extracting", "images", clock.pace, {})


def test_one_piece_of_work_has_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 40)
    clock.work(40, 5.0, step=40)
    assert progress_line(200, "extracting", "images", clock.pace, {}) == "extracting  40/40 images  0:00 left"
    unknown = Clock(monkeypatch, 0)
    unknown.work(3000, 1.0, step=1000)
    assert progress_line(200, "b5.onnx", "bytes", unknown.pace, {}) == "b5.onnx  3,000 bytes  1,000/s"


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


def test_beside_json_a_quiet_command_shows_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.quiet = console.as_json = True
    console.table("title", ["a"], [[1]])
    console.json([1])
    out, err = capsys.readouterr()
    assert json.loads(out) == [1] and err == ""
