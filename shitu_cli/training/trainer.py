"""The training loop. All that it remembers from one step to the next is `self.state` (a LoopState) and the tensors."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

from shitu_cli.data.batch import Batch
from shitu_cli.errors import ConfigError, DataError, EnvironmentProblem, TrainingError
from shitu_cli.features.list_features import Processes
from shitu_cli.reporting import Bar, Reporter, counted
from shitu_cli.training.build import Training
from shitu_cli.training.checkpoint import BEST, LATEST, Checkpoint, save_checkpoint
from shitu_cli.training.earlier import bring_back, set_aside, tidy
from shitu_cli.training.input import to_tensor
from shitu_cli.training.log import RunLog, format_bytes, format_seconds, peak_memory_bytes
from shitu_cli.training.loop_state import LoopState, Progress, capture_rng, restore_rng
from shitu_cli.training.stopping import StopNow, Stopping

Evaluate = Callable[[paddle.nn.Layer, Processes], Mapping[str, float]]


SAVING = ("save_every_steps", "keep")  # options that a resumed run goes on with


@dataclass
class TrainOptions:
    """`score` names the metric that decides about best_model; `save_every_steps` adds saves inside an epoch.

    `keep` counts saves (None: one), `keep_earlier` models of earlier runs (None: all).
    """

    score: str = "recall@1"
    save_every_steps: int | None = None
    keep: int | None = None
    keep_earlier: int | None = None


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
        self._log, self._reporter = log, reporter
        self._evaluate = evaluate
        self._options = options or TrainOptions()
        self._group = max(1, self._config.update_freq)
        self._stopping = Stopping(training.ranks, reporter)
        self._saved_at = -1
        self._skipped = 0  # pictures left out that were told of
        self._new_run = True
        self._amp, self._scaler = _mixed_precision(training)

    # ------------------------------------------------------------------------------------------ whole run

    def run(self) -> TrainResult:
        """Train until the last epoch or until a signal; the checkpoint is written in both cases."""
        state, interrupted = self.state, False
        per_step = self.training.batch_size * self.training.ranks.world
        total = self.training.steps_per_epoch * self._config.epochs * per_step
        done = (state.epoch * self.training.steps_per_epoch + state.step_in_epoch) * per_step
        self._saved_at = state.global_step
        with self._stopping.handling(), self._reporter.progress("training", max(0, total - done)) as bar:
            try:
                if self._evaluate_if_due():
                    self._save([LATEST, BEST])
                while state.epoch < self._config.epochs:
                    self._train_epoch(bar)
                    self._finish_epoch()
            except StopNow:
                interrupted = True
                self._save([LATEST])
        return TrainResult(
            interrupted=interrupted,
            epochs_done=state.epoch,
            evaluations=list(state.evaluations),
            epoch_losses=list(state.epoch_losses),
            best_score=state.best_score,
            best_epoch=state.best_epoch,
            seconds=state.seconds,
        )

    def resume(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint: tensors, loop state and random generators."""
        training = self.training
        raw = {name[6:]: value for name, value in saved.training.items() if name.startswith("model.")}
        _set_state(training.model, training.shards.own(raw or saved.weights), "the network")
        _set_state(training.loss, {n[5:]: v for n, v in saved.training.items() if n.startswith("loss.")}, "the loss")
        if training.ema is not None:
            training.ema.load(training.shards.own(saved.weights))
        self.state = saved.state
        training.optimizer.load_state_dict(training.shards.own(saved.optimizer), saved.state.schedule)
        if self._scaler is not None and saved.state.scaler:
            self._scaler.load_state_dict(_like(self._scaler.state_dict(), saved.state.scaler))
        self._new_run = False
        before = {name: value for name, value in saved.run.get("saving", {}).items() if name in SAVING}
        self._options = dataclasses.replace(self._options, **{**before, **self._saving()})
        self._fit_to_batches(int(saved.run.get("steps_per_epoch", training.steps_per_epoch)))
        generators = saved.state.rng
        if training.ranks.rank < len(generators):
            restore_rng(generators[training.ranks.rank])

    def _fit_to_batches(self, steps_then: int) -> None:
        """With another batch size or number of processes, keep the fraction of the epoch that is done."""
        steps = self.training.steps_per_epoch
        if steps_then in (steps, 0):
            return
        self.state.step_in_epoch = math.floor(self.state.step_in_epoch / steps_then * steps / self._group) * self._group
        updates = -(-steps // self._group)
        self.state.global_step = self.state.epoch * updates + self.state.step_in_epoch // self._group

    # ------------------------------------------------------------------------------------------ one epoch

    def _train_epoch(self, bar: Bar) -> None:
        training, state = self.training, self.state
        steps = training.steps_per_epoch
        batches = training.loader.epoch(state.epoch, start_step=state.step_in_epoch)
        training.model.train()
        try:
            while state.step_in_epoch < steps:
                started = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    raise DataError("the data ended before the epoch did: the training list changed meanwhile")
                first = state.step_in_epoch - state.step_in_epoch % self._group
                in_group = min(self._group, steps - first)  # the last group of an epoch may be smaller
                parts, samples = self._forward_backward(batch, in_group)
                state.step_in_epoch += 1
                whole = state.step_in_epoch - first == in_group
                if whole:
                    self._update()
                self._after_step(bar, parts, samples, time.perf_counter() - started)
                if whole and state.step_in_epoch < steps:
                    self._stop_or_save()
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _forward_backward(self, batch: Batch, in_group: int) -> tuple[dict[str, float], int]:
        """Add this batch's gradients; the loss parts as numbers and the number of samples, over all ranks."""
        training = self.training
        own = len(batch.labels)
        if not own:
            raise DataError("none of a batch's pictures can be read", hint="shitu prepare ./data names what is broken")
        if hasattr(training.model.head, "set_progress"):
            updates = self._config.epochs * -(-training.steps_per_epoch // self._group)
            training.model.head.set_progress(self.state.global_step / max(1, updates))
        images = to_tensor(batch.images, training.dataset.normalization)
        labels = paddle.to_tensor(np.asarray(batch.labels, dtype=np.int64))
        with self._amp():
            losses = training.loss(training.model(images, labels), labels)
        names = list(losses)
        summed = training.ranks.sum_vector([own, *(float(losses[name].item()) * own for name in names)])
        parts = {name: value / summed[0] for name, value in zip(names, summed[1:], strict=True)}
        self._require_finite(parts)
        total = losses["loss"]
        # Over all processes and micro-batches, the gradient is that of the mean over all their pictures.
        share = own / summed[0] / in_group
        total = total if share == 1 else total * share
        with training.ranks.backward_pass():
            (self._scaler.scale(total) if self._scaler is not None else total).backward()
        return parts, int(summed[0])

    def _update(self) -> None:
        training, state = self.training, self.state
        training.ranks.sum_gradients([parameter for _, parameter in training.optimizer.parameters])
        training.optimizer.step(state.global_step, self._scaler)
        if training.ema is not None:
            training.ema.update(state.ema_updates)
            state.ema_updates += 1
        state.global_step += 1

    def _require_finite(self, parts: Mapping[str, float]) -> None:
        bad = [name for name, value in parts.items() if not math.isfinite(value)]
        if not bad:
            return
        named = [name for name in bad if name != "loss"] or bad
        rate = self.training.optimizer.lr(self.state.global_step)
        raise TrainingError(
            f"the loss is {parts[bad[0]]} at epoch {self.state.epoch + 1}, step {self.state.step_in_epoch + 1} "
            f"({', '.join(named)}; learning rate {rate:.4g})",
            hint=f"try a lower rate: shitu train --lr {min(rate / 10, 0.1):.2g}, or -o Optimizer.clip_norm=5; "
            "what was saved before is untouched",
        )

    def _after_step(self, bar: Bar, parts: Mapping[str, float], samples: int, took: float) -> None:
        state, progress = self.state, self.state.progress
        progress.add(dict(parts), samples)
        progress.seconds += took
        state.samples_seen += samples
        state.seconds += took
        rate = self.training.optimizer.lr(max(0, state.global_step - 1))
        averages = progress.averages()
        epoch = f"{state.epoch + 1}/{self._config.epochs}"
        memory = peak_memory_bytes()
        shown = {"memory": format_bytes(memory)} if memory is not None else {}
        bar.advance(samples, epoch=epoch, loss=f"{averages['loss']:.4f}", lr=f"{rate:.3g}", **shown)
        steps = self.training.steps_per_epoch
        if state.step_in_epoch % max(1, self._config.print_batch_step) == 0 or state.step_in_epoch == steps:
            losses = ", ".join(f"{name} {value:.5f}" for name, value in averages.items())
            speed = progress.samples / max(progress.seconds, 1e-9)
            self._log.line(
                f"epoch {epoch} batch {state.step_in_epoch}/{steps}: {losses}, lr {rate:.6g}, {speed:.1f} images/s"
            )
            self._log.record("train", epoch=state.epoch + 1, step=state.global_step, lr=rate, **parts)

    def _stop_or_save(self) -> None:
        """At a step boundary inside an epoch: obey a signal, and save when asked to every so many steps."""
        every = self._options.save_every_steps
        self._stopping.check()
        if every and self.state.global_step - self._saved_at >= every:
            self._save([LATEST])

    # ------------------------------------------------------------------------------------------ epoch's end

    def _finish_epoch(self) -> None:
        state = self.state
        averages = state.progress.averages()
        state.epoch_losses.append(averages["loss"])
        self._tell_skipped()
        self.training.optimizer.schedule.on_result(averages["loss"], "min", state.schedule)
        self._log.record("epoch", epoch=state.epoch + 1, seconds=round(state.progress.seconds, 3), **averages)
        state.epoch, state.step_in_epoch, state.progress = state.epoch + 1, 0, Progress()
        interval, first = max(1, self._config.eval_interval), self._config.start_eval_epoch
        last = state.epoch == self._config.epochs
        due = last or (state.epoch % interval == 0 and state.epoch >= first)
        state.evaluation_due = self._evaluate is not None and due
        names = []
        if last or state.epoch % max(1, self._config.save_interval) == 0:
            # Without evaluation the newest weights are the best that is known.
            names = [LATEST] if self._evaluate is not None else [LATEST, BEST]
        if not last:
            self._stopping.check()
        if state.evaluation_due:
            self._save([LATEST])  # an evaluation that fails must not cost the epoch
        better = self._evaluate_if_due()
        if names or better:
            self._save([LATEST, BEST] if better else names)

    def _tell_skipped(self) -> None:
        """Pictures that `on_error: skip` leaves out are never left out in silence."""
        reasons = list(self.training.loader.skipped.values())[self._skipped :]
        if reasons:
            self._skipped += len(reasons)
            text = f"left out as they cannot be read: {counted(len(reasons), 'picture')}, such as {reasons[0]}"
            self._log.line(text)
            self._reporter.warn(text)

    def _evaluate_if_due(self) -> bool:
        """Evaluate when the state says so; whether the score is the best so far."""
        state, training = self.state, self.training
        if not state.evaluation_due or self._evaluate is None:
            return False
        generators = capture_rng()
        try:
            with training.ema.applied() if training.ema is not None else nullcontext():
                training.model.eval()
                training.ranks.broadcast_statistics(training.model)
                metrics = self._stopping.share(functools.partial(self._evaluate, training.model))
        finally:
            training.model.train()
            restore_rng(generators)
        state.evaluation_due = False
        state.evaluations.append({"epoch": state.epoch, **metrics})
        score = metrics.get(self._options.score)
        if score is None:
            raise TrainingError(f"the evaluation gives no {self._options.score}, it gives {', '.join(metrics)}")
        training.optimizer.schedule.on_result(score, "max", state.schedule)
        better = state.best_score is None or score > state.best_score
        if better:
            state.best_score, state.best_epoch = score, state.epoch
        told = [name for name in (self._options.score, "recall@5", "mAP") if name in metrics]
        shown = "  ".join(f"{name} {metrics[name]:.4f}" for name in told)
        text = f"epoch {state.epoch}: loss {state.epoch_losses[-1]:.4f}  {shown}{'  (best so far)' if better else ''}"
        self._log.line(text)
        self._log.record("eval", epoch=state.epoch, **metrics)
        self._reporter.info(text)
        return better

    def _save(self, names: list[str]) -> None:
        training, state = self.training, self.state
        state.rng = training.ranks.gather(capture_rng())
        if self._scaler is not None:
            values = self._scaler.state_dict()
            state.scaler = {key: float(np.asarray(value).reshape(-1)[0]) for key, value in values.items()}
        started = time.perf_counter()
        checkpoint = self._checkpoint()
        if training.ranks.is_main:
            if self._new_run:
                self._save_first(names, checkpoint)
            else:
                save_checkpoint(training.output, names, checkpoint, keep=self._options.keep or 1)
            took = format_seconds(time.perf_counter() - started)
            self._log.record("save", epoch=state.epoch, step=state.global_step, names=names)
            self._log.line(f"saved {' and '.join(names)} at epoch {state.epoch}, step {state.global_step} ({took})")
        self._saved_at = state.global_step

    def _checkpoint(self) -> Checkpoint:
        """Everything of now; every process takes part, what it gives is whole on the first."""
        training, state = self.training, self.state
        raw = training.shards.whole(training.model.state_dict())
        extra = {f"loss.{name}": tensor.numpy() for name, tensor in training.loss.state_dict().items()}
        if training.ema is not None:
            extra |= {f"model.{name}": value for name, value in raw.items()}
        return Checkpoint(
            weights=training.shards.whole(training.ema.tensors) if training.ema is not None else raw,
            optimizer={
                **training.shards.whole(training.optimizer.tensors()),
                "LR_Scheduler": training.optimizer.scheduler_state(state.global_step),
            },
            state=state,
            run={**training.run, "steps_per_epoch": training.steps_per_epoch, "saving": self._saving()},
            training=extra,
            metrics=state.evaluations[-1] if state.evaluations else {},
        )

    def _saving(self) -> dict[str, int]:
        """What was asked of them."""
        asked = {name: getattr(self._options, name) for name in SAVING}
        return {name: value for name, value in asked.items() if value is not None}

    def _save_first(self, names: list[str], checkpoint: Checkpoint) -> None:
        """The model of an earlier run makes room, and comes back when this one cannot be saved."""
        output = self.training.output
        folder = set_aside(output)
        try:
            save_checkpoint(output, names, checkpoint, keep=self._options.keep or 1)
        except EnvironmentProblem as problem:
            hint = "free some space or choose another Global.output_dir"
            if folder is not None:
                bring_back(folder, output)
                hint += "; the model of the run before is where it was"
            raise EnvironmentProblem(problem.message, details=problem.details, hint=hint) from None
        self._new_run = False
        if folder is not None:
            try:
                lines = tidy(folder, output, self._options.keep_earlier)
            except EnvironmentProblem as problem:  # no reason to end a run that has saved
                lines = [problem.message]
            for line in lines:
                self._log.line(line)
                self._reporter.info(line)


def _like(current: Mapping[str, Any], saved: Mapping[str, float]) -> dict[str, Any]:
    """Saved numbers in the types that the scaler has: arrays, whole numbers, booleans."""
    return {
        key: np.full_like(value, saved[key]) if isinstance(value, np.ndarray) else type(value)(saved[key])
        for key, value in current.items()
        if key in saved
    }


def _mixed_precision(training: Training) -> tuple[Callable[[], Any], Any]:
    """The context for forward passes, and the loss scaler that float16 needs."""
    amp = training.config.AMP
    if amp is None or not amp.use_amp or training.device == "cpu":
        return nullcontext, None
    scaler = None
    if amp.dtype == "float16":
        if training.config.loss_optimizers:  # Paddle's scaler follows the overflows of the last optimiser only
            raise ConfigError("AMP.dtype: float16 with several optimisers is not supported", hint="AMP.dtype: bfloat16")
        scaler = paddle.amp.GradScaler(
            init_loss_scaling=amp.scale_loss, use_dynamic_loss_scaling=amp.use_dynamic_loss_scaling
        )
    return (lambda: paddle.amp.auto_cast(level=amp.level, dtype=amp.dtype)), scaler  # type: ignore[arg-type]


def _set_state(layer: paddle.nn.Layer, arrays: Mapping[str, np.ndarray], what: str) -> None:
    """Set all tensors of a layer; DataError when the names differ."""
    own = layer.state_dict()
    different = sorted(set(own) ^ set(arrays))
    if different:
        raise DataError(
            f"the checkpoint does not fit {what}",
            details=[f"{name}: only in the {'network' if name in own else 'checkpoint'}" for name in different[:20]],
            hint="start anew from its weights: shitu train --init-from output/latest",
        )
    for name, tensor in own.items():
        tensor.set_value(np.asarray(arrays[name]))
