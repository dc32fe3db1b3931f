"""Exponential moving average of the weights, evaluated and saved instead of the raw ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn


class ExponentialMovingAverage:
    """shadow ← d · shadow + (1 − d) · weights after every update, over all floating entries of the state.

    d = min(decay, (1 + n) / (10 + n)) with n updates done, so that a short run is not dominated by its start.
    Batch-norm statistics are averaged with the weights they belong to; integer entries are copied.
    """

    def __init__(self, model: nn.Layer, decay: float) -> None:
        self._model = model
        self._decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @paddle.no_grad()
    def update(self, updates_done: int) -> None:
        """Update the average after a training step; `updates_done` counts the steps before it."""
        decay = min(self._decay, (1 + updates_done) / (10 + updates_done))
        for name, tensor in self._model.state_dict().items():
            shadow = self.tensors[name]
            if shadow.is_floating_point():
                shadow.scale_(decay)
                shadow.add_(tensor.detach() * (1 - decay))
            else:
                paddle.assign(tensor.detach(), shadow)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the context, and exactly its raw weights again afterwards."""
        raw = self._arrays(self._model.state_dict())
        self._put(self._arrays(self.tensors))
        try:
            yield
        finally:
            self._put(raw)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, shadow in self.tensors.items():
            shadow.set_value(np.asarray(arrays[name]))

    @staticmethod
    def _arrays(tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
        return {name: np.array(tensor.numpy()) for name, tensor in tensors.items()}

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, tensor in self._model.state_dict().items():
            tensor.set_value(arrays[name])
