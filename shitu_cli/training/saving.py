"""Save a run to checkpoints, and restore it from them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu_cli.config.dump import dump_config
from shitu_cli.config.schema import Config
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.files import atomic_write_text
from shitu_cli.reporting import Reporter, duration, shortened
from shitu_cli.training.build import Training
from shitu_cli.training.checkpoint import BEST, CONFIG, LATEST, Checkpoint, has_checkpoint, save_checkpoint
from shitu_cli.training.earlier import set_aside, tidy
from shitu_cli.training.finite import require_finite_weights
from shitu_cli.training.log import RunLog
from shitu_cli.training.loop_state import LoopState, capture_rng, restore_rng
from shitu_cli.training.options import TrainOptions
from shitu_cli.training.per_process import LOSS, MODEL, gather_own, own_arrays
from shitu_cli.training.projection import Projection
from shitu_cli.training.projection_neck import projected

SAVING = ("save_every_steps", "keep")  # options that a resumed run keeps


class Saver:
    """Writes the checkpoints of one run; `scaler` is the loss scaler of mixed precision, if there is one."""

    def __init__(
        self, training: Training, log: RunLog, reporter: Reporter, options: TrainOptions, scaler: Any = None
    ) -> None:
        self._training, self._log, self._reporter = training, log, reporter
        self._options, self._scaler = options, scaler
        self._new_run = True
        self._saved_at = -1

    def is_due(self, state: LoopState) -> bool:
        """Return whether `save_every_steps` steps have passed since the last save."""
        every = self._options.save_every_steps
        return bool(every) and state.global_step - self._saved_at >= (every or 0)

    def begin(self, state: LoopState) -> None:
        """Count steps between saves from here."""
        self._saved_at = state.global_step

    def save(self, names: list[str], state: LoopState, projection: Projection | None = None) -> None:
        """Save the current state as `<output>/<name>.*`; every process calls it, the first one writes.

        With a `projection`, best_model gets it as its neck and has no head. Raises TrainingError if a weight is not
        finite, EnvironmentProblem if writing fails; in both cases earlier saves are unchanged.
        """
        training = self._training
        started = time.perf_counter()
        state.rng = training.ranks.gather(capture_rng())
        if self._scaler is not None:
            values = self._scaler.state_dict()
            state.scaler = {key: float(np.asarray(value).reshape(-1)[0]) for key, value in values.items()}
        checkpoint = self._checkpoint(state)
        if training.ranks.is_main:
            tensors = {**checkpoint.weights, **_under(LOSS, checkpoint.training)}
            require_finite_weights(tensors, epoch=state.epoch, step=state.global_step)
            if self._new_run:
                self._save_first(names, checkpoint)
            elif projection is not None and BEST in names:
                # First: a run that is killed in between evaluates again, as its latest save is from before.
                self._write([BEST], projected(checkpoint, training.config, projection))
                self._write([name for name in names if name != BEST], checkpoint)
            else:
                self._write(names, checkpoint)
            took = duration(time.perf_counter() - started)
            self._log.record("save", epoch=state.epoch, step=state.global_step, names=names)
            self._log.line(f"saved {' and '.join(names)} at epoch {state.epoch}, step {state.global_step} ({took})")
        self._saved_at = state.global_step

    def resume(self, saved: Checkpoint, *, elsewhere: bool) -> LoopState:
        """Restore tensors and random generators in this process, and return the state of the loop.

        A run that continues a checkpoint from `elsewhere` is a new run in its own output directory.
        """
        training = self._training
        own = {prefix: own_arrays(saved.training, prefix, training.ranks) for prefix in (MODEL, LOSS)}
        raw = _under(MODEL, saved.training) or saved.weights
        set_tensors(training.model, training.shards.own({**raw, **own[MODEL]}), "the network")
        set_tensors(training.loss, {**_under(LOSS, saved.training), **own[LOSS]}, "the loss")
        if training.ema is not None:
            training.ema.load(training.shards.own(saved.weights))
        training.optimizer.load_state_dict(training.shards.own(saved.optimizer), saved.state.schedule)
        if self._scaler is not None and saved.state.scaler:
            self._scaler.load_state_dict(in_types_of(self._scaler.state_dict(), saved.state.scaler))
        self._new_run = elsewhere
        if training.ranks.is_main and not elsewhere:
            write_config(training.output, training.config)
        before = {name: value for name, value in saved.run.get("saving", {}).items() if name in SAVING}
        self._options = dataclasses.replace(self._options, **{**before, **self._given_options()})
        generators = saved.state.rng
        if training.ranks.rank < len(generators):
            restore_rng(generators[training.ranks.rank])
        return saved.state

    def _checkpoint(self, state: LoopState) -> Checkpoint:
        """Return the current state; every process takes part, and the first one gets the complete result."""
        training = self._training
        raw = training.shards.whole(training.model.state_dict())
        extra = {f"{LOSS}{name}": tensor.numpy() for name, tensor in training.loss.state_dict().items()}
        extra |= gather_own(training.model, training.loss, training.ranks)
        if training.ema is not None:
            extra |= {f"{MODEL}{name}": value for name, value in raw.items()}
        return Checkpoint(
            weights=training.shards.whole(training.ema.tensors) if training.ema is not None else raw,
            optimizer={
                **training.shards.whole(training.optimizer.tensors()),
                "LR_Scheduler": training.optimizer.scheduler_state(state.global_step),
            },
            state=state,
            run={**training.run, "steps_per_epoch": training.steps_per_epoch, "saving": self._given_options()},
            training=extra,
            metrics=state.evaluations[-1] if state.evaluations else {},
        )

    def _write(self, names: list[str], checkpoint: Checkpoint) -> None:
        save_checkpoint(self._training.output, names, checkpoint, keep=self._options.keep or 1)

    def _given_options(self) -> dict[str, int]:
        """Return the options about saving that the user gave."""
        options = {name: getattr(self._options, name) for name in SAVING}
        return {name: value for name, value in options.items() if value is not None}

    def _save_first(self, names: list[str], checkpoint: Checkpoint) -> None:
        config, output = self._training.config, self._training.output
        for line in save_new_run(output, names, checkpoint, config, self._options):
            self._log.tell(self._reporter, line)
        self._new_run = False


def save_new_run(
    output: Path, names: list[str], checkpoint: Checkpoint, config: Config, options: TrainOptions
) -> list[str]:
    """Save the first checkpoint of a new run after moving the model of an earlier run; return lines for the user.

    Raises EnvironmentProblem if writing fails; the earlier model is then where it was.
    """
    folders: list[Path | None] = []

    def make_room(new: Path) -> None:
        folders.append(set_aside(output, new))
        write_config(output, config)

    there = has_checkpoint(output / LATEST)
    try:
        save_checkpoint(output, names, checkpoint, keep=options.keep or 1, before_switch=make_room)
    except EnvironmentProblem as problem:
        hint = "free some space or choose another Global.output_dir"
        hint += "; the model of the previous run is where it was" if there and not any(folders) else ""
        raise EnvironmentProblem(problem.message, details=problem.details, hint=hint) from None
    if folders[0] is None:
        return []
    try:
        return tidy(folders[0], output, options.keep_earlier)
    except EnvironmentProblem as problem:  # no reason to end a run that has been saved
        return [problem.message]


def write_config(output: Path, config: Config) -> None:
    """Write the config for a resumed run, so that it always matches the checkpoint beside it."""
    atomic_write_text(output / CONFIG, dump_config(config))


def set_tensors(layer: paddle.nn.Layer, arrays: Mapping[str, np.ndarray], what: str) -> None:
    """Set all tensors of a layer's state; DataError if names, shapes or types differ."""
    own = layer.state_dict()
    different = [
        f"{name}: only in the {'network' if name in own else 'checkpoint'}" for name in sorted(set(own) ^ set(arrays))
    ]
    for name in own.keys() & arrays.keys():
        expected, array = own[name], np.asarray(arrays[name])
        if list(array.shape) != expected.shape or str(array.dtype) != str(expected.numpy().dtype):
            different.append(f"{name}: {array.dtype} {list(array.shape)}, expected {expected.dtype} {expected.shape}")
    if different:
        raise DataError(f"it does not fit {what}", details=shortened(different, 20))
    for name, tensor in own.items():
        tensor.set_value(np.asarray(arrays[name]))


def in_types_of(current: Mapping[str, Any], saved: Mapping[str, float]) -> dict[str, Any]:
    """Return saved numbers in the types of `current`: arrays, integers, booleans."""
    return {
        key: np.full_like(value, saved[key]) if isinstance(value, np.ndarray) else type(value)(saved[key])
        for key, value in current.items()
        if key in saved
    }


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
