"""The cache of features: what it gives back, what it removes, and when it refuses to give."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.features.cache import LEFT_BEHIND, FeatureCache

SHAPE = (100, 8)
FILE = 100 * 8 * 4 + 128  # bytes


def features(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def kept(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.npy")}


def written(folder: Path, keys: str) -> None:
    """Each by a process of its own, a second apart, long ago."""
    for number, key in enumerate(keys):
        FeatureCache(folder).write(key, features(number))
        os.utime(folder / f"{key}.npy", (10**9 + number, 10**9 + number))


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    written(tmp_path, "abcd")
    assert FeatureCache(tmp_path).read("a", SHAPE) is not None  # so it is not the oldest any more
    FeatureCache(tmp_path, limit=3 * FILE).write("e", features(9))
    assert kept(tmp_path) == {"a", "d", "e"}


def test_what_is_used_now_stays_even_beyond_the_bound(tmp_path: Path) -> None:
    written(tmp_path, "ab")
    cache = FeatureCache(tmp_path, limit=FILE)
    query = cache.read("a", SHAPE)
    cache.write("gallery", features(5))
    assert kept(tmp_path) == {"a", "gallery"}
    assert query is not None and (query == 0).all()


def test_removed_files_stay_readable_where_they_are_mapped(tmp_path: Path) -> None:
    written(tmp_path, "a")
    other_process = FeatureCache(tmp_path).read("a", SHAPE)
    os.utime(tmp_path / "a.npy", (10**9, 10**9))
    FeatureCache(tmp_path, limit=1).write("b", features(7))
    assert kept(tmp_path) == {"b"}
    assert other_process is not None and (other_process == 0).all()


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.npy.x1.tmp", tmp_path / ".b.npy.x2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    then = time.time() - LEFT_BEHIND - 60
    os.utime(old, (then, then))
    FeatureCache(tmp_path).write("c", features(1))
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "shape", "type"])
def test_damaged_files_are_not_given(tmp_path: Path, damage: str) -> None:
    written(tmp_path, "a")
    path = tmp_path / "a.npy"
    data = path.read_bytes()
    if damage in ("shape", "type"):
        np.save(path, features(1)[:50] if damage == "shape" else features(1).astype(np.float64))
    else:
        path.write_bytes({"truncated": data[:-1000], "empty": b"", "text": b"no features"}[damage])
    assert FeatureCache(tmp_path).read("a", SHAPE) is None
    FeatureCache(tmp_path).write("a", features(3))
    found = FeatureCache(tmp_path).read("a", SHAPE)
    assert found is not None and (found == 3).all()
