"""Divide class centres over the processes of a run (`Arch.Head.shard`), and reassemble them for its checkpoints.

Every process holds the same number of classes (give or take one) in order, with their optimiser state. Checkpoints hold
the complete matrices under their published names, so they load on any number of processes, in evaluation and in export.
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
    """The tensors that are divided by columns, and how.

    `names` are the names of the centres in the state of the network and of the parameter, `widths` the classes per
    process (empty if nothing is divided); `elsewhere` counts the values that only other processes hold; `reason` is an
    explanation for the user.
    """

    ranks: Ranks
    names: tuple[str, ...] = ()
    widths: list[int] = field(default_factory=list)
    elsewhere: int = 0
    reason: str = ""

    def whole(self, tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
        """Return all tensors as complete arrays on rank 0, {} on the others; every rank calls it."""
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
        """Return this process's columns of complete arrays; arrays that are not divided are returned unchanged."""
        first, width = sum(self.widths[: self.ranks.rank]), self.widths[self.ranks.rank] if self.widths else 0
        return {
            name: np.ascontiguousarray(value[:, first : first + width])
            if self._divided(name, np.shape(value), sum(self.widths))
            else value
            for name, value in arrays.items()
        }

    def _divided(self, name: str, shape: Any, width: int) -> bool:
        """Return whether this is the centres or an accumulator of their shape, whose name begins with theirs."""
        return bool(self.names) and name.startswith(self.names) and len(shape) == 2 and shape[1] == width


def shard_head(model: nn.Layer, amp: AmpConfig | None, ranks: Ranks, device: str) -> Shards:
    """Divide the class centres of the network over the processes if the config requests it or it pays off.

    Raises ConfigError if `shard: true` is impossible.
    """
    head = model.head
    if not isinstance(head, MarginHead) or not head.target_only or ranks.world == 1:
        return Shards(ranks)
    obstacle = _obstacle(head, amp, ranks, device)
    if head.shard is True and obstacle:
        raise ConfigError(f"Arch.Head.shard: {obstacle}", hint="-o Arch.Head.shard=False trains with undivided centres")
    if head.shard is False or (head.shard == "auto" and not head.large):
        return Shards(ranks)
    what = f"the centres of {head.class_num:,} classes are"
    if obstacle:
        return Shards(ranks, reason=f"{what} not divided over processes: {obstacle}")
    base, more = divmod(head.class_num, ranks.world)
    widths = [base + (rank < more) for rank in range(ranks.world)]
    head.keep_classes(sum(widths[: ranks.rank]), widths[ranks.rank], ranks)
    why = "as requested" if head.shard is True else "very many classes"
    text = f"{what} divided over {ranks.world} processes ({why})"
    elsewhere = head.in_size * (head.class_num - widths[ranks.rank])
    return Shards(ranks, ("head.weight", head.weight.name), widths, elsewhere, text)


def _obstacle(head: MarginHead, amp: AmpConfig | None, ranks: Ranks, device: str) -> str:
    """Return why these centres cannot be divided; "" if they can."""
    if head.needs_all_logits:
        return "losses compare the logits of all classes"
    if head.class_num < ranks.world:
        return f"there are only {head.class_num} classes for {ranks.world} processes"
    if device != "cpu" and amp is not None and amp.use_amp and amp.dtype == "float16":
        return (
            "float16 skips a step if a gradient overflows, but each process sees only the gradients of its own classes"
        )
    return ""
