"""Features of a list: shared among processes, complete whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.config.parts.samplers import DistributedBatchSampler
from shitu_cli.config.schema import DatasetConfig, LoaderConfig, SplitConfig
from shitu_cli.errors import DataError
from shitu_cli.features.engine import Engine
from shitu_cli.features.list_features import extract_list
from shitu_cli.reporting import SilentReporter
from tests.parts import operation


class One:
    """One of several processes, run after the other; what it gives is kept, what the others tell is given."""

    def __init__(self, rank: int, world: int, others: Any = None) -> None:
        self.rank, self.world, self.others = rank, world, others
        self.given: list[np.ndarray] = []

    def gather(self, value: Any) -> list[Any]:
        return [value, *([self.others] if self.others is not None else [])]

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        assert len(rows) == counts[self.rank]
        self.given.append(rows)
        return None


def means(images: np.ndarray) -> np.ndarray:
    return np.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1)


ENGINE = Engine(means, 2, None, "test", "test")


@pytest.fixture
def split(tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> SplitConfig:
    """13 pictures in batches of 4."""
    pictures = [path for paths in make_images(tmp_path / "data", classes=1, per_class=13).values() for path in paths]
    (tmp_path / "list.txt").write_text("".join(f"{path}\t0\n" for path in pictures))
    ops = (operation("DecodeImage", {}), operation("ResizeImage", {"size": 16}))
    dataset = DatasetConfig("ImageNetDataset", str(tmp_path), str(tmp_path / "list.txt"), ops)
    return SplitConfig(
        dataset=dataset, sampler=DistributedBatchSampler(batch_size=4), loader=LoaderConfig(num_workers=1)
    )


@pytest.mark.parametrize("world", [2, 3, 9])
def test_the_parts_of_all_processes_are_what_one_gives(split: SplitConfig, tmp_path: Path, world: int) -> None:
    whole = extract_list(ENGINE, split, SilentReporter(), "query")
    assert whole is not None and len(np.unique(whole.features[:, 0])) > 1
    parts = []
    for rank in range(world):
        process = One(rank, world)
        assert extract_list(ENGINE, split, SilentReporter(), "query", processes=process) is None
        parts += process.given
    assert np.concatenate(parts).tobytes() == whole.features.tobytes()


def test_a_list_that_differs_between_machines_is_an_error(split: SplitConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt is not the same on all machines"):
        extract_list(ENGINE, split, SilentReporter(), "query", processes=One(0, 2, [False, "another digest"]))


def test_a_reporter_of_ones_own_needs_no_more_than_counting(split: SplitConfig) -> None:
    counts: list[int] = []

    class Bar:
        def advance(self, n: int = 1, **fields: object) -> None:
            counts.append(n)

    class Counting(SilentReporter):
        def progress(self, what: str, total: int, unit: str = "images") -> Any:
            return nullcontext(Bar())

    extract_list(ENGINE, split, Counting(), "query")
    assert counts == [4, 4, 4, 1]
