"""One step of training: the gradients of a batch, and the update of the weights by those of a group of batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import paddle

from shitu_cli.data.batch import Batch, input_of
from shitu_cli.errors import Command, DataError
from shitu_cli.model.heads import MarginHead
from shitu_cli.training.accuracy import accuracies, topk_of_training
from shitu_cli.training.build import Training
from shitu_cli.training.finite import require_finite_losses
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.precision import in_float32, mixed_precision


class GradientStep:
    """Adds up the gradients of `group_size` batches (Global.update_freq), and updates the weights once for them.

    `scaler` is the loss scaler of mixed precision, None without.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._topk = topk_of_training(training.config)
        self.group_size = max(1, training.config.Global.update_freq)
        self._amp, self.scaler = mixed_precision(training.config, training.device)

    @property
    def updates_per_epoch(self) -> int:
        """How often an epoch updates the weights."""
        return -(-self._training.steps_per_epoch // self.group_size)

    def group_at(self, step: int) -> tuple[int, bool]:
        """Return how many batches the group of a step (from 0, in its epoch) has, and whether this is the last of them.

        The last group of an epoch may be smaller.
        """
        first = step - step % self.group_size
        size = min(self.group_size, self._training.steps_per_epoch - first)
        return size, step + 1 - first == size

    def fit_position(self, state: LoopState, steps_then: int) -> None:
        """Keep the completed fraction of an epoch that had `steps_then` batches when `state` was saved (0: unknown).

        It has another number of batches after a change of the batch size or of the number of processes.
        """
        steps = self._training.steps_per_epoch
        if steps_then in (steps, 0):
            return
        groups_done = math.floor(state.step_in_epoch / steps_then * steps / self.group_size)
        state.step_in_epoch = groups_done * self.group_size
        state.global_step = state.epoch * self.updates_per_epoch + groups_done

    def add_gradients(self, batch: Batch, state: LoopState, in_group: int) -> tuple[dict[str, float], int]:
        """Add the gradients of a batch, one of `in_group`.

        Returns the parts of the loss (and the accuracies of Metric.Train) and the number of labelled images, both over
        all ranks. Raises DataError for a batch without images, TrainingError for a loss that is not finite.
        """
        training = self._training
        if not len(batch.labels):
            raise DataError(
                "no image of a batch could be read",
                hint=[Command("prepare", "./data"), " lists the broken images and says why they cannot be read"],
            )
        self._tell_progress(state)
        images = paddle.to_tensor(input_of(batch, training.dataset.normalization))
        labels = paddle.to_tensor(np.asarray(batch.labels, dtype=np.int64))
        outputs = in_float32(self._outputs(batch, images, labels))
        losses = training.loss(outputs, labels)
        measured = {**losses, **accuracies(outputs, labels, self._topk)}
        count = len(images)
        labelled, count_in_all, *weighted = training.ranks.sum_vector(
            [len(batch.labels), count, *(float(value) * count for value in measured.values())]
        )
        parts = {name: value / count_in_all for name, value in zip(measured, weighted, strict=True)}
        rate = training.optimizer.lr(state.global_step)
        require_finite_losses(parts, epoch=state.epoch + 1, step=state.step_in_epoch + 1, rate=rate)
        # Over all processes and batches of the group, the gradient is that of the mean over all images.
        self._backward(losses["loss"], count / count_in_all / in_group)
        return parts, int(labelled)

    def update(self, state: LoopState) -> None:
        """Change the weights by the gradients that all processes have added up, and count the update in `state`."""
        training = self._training
        training.ranks.sum_gradients([parameter for _, parameter in training.optimizer.parameters])
        training.optimizer.step(state.global_step, self.scaler)
        if training.ema is not None:
            training.ema.update(state.ema_updates)
            state.ema_updates += 1
        state.global_step += 1

    def _tell_progress(self, state: LoopState) -> None:
        """Tell margin heads how much of the training is done, as their margin may grow with it."""
        updates = self._training.config.Global.epochs * self.updates_per_epoch
        for network in self._training.networks:
            if isinstance(network.head, MarginHead):
                network.head.set_progress(state.global_step / max(1, updates))

    def _outputs(self, batch: Batch, images: paddle.Tensor, labels: paddle.Tensor) -> dict[str, Any]:
        """Return what the losses look at: the outputs of the network, of its peers, and of its teacher."""
        training = self._training
        with self._amp():
            outputs: dict[str, Any] = training.model(images, labels)
            if training.loss.peers is not None:
                outputs = {**outputs, "networks": training.loss.peers(outputs, images, labels)}
        if training.teacher is not None:
            outputs |= training.teacher(batch)
        return outputs

    def _backward(self, loss: paddle.Tensor, share: float) -> None:
        """Add the gradients of this share of a loss to those of the batches before it."""
        loss = loss if share == 1 else loss * share
        with self._training.ranks.backward_pass():
            (self.scaler.scale(loss) if self.scaler is not None else loss).backward()
