"""Cross-batch memory (Wang et al. 2020, arXiv:1912.06798): a ring of the latest features, stored in the state dict."""

# mypy: disable-error-code="attr-defined,has-type"
from __future__ import annotations

import paddle

from shitu_cli.config.parts.losses import Memory
from shitu_cli.model.losses.pairs import masks


class MemoryMixin:
    """Adds the ring to a loss: `remember(x, labels)` per step, then `recall(labels)`."""

    part: Memory

    def init_memory(self, feat_dim: int) -> None:
        """Compare with the ring from step `start_iter` + 1 on; it holds `xbm_size` features of `feat_dim` values."""
        register, size = self.register_buffer, self.part.xbm_size
        register("memory", paddle.zeros([size, feat_dim]))
        register("memory_labels", paddle.full([size], -1, dtype="int64"))
        register("memory_count", paddle.zeros([2], dtype="int64"))  # steps and samples written so far

    def remember(self, x: paddle.Tensor, labels: paddle.Tensor) -> bool:
        """Write the batch into the ring; returns whether the ring is in use yet."""
        if not self.training:
            return False
        steps, written = (int(value) for value in self.memory_count.numpy())
        steps += 1
        active = steps > self.part.start_iter
        if active:
            kept = min(x.shape[0], self.part.xbm_size)
            slots = (paddle.arange(kept) + written) % self.part.xbm_size
            with paddle.no_grad():
                memory = paddle.scatter(self.memory, slots, x[-kept:].detach())
                ids = paddle.scatter(self.memory_labels, slots, labels[-kept:].astype("int64"))
            self.memory.set_value(memory)
            self.memory_labels.set_value(ids)
            written += kept
        self.memory_count.set_value(paddle.to_tensor([steps, written], dtype="int64"))
        return active

    def recall(self, labels: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        """Return (features [M, D], same label [N, M], other label [N, M]); empty slots are neither."""
        filled = (self.memory_labels >= 0).reshape([1, -1])
        same, different = masks(labels, self.memory_labels)
        return self.memory.clone(), same & filled, different & filled
