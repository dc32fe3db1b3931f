"""Shards that somebody forged: an error that names the file, and nothing written."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from tests.command import shitu

ROWS = np.eye(2, dtype="<f4").tobytes()
NAMES = "a.jpg\tx\nb.jpg\ty\n"
TITLE = "\x1b]0;title\x07\u202e[bold]"


def shard(
    path: Path | IO[bytes],
    *,
    rows: bytes = ROWS,
    names: str = NAMES,
    entry: str = "images",
    folder: Any = None,
    **changes: Any,
) -> None:
    job = {"kind": "extract", "of": 1, "model": "m", "settings": "{}", "feature_size": 2, "engine": "e"}
    part = {"name": "images", "order": "o", "total": 2, "start": 0, "stop": 2, "skipped": {}}
    for block in (job, part):
        block.update({name: changes.pop(name) for name in list(changes) if name in block})
    header = {"format": 1, "version": "0", "number": 1, "folder": folder, "job": {**job, **changes}, "parts": [part]}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("shard.json", json.dumps(header))
        archive.writestr(f"{entry}.f32", rows)
        archive.writestr(f"{entry}.tsv", names)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "../../x", "entry": "../../x"}, "it has no part 'images'"),
        ({"unheard": 1}, "its header is not one that this program writes"),
        ({"of": 0}, "numbers out of range"),
        ({"total": 10**15, "stop": 10**15}, "its features are cut off"),
        ({"feature_size": 65_536}, "its features are cut off"),
        ({"skipped": {"-1": ["a", "b"]}}, "images left out that are not in it"),
        ({"skipped": {"0": [TITLE, TITLE], "1": ["b", "c"]}}, "none of the images could be read"),
        ({"rows": np.full((2, 2), np.nan, "<f4").tobytes()}, "hold no numbers for a.jpg"),
        ({"names": "a\tb\nc\td\ne\tf\n"}, "line 3 of its names"),
        ({"names": "a\tb\n"}, "1 names, expected 2"),
        ({"rows": ROWS * 2}, "more features than images"),
    ],
)
def test_a_forged_shard_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy.1-of-1.shard"
    shard(path, **changes)
    done = shitu("merge", str(path), cwd=tmp_path, check=False)
    assert done.returncode == 3 and says in done.stderr and "\x1b" not in done.stderr and "\u202e" not in done.stderr
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == [path.name]


def test_names_that_command_terminals_are_shown_harmless(tmp_path: Path) -> None:
    shard(tmp_path / "x.npy.1-of-1.shard", names=f"{TITLE}.jpg\t{TITLE}\nb.jpg\ty\n")
    shitu("merge", "x.npy.1-of-1.shard", cwd=tmp_path)
    shitu("index", "build", "--features", "x.npy", "--index", "index", cwd=tmp_path)
    for words in (["index", "show"], ["index", "show", "--json"]):
        text = shitu(*words, "--index", "index", cwd=tmp_path).stdout
        assert "title" in text and "\x1b" not in text and "\u202e" not in text
