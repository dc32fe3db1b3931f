"""What a notebook shows of a result when a cell ends with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shitu_cli import prepare


def test_a_preparation_is_shown_in_few_lines(tmp_path: Path, make_images: Callable[..., object]) -> None:
    """Not with all that is known of each image: of a hundred thousand that would be many megabytes."""
    make_images(tmp_path / "photos", classes=3, per_class=6)
    preparation = prepare(tmp_path / "photos", tmp_path / "work", template="quick")
    assert preparation.prepared.looks and preparation.prepared.names
    assert len(repr(preparation)) < 4000 and "class_num=3" in repr(preparation)
