"""Query and gallery are one where their lists are equal; lists of gigabytes are compared without holding them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shitu_cli.config.load import load_config
from shitu_cli.evaluation.evaluate import distinct_splits
from tests.command import shitu


def test_lists_are_compared_piece_by_piece(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read whole"))
    config = load_config(workspace / "shitu.yaml")
    query, gallery = (workspace / f"lists/{name}_list.txt" for name in ("query", "gallery"))
    assert len(distinct_splits(config)) == 2
    gallery.write_text(query.read_text())
    assert len(distinct_splits(config)) == 1
    gallery.write_text(query.read_text().replace("0", "1"))
    assert len(distinct_splits(config)) == 2


def test_lists_of_zeros_are_refused_at_once(workspace: Path) -> None:
    for name in ("train", "query", "gallery"):
        os.truncate(workspace / f"lists/{name}_list.txt", 2 << 30)
    done = shitu(cwd=workspace, check=False)
    assert done.returncode == 3 and "is too large: such a file may have at most 1024 MiB" in done.stderr
