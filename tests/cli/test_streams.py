"""Closed, full and broken outputs, too little memory, and values that no machine can take: the right exit code."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from shitu_cli.cli import app as cli
from shitu_cli.cli.grouped import GroupedCommands
from shitu_cli.cli.reference import reference
from shitu_cli.cli.session import Session
from shitu_cli.errors import EXTRAS, pip_install
from shitu_cli.files import atomic_dir, atomic_write_text
from tests.command import shitu

ROOT = Path(__file__).parents[2]
SHITU = f"{sys.executable} -m shitu_cli"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a POSIX shell and /dev/full")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("templates >&-", 0),
        ("templates 2>&-", 0),
        ("templates <&- >&- 2>&-", 0),
        ("train >&-", 2),
        ("train 2>&-", 2),
        ("templates </dev/null", 0),
        ("templates >/dev/full", 5),
        ("train 2>/dev/full", 2),
    ],
)
def test_exit_codes_do_not_depend_on_who_listens(tmp_path: Path, command: str, code: int) -> None:
    done = subprocess.run(["bash", "-c", f"{SHITU} {command}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_the_program_ends_at_once_but_for_what_others_have_left_to_do(tmp_path: Path) -> None:
    code = "import atexit, sys; atexit.register(print, 'left to do'); sys.argv = ['shitu', *sys.argv[1:]]\n"
    code += "from shitu_cli.__main__ import program; program()"
    for words, ends in ((["--version"], 0), (["nothing"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == ends and done.stdout.endswith("left to do\n")


def test_a_reader_that_leaves_is_no_error_of_ours(tmp_path: Path) -> None:
    script = f"{SHITU} templates product | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] in ("0", "141") and not done.stderr  # 0 where all fitted into the pipe


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MemoryError(), 5, "not enough memory"),
        (RuntimeError("can't start new thread"), 5, "more threads"),
        (PermissionError(13, "Permission denied", "/x"), 5, "check the permissions"),
        (OSError(36, "File name too long", "x" * 999), 2, "too long"),
        (KeyError("x"), 1, "report its output"),
    ],
)
def test_refusals_of_the_machine(
    error: Exception, code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    done = shitu("templates", cwd=tmp_path, check=False)
    assert done.returncode == code and says in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["train", "-c", "x" * 5000],
        ["-w", "x" * 5000, "train"],
        ["models", "--size", "9" * 30],
        ["search", "p.jpg", "--top", "9" * 30],
        ["prepare", "x" * 5000],
    ],
)
def test_values_beyond_every_measure(tmp_path: Path, words: list[str]) -> None:
    done = shitu(*words, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "unexpected" not in done.stderr


def test_more_processes_than_any_machine_has(tmp_path: Path) -> None:
    from shitu_cli.errors import UsageError
    from shitu_cli.processes.launch import parse_devices

    for text in ("cpu:99999", "cpu:" + "9" * 30, "cpu:0"):
        with pytest.raises(UsageError):
            parse_devices(text)
    assert parse_devices("cpu:2") == ["cpu", "cpu"]


def commands(command: Any, context: typer.Context) -> list[tuple[str, Any]]:
    """Every command below one, with its path."""
    found = [(context.command_path, command)]
    for below in command.below(context) if isinstance(command, GroupedCommands) else ():
        found += commands(below, below.make_context(below.name, [], parent=context, resilient_parsing=True))
    return found


def all_commands() -> list[tuple[str, Any]]:
    return commands(cli.app, cli.app.make_context("shitu", [], obj=Session(), resilient_parsing=True))


def test_every_number_has_its_range() -> None:
    endless = [
        f"{path} {parameter.opts[-1]}"
        for path, command in all_commands()
        for parameter in command.params
        if ("int" in str(kind := getattr(parameter, "type_descriptor", "")) or "float" in str(kind))
        and not parameter.is_flag
        and (parameter.min is None or parameter.max is None)
    ]
    assert not endless


@pytest.mark.parametrize("path", [path for path, _ in all_commands()])
def test_help_is_whole_at_80_columns(path: str, tmp_path: Path) -> None:
    text = shitu(*path.split()[1:], "--help", cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    assert all(len(line) <= 80 for line in text.splitlines()) and not re.search(r"[a-z.]\.\.\.$", text, re.M)
    assert (
        text.startswith("Usage: shitu")
        and "General:\n" in text
        and ("--quiet" in text or path in ("shitu index", "shitu weights"))
    )


def test_the_reference_is_that_of_the_program() -> None:
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert text == reference(), "python -m shitu_cli.cli.reference > docs/commands.md"


def test_quiet_may_stand_behind_the_command(tmp_path: Path) -> None:
    assert "next:" in shitu("templates", cwd=tmp_path).stdout
    assert "next:" not in shitu("templates", "-q", cwd=tmp_path).stdout
    assert "next:" not in shitu("-q", "templates", cwd=tmp_path).stdout


def test_hints_install_no_package_of_our_own_name() -> None:
    assert pip_install("milvus") == "pip install 'pymilvus[milvus-lite]' milvus-lite"
    text = (ROOT / "pyproject.toml").read_text()
    extras = text.partition("[project.optional-dependencies]")[2]
    for name, packages in EXTRAS.items():
        line = next(line for line in extras.splitlines() if line.startswith(f"{name} ="))
        assert all(f'"{package}' in line for package in packages)
    for file in [*(ROOT / "shitu_cli").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        assert "install 'shitu-cli" not in file.read_text(encoding="utf-8"), file


def test_pages_hold_nothing_that_is_hidden() -> None:
    from shitu_cli.report.page import environment

    page = environment().from_string("{{ text }} {{ bytes }}").render(text="<b>\x1b[31m\u202e", bytes="\udcff")
    assert page == "&lt;b&gt;\\x1b[31m\\u202e \\udcff"


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "new", "a")
        (tmp_path / "own").write_text("a")
        (tmp_path / "own").chmod(0o600)
        atomic_write_text(tmp_path / "own", "b")
        with atomic_dir(tmp_path / "folder") as folder:
            (folder / "file").touch()
    finally:
        os.umask(former)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "own", "folder")]
    assert modes == [0o640, 0o600, 0o750] and (tmp_path / "own").read_text() == "b"
