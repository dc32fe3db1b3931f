"""The training loop. All it carries from one step to the next is `self.state` (a LoopState) and the tensors."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

from shitu_cli.data.batch import Batch
from shitu_cli.errors import DataError
from shitu_cli.pace import Pace
from shitu_cli.reporting import Bar, Reporter, byte_size, counted
from shitu_cli.runtime.memory import peak_memory_bytes
from shitu_cli.training.build import Training
from shitu_cli.training.checkpoint import BEST, LATEST, Checkpoint
from shitu_cli.training.gradient_step import GradientStep
from shitu_cli.training.log import RunLog
from shitu_cli.training.loop_state import LoopState, Progress, Step, capture_rng, restore_rng
from shitu_cli.training.online import OnlineEvaluation, is_evaluated
from shitu_cli.training.options import TrainOptions, TrainResult, has_stagnated
from shitu_cli.training.outlook import Outlook
from shitu_cli.training.per_process import evaluating
from shitu_cli.training.projection import Projection
from shitu_cli.training.saving import Saver
from shitu_cli.training.scores import score_before, take_score
from shitu_cli.training.start import Start
from shitu_cli.training.stopping import StopNow, Stopping

REHEARSED = 40  # steps that find out what a run costs, at most


class Trainer:
    """Runs the epochs of a `Training`, evaluates, saves, and stops cleanly on SIGINT and SIGTERM."""

    def __init__(
        self,
        training: Training,
        log: RunLog,
        reporter: Reporter,
        *,
        evaluate: OnlineEvaluation | None = None,
        start: Start | None = None,
        options: TrainOptions | None = None,
    ) -> None:
        self.training = training
        self.state = LoopState()
        self._config = training.config.Global
        self._log, self._reporter = log, reporter
        self._evaluate, self._start = evaluate, start
        self._outlook = Outlook(training, evaluate)
        self._options = options or TrainOptions()
        self._gradients = GradientStep(training)
        self._stopping = Stopping(training.ranks, reporter)
        self._skipped = 0  # skipped images that have been reported
        self._saver = Saver(training, log, reporter, self._options, self._gradients.scaler)
        self._clock = time.perf_counter()

    # ------------------------------------------------------------------------------------------ whole run

    def run(self) -> TrainResult:
        """Train until the last epoch or a signal; write a checkpoint in both cases, and return the result."""
        interrupted, to_do = False, self._samples_to_do()
        self._saver.begin(self.state)
        self._clock = time.perf_counter()
        with self._stopping.handling():
            try:
                if self._start is not None:
                    self._begin(self._start)
                if self.state.evaluation_due:
                    self._evaluate_and_save()
                with self._reporter.progress("training", to_do) as bar:
                    self._train(bar)
            except StopNow:
                interrupted = True
                self._save([LATEST])
        self._count_time()
        return self._result(interrupted=interrupted)

    def _samples_to_do(self) -> int:
        """Return how many images the rest of the run shows, over all processes."""
        state, steps = self.state, self.training.steps_per_epoch
        left = steps * self._config.epochs - (state.epoch * steps + state.step_in_epoch)
        return max(0, left * self.training.batch_size * self.training.ranks.world)

    def _train(self, bar: Bar) -> None:
        """Train the epochs that are left; their ends are no steps, so that they do not count for the pace."""
        with bar.pace.aside():
            self._outlook.expect(bar.pace, self.state.epoch)
        while not self.is_done:
            self._train_epoch(bar)
            with bar.pace.aside():
                began = time.perf_counter()
                self._finish_epoch()
                self._outlook.after_epoch(bar.pace, self.state.epoch, time.perf_counter() - began)
            self._tell_early_end()

    def _result(self, *, interrupted: bool) -> TrainResult:
        state, score = self.state, self.training.config.score
        return TrainResult(
            interrupted=interrupted,
            epochs_done=state.epoch,
            evaluations=list(state.evaluations),
            epoch_losses=list(state.epoch_losses),
            best_score=state.best_score,
            best_epoch=state.best_epoch,
            score_before=score_before(state, score),
            seconds=state.seconds,
            evaluation_seconds=state.evaluation_seconds,
            elapsed_seconds=state.elapsed_seconds,
            score=score,
        )

    @property
    def is_done(self) -> bool:
        """Whether all epochs are done, or evaluations have not risen for as long as the config allows."""
        return self.state.epoch >= self._config.epochs or self._has_stagnated

    @property
    def _has_stagnated(self) -> bool:
        return has_stagnated(self.state.evaluations, self.training.config.score, self._config.early_stop)

    def resume(self, saved: Checkpoint, *, elsewhere: bool = False) -> None:
        """Continue from a checkpoint in this run's output directory or from `elsewhere`."""
        self.state = self._saver.resume(saved, elsewhere=elsewhere)
        self._gradients.fit_position(self.state, int(saved.run.get("steps_per_epoch", 0)))

    def _begin(self, start: Start) -> None:
        """Initialise the head with the features that training starts from, and measure what they reach."""
        training = self.training
        if start.sets_head:
            means = self._stopping.share(start.class_means)
            if means is not None:
                training.model.head.set_centers(means)
            training.ranks.broadcast_state(training.model.head)
        self.state.evaluation_due = self._evaluate is not None and start.is_trained
        if self.state.evaluation_due:
            self._save([LATEST])

    def _tell_early_end(self) -> None:
        state = self.state
        if state.epoch < self._config.epochs and self._has_stagnated:
            self._log.tell(
                self._reporter,
                f"training ends after epoch {state.epoch} of {self._config.epochs}: "
                f"the last {self._config.early_stop} evaluations did not improve (Global.early_stop)",
            )

    def rehearse(self, seconds: float) -> Pace:
        """Train some steps for about `seconds` without saving anything; return the pace of the whole run.

        This changes the weights and serves only to find out what a run costs.
        """
        training, group = self.training, self._gradients.group_size
        pace = Pace(training.steps_per_epoch * self._config.epochs * training.batch_size)

        def steps() -> Iterator[int]:
            with self._batches(0) as batches:
                for number in range(1, REHEARSED + 1):
                    step = self._step(batches, pace, group, is_last=number % group == 0)
                    if step is None:
                        return
                    yield step.samples

        return pace.measure(steps(), seconds)

    # ------------------------------------------------------------------------------------------ one epoch

    def _train_epoch(self, bar: Bar) -> None:
        state, steps = self.state, self.training.steps_per_epoch
        with self._batches(state.epoch, state.step_in_epoch) as batches:
            while state.step_in_epoch < steps:
                in_group, is_last = self._gradients.group_at(state.step_in_epoch)
                step = self._step(batches, bar.pace, in_group, is_last=is_last)
                if step is None:
                    raise DataError(
                        "the data ended before the epoch did: the training list has changed during training"
                    )
                state.step_in_epoch += 1
                self._after_step(bar, step)
                if is_last and state.step_in_epoch < steps:
                    self._stop_or_save()

    @contextmanager
    def _batches(self, epoch: int, start_step: int = 0) -> Iterator[Iterator[Batch]]:
        """Yield the batches of an epoch from a step on, for the network in training mode."""
        self._outlook.begin_epoch()
        with closing(self.training.loader.epoch(epoch, start_step=start_step)) as batches:
            self.training.model.train()
            yield batches

    def _step(self, batches: Iterator[Batch], pace: Pace, in_group: int, *, is_last: bool) -> Step | None:
        """Train on the next batch, and update the weights if it is the last of its group; None after the last batch."""
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return None
        waited = time.perf_counter() - started
        losses, samples = self._gradients.add_gradients(batch, self.state, in_group)
        if is_last:
            self._gradients.update(self.state)
        seconds = time.perf_counter() - started
        self._outlook.after_step(pace, seconds, waited)
        return Step(losses, samples, seconds)

    def _after_step(self, bar: Bar, step: Step) -> None:
        """Count a step and show it, in the log too where `print_batch_step` says so."""
        state, steps = self.state, self.training.steps_per_epoch
        state.progress.add(step)
        state.samples_seen += step.samples
        state.seconds += step.seconds
        averages, epoch = state.progress.averages(), f"{state.epoch + 1}/{self._config.epochs}"
        rate = self.training.optimizer.lr(max(0, state.global_step - 1))
        memory = peak_memory_bytes()
        shown = {"memory": byte_size(memory)} if memory is not None else {}
        bar.advance(step.samples, epoch=epoch, loss=f"{averages['loss']:.4f}", lr=f"{rate:.3g}", **shown)
        if state.step_in_epoch % max(1, self._config.print_batch_step) == 0 or state.step_in_epoch == steps:
            losses = ", ".join(f"{name} {value:.5f}" for name, value in averages.items())
            speed = state.progress.samples / max(state.progress.seconds, 1e-9)
            self._log.line(
                f"epoch {epoch} batch {state.step_in_epoch}/{steps}: {losses}, lr {rate:.6g}, {speed:.1f} images/s"
            )
            self._log.record("train", epoch=state.epoch + 1, step=state.global_step, lr=rate, **step.losses)

    def _stop_or_save(self) -> None:
        """Stop after a signal, and save if `save_every_steps` is due; called between the steps of an epoch."""
        self._stopping.check()
        if self._saver.is_due(self.state):
            self._save([LATEST])

    # ------------------------------------------------------------------------------------------ epoch's end

    def _finish_epoch(self) -> None:
        state = self.state
        averages = state.progress.averages()
        state.epoch_losses.append(averages["loss"])
        self._report_skipped()
        self.training.optimizer.schedule.on_result(averages["loss"], "min", state.schedule)
        self._log.record("epoch", epoch=state.epoch + 1, seconds=round(state.progress.seconds, 3), **averages)
        state.epoch, state.step_in_epoch, state.progress = state.epoch + 1, 0, Progress()
        last = state.epoch == self._config.epochs
        state.evaluation_due = self._evaluate is not None and is_evaluated(state.epoch, self._config)
        if not last:
            self._stopping.check()
        if state.evaluation_due:
            self._save([LATEST])  # so that a failing evaluation does not lose the epoch
            self._evaluate_and_save()
        elif last or state.epoch % max(1, self._config.save_interval) == 0:
            self._save([LATEST] if self._evaluate is not None else self._unmeasured())

    def _report_skipped(self) -> None:
        """Warn about images that `on_error: skip` has left out since the last warning."""
        reasons = list(self.training.loader.skipped.values())[self._skipped :]
        if reasons:
            self._skipped += len(reasons)
            text = f"training without {counted(len(reasons), 'image')} that could not be read, such as {reasons[0]}"
            self._log.tell(self._reporter, text, warning=True)

    def _evaluate_and_save(self) -> None:
        """Evaluate, then save whatever the score, so that a resumed run does not evaluate this epoch again."""
        state, training = self.state, self.training
        if self._evaluate is None:  # a run resumed without evaluation
            state.evaluation_due = False
            self._save(self._unmeasured())
            return
        started, generators = time.perf_counter(), capture_rng()
        try:
            averages = training.ema.applied() if training.ema is not None else nullcontext()
            with averages, evaluating(training.model, training.ranks):
                evaluation = self._stopping.share(functools.partial(self._evaluate, training.model))
        finally:
            restore_rng(generators)
        state.evaluation_seconds += time.perf_counter() - started
        schedule = training.optimizer.schedule
        metrics = training.ranks.gather(evaluation.metrics)[0]  # all need the score, only the first has measured it
        better, text = take_score(state, metrics, training.config.score, schedule)
        self._log.tell(self._reporter, text)
        self._log.record("eval", epoch=state.epoch, **metrics)
        self._save([LATEST, BEST] if better else [LATEST], evaluation.projection)

    def _unmeasured(self) -> list[str]:
        """Return the names to save without evaluation: the newest weights are the best unless others have a score."""
        return [LATEST, BEST] if self.state.best_score is None else [LATEST]

    def _save(self, names: list[str], projection: Projection | None = None) -> None:
        self._count_time()
        self._saver.save(names, self.state, projection)

    def _count_time(self) -> None:
        """Add the time since the last call to the total of the run."""
        now = time.perf_counter()
        self.state.elapsed_seconds += now - self._clock
        self._clock = now
