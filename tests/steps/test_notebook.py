"""What a notebook shows of a result when a cell ends with it, and of arguments that are not right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli import evaluate, export, load_config, prepare
from shitu_cli.errors import UsageError


def test_a_preparation_is_shown_in_few_lines(tmp_path: Path, make_images: Callable[..., object]) -> None:
    """Not with all that is known of each image: of a hundred thousand that would be many megabytes."""
    make_images(tmp_path / "photos", classes=3, per_class=6)
    preparation = prepare(tmp_path / "photos", tmp_path / "work", template="quick")
    assert preparation.prepared.looks and preparation.prepared.names
    assert len(repr(preparation)) < 4000 and "class_num=3" in repr(preparation)


def test_odd_arguments_are_said_in_words(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "data", classes=4)
    config = load_config(prepare(tmp_path / "data", tmp_path / "work", quick=True, template="quick").config)
    for call, says in (
        (lambda: prepare([], tmp_path / "work"), "no images were named"),
        (lambda: evaluate(config, false_answers="0.1"), "--far 0.1: expected a share"),  # type: ignore[arg-type]
        (lambda: evaluate(config, false_answers=[0.1, "x"]), "--far x: expected a share"),  # type: ignore[list-item]
        (lambda: export(config, size=160), r"size=160: expected \(height, width\)"),  # type: ignore[arg-type]
        (lambda: export(config, size=(160,)), r"expected \(height, width\)"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=says):
            call()
