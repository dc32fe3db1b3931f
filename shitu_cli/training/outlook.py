"""Estimate the rest of a training run: its steps, evaluations and saves, and images that are decoded only once."""

from __future__ import annotations

import time

from shitu_cli.pace import Pace
from shitu_cli.training.build import Training
from shitu_cli.training.online import OnlineEvaluation, estimate_evaluation, is_evaluated


class Outlook:
    """Adds to the pace of a run what its steps do not show; `evaluate` measures the network, if the run evaluates.

    Only the first epoch decodes images that then stay in memory. The end of an epoch is expected to take as long as
    the newest one of its kind; before the first evaluation, a few batches are timed to estimate it.
    """

    def __init__(self, training: Training, evaluate: OnlineEvaluation | None = None) -> None:
        self._training, self._evaluate = training, evaluate
        self._ends: dict[str, float] = {}  # the seconds of the newest one, by kind
        self._once = 0.0  # seconds spent on decoding images that stay in memory
        self._processor = self._decoding = 0.0  # processor seconds at the previous step

    def begin_epoch(self) -> None:
        """Start counting; call this before the first batch is read."""
        self._processor, self._decoding = time.process_time(), self._training.dataset.kept().seconds

    def after_step(self, pace: Pace, took: float, waited: float) -> None:
        """Tell the pace how much of a step was decoding; it took `took` seconds, `waited` of them for images."""
        processor, kept = time.process_time(), self._training.dataset.kept()
        decoding = took * min(1.0, (kept.seconds - self._decoding) / max(processor - self._processor, 1e-9))
        # A GPU computes while images are decoded: only the time it waits for them is lost.
        self._once += decoding if self._training.device == "cpu" else min(decoding, waited)
        self._processor, self._decoding = processor, kept.seconds
        most = min(kept.most, kept.images + pace.total - pace.done)  # a short run does not see all images
        pace.once(self._once, self._once * max(0.0, most / max(1, kept.images) - 1))

    def after_epoch(self, pace: Pace, epoch: int, took: float) -> None:
        """Record how many seconds the end of this epoch, counted from 1, took, and update what is still expected."""
        self._ends[self._end_of(epoch)] = took
        self.expect(pace, epoch)

    def expect(self, pace: Pace, epoch: int) -> None:
        """Tell the pace how long the ends of the epochs after this one will take."""
        epochs = self._training.config.Global.epochs
        ends = [self._end_of(later) for later in range(epoch + 1, epochs + 1)]
        if self._evaluate is not None and "evaluation" in ends and "evaluation" not in self._ends:
            self._ends["evaluation"] = estimate_evaluation(self._evaluate, self._training.model, self._training.ranks)
        pace.expected = sum(self._ends.get(end, 0.0) for end in ends)

    def _end_of(self, epoch: int) -> str:
        """Return what happens after an epoch, counted from 1."""
        chosen = self._training.config.Global
        if self._evaluate is not None and is_evaluated(epoch, chosen):
            return "evaluation"
        return "save" if epoch == chosen.epochs or epoch % max(1, chosen.save_interval) == 0 else "nothing"
