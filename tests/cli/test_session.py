"""Commands that messages propose: each with the options of the user that it needs, and no other."""

from __future__ import annotations

import ast
import re

import pytest
import typer

from shitu_cli.cli.app import app
from shitu_cli.cli.session import Session
from shitu_cli.errors import ARGUMENTS, Command, UsageError, plain
from tests.sources import sources


def session_of(line: list[str], monkeypatch: pytest.MonkeyPatch) -> Session:
    """The session of a command line whose command does nothing."""
    session, root = Session(), app
    with root.make_context("shitu", line, obj=session) as context:
        command: typer.Context = context
        rest = [*context._protected_args, *context.args]
        while rest:
            name, found, rest = command.command.resolve_command(command, rest)  # type: ignore[attr-defined]
            command = found.make_context(name, rest, parent=command)
            rest = [*getattr(command, "_protected_args", ()), *command.args] if hasattr(found, "commands") else []
        session.enter(command)
    return session


TRAIN = [
    "train",
    "-c",
    "x y.yaml",
    "-o",
    "A.image_root=a",
    "-o",
    "Arch.Head.class_num=5",
    "--device",
    "cpu",
    "--lr",
    "0.1",
]


@pytest.mark.parametrize(
    ("line", "proposal", "expected"),
    [
        # The command that runs keeps everything; what the hint sets replaces what the user set.
        (
            TRAIN,
            Command("train", "-o", "Arch.Head.class_num=8"),
            "shitu train -o Arch.Head.class_num=8 -c 'x y.yaml' -o A.image_root=a --lr 0.1 --device cpu",
        ),
        (TRAIN[:3], Command("train", "--lr", 0.01), "shitu train --lr 0.01 -c 'x y.yaml'"),
        (["-w", "w", "train", "--lr", "1"], Command("train", "--lr", 0.01), "shitu train --lr 0.01 -w w"),
        # An override of a whole block, or of a key in a proposed one, comes first, as the last one decides.
        (
            ["train", "-o", "Arch.Neck={name: FC}", "-o", "A.b=1", "-o", "Slim.prune=1"],
            Command("train", "-o", "Arch.Neck.class_num=8", "-o", "Slim=null"),
            "shitu train -o 'Arch.Neck={name: FC}' -o Slim.prune=1 -o Arch.Neck.class_num=8 -o Slim=null -o A.b=1",
        ),
        (["train", "--resume", "-q", "--debug"], Command("train", without=("--resume",)), "shitu train"),
        (["train", "--init-from", "x"], Command("train", "--resume"), "shitu train --resume"),
        (
            ["prepare", "a b", "c", "--merge", "--strict", "--json"],
            Command("prepare", "--fix", without=("--strict",)),
            "shitu prepare 'a b' c --fix --merge --json",
        ),
        (["prepare", "nowhere", "--seed", "3"], Command("prepare", "./data"), "shitu prepare ./data --seed 3"),
        (["evaluate", "--no-cache"], Command("evaluate", "--far", 0.1), "shitu evaluate --far 0.1 --no-cache"),
        # Another command keeps where and with what, not how.
        (TRAIN, Command("evaluate"), "shitu evaluate -c 'x y.yaml' --device cpu"),
        (TRAIN, Command("export", "--out", "i"), "shitu export --out i -c 'x y.yaml'"),
        (["train", "-o", "Global.output_dir=./o"], Command("evaluate"), "shitu evaluate -o Global.output_dir=./o"),
        (
            ["search", "p.jpg", "--index", "i", "-w", "a b"],
            Command("index build"),
            "shitu index build --index i -w 'a b'",
        ),
        (
            ["search", "p.jpg", "--store", "milvus:g.db", "--model", "m", "--top", "3"],
            Command("index show", "--json"),
            "shitu index show --json --store milvus:g.db",
        ),
        (["index", "build", "d", "--model", "m"], Command("search", "p.jpg"), "shitu search p.jpg --model m"),
        (["extract", "d", "--model", "m"], Command("evaluate"), "shitu evaluate"),
        (["search", "p", "--pretrained", "n"], Command("index build"), "shitu index build --pretrained n"),
        (["search", "p", "--pretrained", "n"], Command("search", "p", "--model", "m"), "shitu search p --model m"),
        (["models", "x", "--json"], Command("models", without=(ARGUMENTS,)), "shitu models --json"),
        (["-w", "w", "search", "p.jpg"], Command("prepare", "./data"), "shitu prepare ./data -w w"),
        (["train"], Command("no such command"), "shitu no such command"),
    ],
)
def test_a_proposed_command_keeps_what_the_user_gave(
    line: list[str], proposal: Command, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session_of(line, monkeypatch).complete(proposal) == expected


def test_a_hint_is_text_for_programs() -> None:
    error = UsageError("wrong", hint=["first ", Command("prepare", "a b"), ", then this"])
    assert error.hint == plain(error.advice or "") == "first shitu prepare 'a b', then this"


def test_no_message_spells_out_a_command() -> None:
    """A command in a plain string would be shown without the user's options."""
    wrong = []
    for name, source in sources().items():
        for node in source.nodes:
            spoken = [k.value for k in getattr(node, "keywords", ()) if k.arg == "hint"]
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("warn", "info", "next_step"):
                spoken += node.args
            for part in (inner for value in spoken for inner in ast.walk(value) if isinstance(inner, ast.Constant)):
                if isinstance(part.value, str) and re.search(r"(?<!\$ )\bshitu [a-z]", part.value):
                    wrong.append(f"{name}:{part.lineno}: {part.value}")
    assert wrong == []
