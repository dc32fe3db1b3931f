"""Class centres divided over the processes of a run (`Arch.Head.shard`), and whole again in its checkpoints.

Every process keeps the same number of classes (one more or less) in their order, with the optimiser's state for
them. Checkpoints hold the whole matrices under their published names, so they load on any number of processes, in
evaluation and in export.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu_cli.config.schema import AmpConfig
from shitu_cli.errors import ConfigError
from shitu_cli.model.heads import MarginHead
from shitu_cli.processes.collectives import Ranks


@dataclass(frozen=True)
class Shards:
    """Which tensors are divided by columns, and how.

    `names` are those of the centres in the network's state and of the parameter, `widths` the classes per process
    (none where nothing is divided); `elsewhere` counts the numbers that only others hold; `reason` says why, for the
    user.
    """

    ranks: Ranks
    names: tuple[str, ...] = ()
    widths: list[int] = field(default_factory=list)
    elsewhere: int = 0
    reason: str = ""

    def whole(self, tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
        """All tensors as arrays on rank 0, divided ones put together; nothing on the others. Every rank calls it."""
        arrays: dict[str, np.ndarray] = {}
        for name, tensor in tensors.items():
            if self._divided(name, tensor.shape, self.widths[self.ranks.rank] if self.widths else 0):
                array = self.ranks.gather_columns(tensor, self.widths)
            else:
                array = tensor.numpy() if self.ranks.is_main else None
            if array is not None:
                arrays[name] = array
        return arrays

    def own(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Of whole arrays, this process's columns; what is not divided stays as it is."""
        first, width = sum(self.widths[: self.ranks.rank]), self.widths[self.ranks.rank] if self.widths else 0
        return {
            name: np.ascontiguousarray(value[:, first : first + width])
            if self._divided(name, np.shape(value), sum(self.widths))
            else value
            for name, value in arrays.items()
        }

    def _divided(self, name: str, shape: Any, width: int) -> bool:
        """The centres themselves, or an accumulator of their shape (its name begins with the parameter's)."""
        return bool(self.names) and name.startswith(self.names) and len(shape) == 2 and shape[1] == width


def shard_head(model: nn.Layer, amp: AmpConfig | None, ranks: Ranks, device: str) -> Shards:
    """Divide the network's class centres over the processes where the config asks for it, or where it is worth it.

    Raises ConfigError when `shard: true` cannot be had.
    """
    head = model.head
    if not isinstance(head, MarginHead) or not head.target_only or ranks.world == 1:
        return Shards(ranks)
    obstacle = _obstacle(head, amp, ranks, device)
    if head.shard is True and obstacle:
        raise ConfigError(f"Arch.Head.shard: {obstacle}", hint="-o Arch.Head.shard=False trains with whole centres")
    if head.shard is False or (head.shard == "auto" and not head.large):
        return Shards(ranks)
    what = f"the centres of {head.class_num:,} classes are"
    if obstacle:
        return Shards(ranks, reason=f"{what} whole in every process: {obstacle}")
    base, more = divmod(head.class_num, ranks.world)
    widths = [base + (rank < more) for rank in range(ranks.world)]
    head.keep_classes(sum(widths[: ranks.rank]), widths[ranks.rank], ranks)
    why = "as asked" if head.shard is True else "very many classes"
    text = f"{what} divided over {ranks.world} processes ({why})"
    elsewhere = head.in_size * (head.class_num - widths[ranks.rank])
    return Shards(ranks, ("head.weight", head.weight.name), widths, elsewhere, text)


def _obstacle(head: MarginHead, amp: AmpConfig | None, ranks: Ranks, device: str) -> str:
    """Why these centres cannot be divided; empty when they can."""
    if head.class_num < ranks.world:
        return f"{head.class_num} classes do not give each of {ranks.world} processes one"
    if device != "cpu" and amp is not None and amp.use_amp and amp.dtype == "float16":
        return "float16 skips a step when a gradient overflows, which each process sees only of its own classes"
    return ""
