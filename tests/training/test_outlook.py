"""What a training foretells of its end, by clocks that are set by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shitu_cli.config.schema import GlobalConfig
from shitu_cli.data.dataset import Kept
from shitu_cli.pace import Pace
from shitu_cli.training import outlook
from shitu_cli.training.outlook import Outlook

STEPS, BATCH, IMAGES = 40, 8, 320  # of an epoch


class Run:
    """A training whose steps take a second, and whose epochs end with a save of 3 s or an evaluation of 20 s.

    In the first epoch each of `most` images is decoded, which takes a processor 0.05 s, where all threads together
    work for `cores` seconds in one.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, most: int = IMAGES, device: str = "cpu", cores: int = 2) -> None:
        self.now = self.processor = 0.0
        self.most, self.decoded, self.cores, self.device = most, 0, cores, device
        self.chosen = GlobalConfig(epochs=16, eval_interval=4, start_eval_epoch=0, save_interval=1)
        training: Any = SimpleNamespace(dataset=self, config=SimpleNamespace(Global=self.chosen), device=device)
        training.model = training.ranks = None
        patch.setattr("shitu_cli.pace.time.monotonic", lambda: self.now)
        patch.setattr(outlook.time, "process_time", lambda: self.processor)
        patch.setattr(outlook, "estimate_evaluation", lambda evaluate, model, ranks: 19.0)
        self.outlook = Outlook(training, evaluate=object())  # type: ignore[arg-type]
        self.pace = Pace(16 * STEPS * BATCH)
        self.shown: list[tuple[float, float | None]] = []  # second, and when it says that the run ends

    def kept(self) -> Kept:
        return Kept(self.decoded, 0.05 * self.decoded, self.most if self.decoded else 0)

    def train(self) -> float:
        """Return when the last step and the last evaluation were done."""
        self.outlook.expect(self.pace, 0)
        for epoch in range(1, 17):
            self.outlook.begin_epoch()
            for _ in range(STEPS):
                fresh = BATCH * min(self.most, IMAGES) // IMAGES if self.decoded < self.most else 0
                self.decoded += fresh
                beside = 0.05 * fresh / self.cores if self.device == "cpu" else 0.0
                self.now += 1.0 + beside
                self.processor += self.cores * (1.0 + beside)
                self.outlook.after_step(self.pace, 1.0 + beside, waited=0.0)
                self.pace.advance(BATCH)
                left = self.pace.left()
                self.shown.append((self.now, left and self.now + left.middle))
            took = 20.0 if epoch % 4 == 0 else 3.0
            with self.pace.aside():
                self.now += took
                self.outlook.after_epoch(self.pace, epoch, took)
        return self.now


@pytest.mark.parametrize(
    ("most", "device"), [(IMAGES, "cpu"), (IMAGES // 2, "cpu"), (0, "cpu"), (10**6, "cpu"), (IMAGES, "gpu")], ids=str
)
def test_the_end_is_known_in_the_first_epoch(most: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all images stay in memory, half of them or none, or none comes twice, and where a GPU does not wait."""
    run = Run(monkeypatch, most=most, device=device)
    end = run.train()
    saves = 12 * 3.0  # unknown before the first one
    for share in (0.02, 0.1, 0.5):
        at, foretold = next(item for item in run.shown if item[0] >= share * end)
        unknown = saves if at < STEPS * 1.3 else 0.0
        assert foretold == pytest.approx(end - unknown, rel=0.01), f"at {share:.0%}"
    assert sum(foretold is None for _, foretold in run.shown) < 10
    assert run.pace.left() == (0.0, 0.0)
