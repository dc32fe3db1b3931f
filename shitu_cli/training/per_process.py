"""The tensors that differ between the processes of a run, and how a checkpoint stores them.

The optimiser keeps parameters equal on all processes. Tensors that training writes without it differ: the ring of a
cross-batch memory, a head's running figures and the statistics of batch norm follow the images that each process has
seen. A checkpoint stores those of the first process under their names, like everything else, and those of process N as
`rankN.model.NAME` and `rankN.loss.NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from shitu_cli.processes.collectives import Ranks
from shitu_cli.runtime.arithmetic import kept_arithmetic

MODEL, LOSS = "model.", "loss."


def norm_statistics(layer: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return running means and variances of batch norm by their names in the state; Paddle keeps them as parameters."""
    return {
        f"{prefix}.{name}" if prefix else name: getattr(norm, name)
        for prefix, norm in layer.named_sublayers(include_self=True)
        if isinstance(norm, nn.layer.norm._BatchNormBase)
        for name in ("_mean", "_variance")
    }


def own_tensors(layer: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the tensors of a layer's state that training changes without an optimiser, by their names in the state."""
    written = {*norm_statistics(layer), *(name for name, _ in layer.named_buffers())}
    return {name: tensor for name, tensor in layer.state_dict().items() if name in written}


def gather_own(model: nn.Layer, loss: nn.Layer, ranks: Ranks) -> dict[str, np.ndarray]:
    """Return the own tensors of processes 1, 2, … on process 0, {} on the others; all processes call it."""
    arrays: dict[str, np.ndarray] = {}
    if ranks.world == 1:
        return arrays
    for prefix, layer in ((MODEL, model), (LOSS, loss)):
        for name, tensor in own_tensors(layer).items():
            every = ranks.gather_array(tensor.numpy()[None], [1] * ranks.world)
            if every is not None:
                arrays |= {f"rank{rank}.{prefix}{name}": every[rank] for rank in range(1, ranks.world)}
    return arrays


def own_arrays(saved: Mapping[str, np.ndarray], prefix: str, ranks: Ranks) -> dict[str, np.ndarray]:
    """Return this process's tensors of the network (MODEL) or the loss (LOSS); {} for the first, which needs no prefix.

    {} too for a process that the saved run did not have: it continues with those of the first.
    """
    mark = f"rank{ranks.rank}.{prefix}"
    return {name.removeprefix(mark): array for name, array in saved.items() if name.startswith(mark)}


@contextmanager
def evaluating(model: nn.Layer, ranks: Ranks) -> Iterator[None]:
    """Set the model to evaluation mode inside the context, with the first process's batch norm statistics everywhere.

    Those are what a checkpoint holds. Afterwards everything is restored to the bit: the modes of layers, each process's
    own statistics, and the number of threads that the process computes on.
    """
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    shared = list(norm_statistics(model).values()) if ranks.world > 1 else []
    before = [np.array(tensor.numpy()) for tensor in shared]
    try:
        model.eval()
        ranks.broadcast_tensors(shared)
        with kept_arithmetic():
            yield
    finally:
        for tensor, value in zip(shared, before, strict=True):
            tensor.set_value(value)
        for layer, training in modes:
            layer.training = training
