"""Tests that are functions which build a folder and return what is right about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.errors import ShituError, plain
from tests.preparation.test_layouts import labels, read


def builders(names: dict[str, Any], returns: str) -> list[Callable[..., Any]]:
    """Return the functions among the `globals()` of a module that are its own, build a folder and return so."""
    functions = [value for value in list(names.values()) if getattr(value, "__module__", "") == names["__name__"]]
    hints = {function: getattr(function, "__annotations__", {}) for function in functions}
    return [function for function in functions if hints[function] == {"root": "Path", "return": returns}]


def assert_read(build: Callable[[Path], dict[str, str]], root: Path) -> None:
    """The folder is read without an error, each image with the label that `build` returns."""
    right = build(root)
    made = read(root)
    assert labels(made, root) == right and made.problems.count("error") == 0


def assert_asked(build: Callable[[Path], tuple[str, ...]], root: Path) -> None:
    """The folder is refused, and the message holds every text that `build` returns."""
    says = build(root)
    with pytest.raises(ShituError) as caught:
        read(root)
    error = caught.value
    text = "\n".join([error.message, *error.details, plain(error.hint or "")])
    assert [word for word in says if word not in text] == [], text
