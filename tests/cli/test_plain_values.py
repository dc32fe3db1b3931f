"""Values that need no conversion come out as Typer would convert them, and what is wrong is said by Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from shitu_cli.cli.plain_values import take_plain_values

PAIRS = (["a", "--name", "b"], ["a", "--path", "p", "--many", "x", "--many", "y", "--on"], ["a", "b", "--count", "3"])


def command() -> Any:
    """A command with each kind of parameter that ours have."""
    program = typer.Typer()

    @program.command()
    def run(
        images: list[str],
        name: str | None = None,
        path: Path | None = None,
        many: Annotated[list[str] | None, typer.Option()] = None,
        paths: Annotated[list[Path] | None, typer.Option()] = None,
        count: Annotated[int, typer.Option(min=1, max=9)] = 5,
        share: float | None = None,
        on: bool = False,
    ) -> None: ...

    return get_command(program)


def params(words: list[str], *, plain: bool) -> dict[str, Any]:
    """What a command line means, to Typer or here."""
    made = command()
    if plain:
        take_plain_values(made.get_params(typer.Context(made)))
    return dict(made.make_context("x", list(words)).params)


@pytest.mark.parametrize("words", PAIRS, ids=" ".join)
def test_the_same_values(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert params(words, plain=True) == params(words, plain=False)


@pytest.mark.parametrize("words", [[], ["a", "--count", "x"], ["a", "--count", "10"], ["a", "--share", "much"]])
def test_the_same_errors(words: list[str]) -> None:
    says = []
    for plain in (False, True):
        with pytest.raises(typer.BadParameter.__mro__[2]) as caught:
            params(words, plain=plain)
        says.append(caught.value.format_message())
    assert says[0] == says[1]
