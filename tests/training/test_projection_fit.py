"""The features that a projection is learned from: the same rows, kept or streamed, by one process or by two."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shitu_cli import load_config
from shitu_cli.config.schema import Config
from shitu_cli.features.engine import Engine
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import SilentReporter
from shitu_cli.training import projection_fit
from tests.command import shitu
from tests.training.test_stopping import Threads

ENGINE = Engine(lambda images: np.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1), 2, None, "test", "test")

Blocks = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def config(tmp_path: Path, make_images: Callable[..., object]) -> Config:
    """Twenty images of four classes, some of them for training, in batches of 4."""
    make_images(tmp_path / "data", classes=4, per_class=5)
    shitu("prepare", "data", "--split", "closed", "--template", "quick", cwd=tmp_path)
    return load_config(tmp_path / "shitu.yaml", ["DataLoader.Eval.Gallery.sampler.batch_size=4"])


def blocks_of(config: Config, processes: Processes = Processes()) -> Blocks:
    return list(projection_fit.training_blocks(ENGINE, config, SilentReporter(), views=2, processes=processes))


def rows(blocks: Blocks) -> tuple[bytes, list[int]]:
    return np.concatenate([features for features, _ in blocks]).tobytes(), [int(n) for _, part in blocks for n in part]


def test_many_images_are_streamed_in_blocks(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = blocks_of(config)
    assert len(whole) == 2  # two views
    monkeypatch.setattr(projection_fit, "KEPT_BYTES", 0)
    monkeypatch.setattr(projection_fit, "BLOCK", 6)
    streamed = blocks_of(config)
    assert len(streamed) > 2 and max(len(features) for features, _ in streamed) == 6
    assert rows(streamed) == rows(whole)
    threads = Threads()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda rank: blocks_of(config, rank), threads.ranks)
    assert second == [] and [len(features) for features, _ in first] == [len(features) for features, _ in streamed]
    assert rows(first) == rows(streamed)
