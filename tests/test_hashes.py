"""Hashes of files: read once per process, and again whenever a file may have changed."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shitu_cli import files
from shitu_cli.files import sha256_of
from tests.command import shitu


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each file that is read and hashed; all files are at rest."""
    counts: list[int] = []

    def counting() -> Any:
        counts.append(1)
        return hashlib.sha256()

    monkeypatch.setattr(files, "hashlib", type("Counting", (), {"sha256": staticmethod(counting)}))
    monkeypatch.setattr(files, "AT_REST_NS", -1)
    return counts


def test_a_file_is_read_once(tmp_path: Path, reads: list[int]) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"some weights")
    os.link(weights, tmp_path / "other-name")
    expected = hashlib.sha256(b"some weights").hexdigest()
    assert [sha256_of(weights), sha256_of(weights), sha256_of(tmp_path / "other-name")] == [expected] * 3
    assert len(reads) <= 2  # making the link changed the status


def test_a_changed_file_is_read_again(tmp_path: Path, reads: list[int]) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"first")
    first, state = sha256_of(weights), weights.stat()
    other = tmp_path / "other"
    other.write_bytes(b"other")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(weights)  # of the same size and time
    assert sha256_of(weights) == hashlib.sha256(b"other").hexdigest() != first
    assert len(reads) == 2


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "AT_REST_NS", 10**15)
    (tmp_path / "new").write_bytes(b"new")
    assert sha256_of(tmp_path / "new") == sha256_of(tmp_path / "new")
    assert len(reads) == 2


def test_what_is_loaded_ends_where_a_file_system_numbers_files_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, loads = itertools.count(), iter(["loaded"] * 3)
    (tmp_path / "w").write_bytes(b"weights")
    monkeypatch.setattr(files, "file_state", lambda file: (next(numbers), 0))
    value, digest = files.load_with_hash(tmp_path / "w", lambda: next(loads))
    assert value == "loaded" and digest == hashlib.sha256(b"weights").hexdigest()


def test_a_command_hashes_each_weights_file_once(trained_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of gigabytes take seconds each time."""
    hashed, opened = Counter[str](), files.open_input

    class Noted(io.BufferedReader):
        name = ""

        def read(self, size: int | None = -1) -> bytes:
            hashed[self.name] += self.tell() == 0
            return super().read(size)

    def noted(path: Path, **options: Any) -> Noted:
        file = Noted(opened(path, **options).detach())
        file.name = Path(path).name
        return file

    monkeypatch.setattr(files, "open_input", noted)
    monkeypatch.setattr(files, "AT_REST_NS", -1)
    for command in (["evaluate"], []):
        monkeypatch.setattr(files, "_hashes", {})
        shitu(*command, cwd=trained_workspace)
        assert [count for name, count in hashed.items() if name.endswith(".pdparams")] == [1], command
        hashed.clear()
