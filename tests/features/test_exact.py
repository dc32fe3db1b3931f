"""The features of an image do not depend on what is computed beside it, whatever the program would do by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.features.backends import MODEL_FILES, Way, ways_of
from shitu_cli.features.exact import GROUP, Run, in_groups, side_by_side
from shitu_cli.runtime.arithmetic import kept_arithmetic, set_threads
from shitu_cli.runtime.setup import setup_paddle
from tests.features.networks import CountedNetwork

ALL_WAYS = [way for name in MODEL_FILES for way in ways_of(Path(name))]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2 * GROUP + 3, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("way", ALL_WAYS, ids=lambda way: f"{way.program}-{way.file}-{way.precision}")
def test_threads_batches_and_neighbours_do_not_matter(exported: Path, images: np.ndarray, way: Way) -> None:
    if way.missing() is not None:
        pytest.skip(str(way.missing()))
    alone = way.open(exported, threads=1)
    expected = np.concatenate([alone(images[n : n + 1]) for n in range(len(images))])
    order = np.random.default_rng(1).permutation(len(images))
    for threads in (1, 2, 3, 16):
        run = way.open(exported, threads=threads)
        assert np.array_equal(run(images), expected)
        assert np.array_equal(run(images[order]), expected[order])
        for size in (1, 2, 5, GROUP, GROUP + 1):
            parts = [run(images[at : at + size]) for at in range(0, len(images), size)]
            assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("way", ALL_WAYS, ids=lambda way: f"{way.program}-{way.file}-{way.precision}")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_leaves_the_threads_of_the_process_alone(
    exported: Path, images: np.ndarray, way: Way, threads: int
) -> None:
    """A predictor of Paddle sets Paddle to one thread whenever it is created or has run."""
    if way.missing() is not None:
        pytest.skip(str(way.missing()))
    import threadpoolctl

    def counts() -> dict[str, int]:
        return {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    with kept_arithmetic():
        setup_paddle("cpu")
        set_threads(3)  # whatever the machine has
        before = counts()
        run = way.open(exported, threads=threads)
        assert counts().items() >= before.items()  # it may load others
        for size in (1, GROUP):
            run(images[:size])
            assert counts().items() >= before.items()


def _program(spoilt: str) -> list[tuple[int, int]]:
    """Calls (threads, images) of the program below, which rounds otherwise on several threads or in groups."""
    calls: list[tuple[int, int]] = []

    def opened(threads: int) -> Run:
        def run(images: np.ndarray) -> np.ndarray:
            calls.append((threads, len(images)))
            values = images.reshape(len(images), -1)
            wrong = (threads > 1 and "threads" in spoilt) or (len(images) > 1 and "groups" in spoilt)
            return (values[:, ::-1] if wrong else values).cumsum(axis=1)[:, -1:]

        return run

    rows = np.random.default_rng(2).standard_normal((3 * GROUP + 1, 3, 5, 5)).astype(np.float32)
    expected = np.concatenate([opened(1)(rows[n : n + 1]) for n in range(len(rows))])
    run = in_groups(opened, 4)
    assert np.array_equal(run(rows), expected)
    calls.clear()
    assert np.array_equal(run(rows[:-1]), expected[:-1])
    return calls


@pytest.mark.parametrize(
    ("spoilt", "calls"),
    [("", [(4, GROUP)] * 3), ("threads", [(1, GROUP)] * 3), ("groups", [(1, 1)] * 3 * GROUP)],
)
def test_a_program_that_rounds_otherwise_in_company_is_called_alone(spoilt: str, calls: list[tuple[int, int]]) -> None:
    assert _program(spoilt) == calls


def test_callers_side_by_side_keep_the_order() -> None:
    run = side_by_side(lambda part: part.reshape(1, -1)[:, :1] * 2, 5)
    images = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    assert np.array_equal(run(images)[:, 0], np.arange(40) * 2)
    assert run(images[:1]).shape == (1, 1)


def test_more_callers_than_threads_take_turns() -> None:
    network = CountedNetwork()
    run = side_by_side(network, 2)
    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(run, [np.full((1, 3), n, np.float32) for n in range(16)]))
    assert network.most == 2 and [int(result[0, 0]) for result in results] == list(range(16))
