"""A signal in the middle of shared work stops all ranks, and none of them is left waiting in a collective."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.processes.collectives import Ranks
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import SilentReporter
from shitu_cli.training.stopping import StopNow, Stopping


class Threads:
    """Two ranks as threads; a collective that the other does not come to, or comes to by another name, is an error."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=5)
        self.slots: list[Any] = [None, None]
        self.ranks = [Rank(self, number) for number in (0, 1)]

    def exchange(self, rank: int, kind: str, value: Any) -> list[Any]:
        self.slots[rank] = (kind, value)
        self.barrier.wait()
        told = list(self.slots)
        self.barrier.wait()
        assert told[0][0] == told[1][0], told
        return [value for _, value in told]


class Rank(Ranks):
    def __init__(self, threads: Threads, rank: int) -> None:
        self.threads, self.rank, self.world = threads, rank, 2
        self.during: Any = lambda kind: None  # what happens while this rank is in a collective

    def gather(self, value: Any) -> list[Any]:
        told = self.threads.exchange(self.rank, "gather", value)
        self.during("gather")
        return told

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        pieces = self.threads.exchange(self.rank, "array", rows)
        self.during("array")
        return np.concatenate(pieces) if self.rank == 0 else None


def run(threads: Threads, stoppings: list[Stopping], *interrupts: tuple[int, str]) -> list[Any]:
    """What each rank's share of the work ends with; `interrupts` are (rank, point) where one gets a signal."""
    ends: list[Any] = [None, None]

    def one(rank: int) -> None:
        def reach(point: str) -> None:
            if (rank, point) in interrupts:
                stoppings[rank]._handle(signal.SIGTERM, None)

        threads.ranks[rank].during = lambda kind: reach(f"in {kind}")

        def work(processes: Processes) -> dict[str, float]:
            reach("first part")
            try:
                assert processes.gather(rank) == [0, 1]
                reach("second part")
                whole = processes.gather_array(np.full(3, rank), [3, 3])
            except StopNow:
                reach("hearing")
                raise
            reach("ranking")
            return {} if whole is None else {"sum": float(whole.sum())}

        try:
            ends[rank] = stoppings[rank].share(work)
        except StopNow:
            ends[rank] = StopNow

    started = [threading.Thread(target=one, args=(rank,)) for rank in (0, 1)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return ends


def two() -> tuple[Threads, list[Stopping]]:
    threads = Threads()
    return threads, [Stopping(rank, SilentReporter()) for rank in threads.ranks]


def test_undisturbed_work_gives_each_rank_its_own_result() -> None:
    assert run(*two()) == [{"sum": 3.0}, {}]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("point", ["first part", "second part", "ranking", "in gather", "in array"])
def test_an_interrupted_rank_takes_the_others_along(rank: int, point: str) -> None:
    threads, stoppings = two()
    assert run(threads, stoppings, (rank, point)) == [StopNow, StopNow]
    assert [stopping.should_stop for stopping in stoppings] == [rank == 0, rank == 1]


@pytest.mark.parametrize("point", ["first part", "in gather", "second part"])
def test_a_signal_while_one_hears_of_another_changes_nothing(point: str) -> None:
    """What started the processes passes Ctrl-C on to all of them, a moment later."""
    threads, stoppings = two()
    assert run(threads, stoppings, (0, point), (1, "hearing")) == [StopNow, StopNow]
    assert [stopping.should_stop for stopping in stoppings] == [True, True]


def test_a_signal_before_the_work_stops_it_at_once() -> None:
    threads, stoppings = two()
    stoppings[1].should_stop = True
    assert run(threads, stoppings) == [StopNow, StopNow]


def test_one_process_alone() -> None:
    stopping = Stopping(Ranks(), SilentReporter())
    assert stopping.share(lambda processes: processes.gather_array(np.arange(3), [3]).tolist()) == [0, 1, 2]
    stopping.check()
    stopping.should_stop = True
    with pytest.raises(StopNow):
        stopping.check()


def test_a_signal_is_no_error_of_the_library_that_it_comes_to() -> None:
    stopping = Stopping(Ranks(), SilentReporter())

    def work(processes: Processes) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            raise DataError("the model cannot be run") from None

    with stopping.handling(), pytest.raises(StopNow):
        stopping.share(work)
