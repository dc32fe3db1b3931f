"""The training loop. All that it remembers from one step to the next is `self.state` (a LoopState) and the tensors."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu_cli.data.batch import Batch
from shitu_cli.errors import DataError, TrainingError
from shitu_cli.reporting import Bar, Reporter
from shitu_cli.train.checkpoint import BEST, LATEST, Checkpoint, save_checkpoint
from shitu_cli.train.input import to_tensor
from shitu_cli.train.log import RunLog, format_bytes, format_seconds, peak_memory_bytes
from shitu_cli.train.optimizer import count_parameters
from shitu_cli.train.setup import Training
from shitu_cli.train.state import LoopState, Progress, capture_rng, restore_rng

Evaluate = Callable[[paddle.nn.Layer], dict[str, float]]
ESTIMATE_AFTER_STEPS = 5


class _StopNow(Exception):
    """A signal came and the state is at a step boundary."""


@dataclass
class TrainOptions:
    """`score` names the metric that decides about best_model; `save_every_steps` adds saves inside an epoch."""

    score: str = "recall@1"
    save_every_steps: int | None = None
    keep: int = 1


@dataclass
class TrainResult:
    """`evaluations` holds one dict of metrics with its `epoch` (counted from 1) per online evaluation."""

    interrupted: bool
    epochs_done: int
    evaluations: list[dict[str, float]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    best_score: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0


class Trainer:
    """Runs the epochs of a `Training`, evaluates, saves, and stops cleanly on SIGINT and SIGTERM."""

    def __init__(
        self,
        training: Training,
        log: RunLog,
        reporter: Reporter,
        *,
        evaluate: Evaluate | None = None,
        options: TrainOptions | None = None,
    ) -> None:
        self.training = training
        self.state = LoopState()
        self._config = training.config.Global
        self._log = log
        self._reporter = reporter
        self._evaluate = evaluate
        self._options = options or TrainOptions()
        self._stop = False
        self._evaluating = False
        self._metrics: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------ whole run

    def run(self) -> TrainResult:
        """Train until the last epoch or until a signal; the checkpoint is written in both cases."""
        state, interrupted = self.state, False
        total = self.training.steps_per_epoch * self._config.epochs
        done = state.epoch * self.training.steps_per_epoch + state.step_in_epoch
        self._announce()
        with self._signals(), self._reporter.progress("training", total, "batches") as bar:
            if done:
                bar.advance(done)
            try:
                self._evaluate_if_due(bar)
                while state.epoch < self._config.epochs:
                    self._train_epoch(bar)
                    self._finish_epoch(bar)
            except _StopNow:
                interrupted = True
        return TrainResult(
            interrupted=interrupted,
            epochs_done=state.epoch,
            evaluations=list(state.evaluations),
            epoch_losses=list(state.epoch_losses),
            best_score=state.best_score,
            best_epoch=state.best_epoch,
            seconds=state.seconds,
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint: tensors, loop state and random generators."""
        training, saved = self.training, checkpoint
        raw = {name[6:]: value for name, value in saved.training.items() if name.startswith("model.")}
        _set_state(training.model, raw or saved.weights, "the network")
        _set_state(training.loss, {n[5:]: v for n, v in saved.training.items() if n.startswith("loss.")}, "the loss")
        if training.ema is not None:
            training.ema.load(saved.weights)
        self.state = saved.state
        training.optimizer.load_state_dict(saved.optimizer, saved.state.schedule)
        self._fit_to_batches(int(saved.run.get("steps_per_epoch", training.steps_per_epoch)))
        generators = saved.state.rng
        if training.ranks.rank < len(generators):
            restore_rng(generators[training.ranks.rank])

    def _fit_to_batches(self, steps_then: int) -> None:
        """With another batch size or number of processes, keep the fraction of the epoch that is done."""
        if steps_then != self.training.steps_per_epoch and steps_then > 0:
            fraction = self.state.step_in_epoch / steps_then
            self.state.step_in_epoch = math.floor(fraction * self.training.steps_per_epoch)
            updates = -(-self.training.steps_per_epoch // max(1, self._config.update_freq))
            self.state.global_step = self.state.epoch * updates + self.state.step_in_epoch // max(
                1, self._config.update_freq
            )

    # ------------------------------------------------------------------------------------------ one epoch

    def _train_epoch(self, bar: Bar) -> None:
        training, state = self.training, self.state
        steps, group = training.steps_per_epoch, max(1, self._config.update_freq)
        batches = iter(training.loader.epoch(state.epoch, start_step=state.step_in_epoch))
        try:
            while state.step_in_epoch < steps:
                started = time.perf_counter()
                batch = next(batches, None)
                waited = time.perf_counter() - started
                # What is left of the epoch may be less than a whole group of micro-batches.
                first = state.step_in_epoch - state.step_in_epoch % group
                in_group = min(group, steps - first)
                parts, samples = self._forward_backward(batch, in_group)
                state.step_in_epoch += 1
                if state.step_in_epoch - first == in_group:
                    self._update()
                    at_boundary = True
                else:
                    at_boundary = False
                self._after_step(bar, parts, samples, waited, time.perf_counter() - started)
                if at_boundary:
                    self._stop_or_save(state.step_in_epoch == steps)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _forward_backward(self, batch: Batch | None, in_group: int) -> tuple[dict[str, float], int]:
        """Add this batch's gradients; the loss parts as numbers and the number of samples over all ranks."""
        training = self.training
        if batch is None:
            raise DataError(
                "the data ended before the epoch did", hint="the sampler's length is wrong; please report it"
            )
        own = len(batch.labels)
        images = to_tensor(batch.images, training.dataset)
        labels = paddle.to_tensor(np.asarray(batch.labels, dtype=np.int64))
        outputs = training.model(images, labels)
        losses = training.loss(outputs, labels)
        parts = {name: float(value.item()) for name, value in losses.items()}
        self._require_finite(parts)
        total = losses["loss"]
        (total if in_group == 1 else total * (1.0 / in_group)).backward()
        return parts, own

    def _update(self) -> None:
        training, state = self.training, self.state
        training.optimizer.step(state.global_step)
        if training.ema is not None:
            training.ema.update(state.ema_updates)
            state.ema_updates += 1
        state.global_step += 1

    def _require_finite(self, parts: dict[str, float]) -> None:
        bad = [name for name, value in parts.items() if not math.isfinite(value)]
        if not bad:
            return
        named = [name for name in bad if name != "loss"] or bad
        rate = self.training.optimizer.lr(self.state.global_step)
        raise TrainingError(
            f"the loss is {parts[bad[0]]} at epoch {self.state.epoch + 1}, step {self.state.step_in_epoch + 1} "
            f"({', '.join(named)}; lr {rate:.4g})",
            hint=f"try a lower rate: shitu train --lr {rate / 10:.2g}, or Optimizer.clip_norm; "
            "the last checkpoint is untouched (shitu train --resume)",
        )

    def _after_step(self, bar: Bar, parts: dict[str, float], samples: int, waited: float, took: float) -> None:
        state, progress = self.state, self.state.progress
        progress.add(parts, samples)
        progress.seconds += took
        progress.waited += waited
        state.samples_seen += samples
        state.seconds += took
        rate = self.training.optimizer.lr(max(0, state.global_step - 1))
        averages = progress.averages()
        fields: dict[str, object] = {"epoch": f"{state.epoch + 1}/{self._config.epochs}"}
        fields.update({name: f"{value:.4f}" for name, value in averages.items() if name == "loss" or len(parts) > 2})
        fields["lr"] = f"{rate:.3g}"
        fields["images/s"] = f"{progress.samples / max(progress.seconds, 1e-9):.0f}"
        fields["data wait"] = f"{100 * progress.waited / max(progress.seconds, 1e-9):.0f}%"
        peak = peak_memory_bytes()
        if peak is not None:
            fields["peak"] = format_bytes(peak)
        bar.advance(1, **fields)
        if state.step_in_epoch % max(1, self._config.print_batch_step) == 0:
            shown = ", ".join(f"{name} {value}" for name, value in fields.items() if name != "epoch")
            self._log.line(
                f"epoch {fields['epoch']} batch {state.step_in_epoch}/{self.training.steps_per_epoch}: {shown}"
            )
            self._log.record("train", epoch=state.epoch + 1, step=state.global_step, lr=rate, **parts)
        if self._steps_here == ESTIMATE_AFTER_STEPS:
            self._estimate()
        self._steps_here += 1

    _steps_here = 1
