"""The processes that share the class centres of one head, as the head uses them: sums and rows over all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle


class Group:
    """A single process: every collective is the identity. For several, see processes/collectives.py."""

    rank = 0
    world = 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        """Return the group itself: a copied network belongs to the same processes."""
        return self

    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Return the sum of a tensor over all processes."""
        return value

    def max_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Return the element-wise maximum of a tensor over all processes."""
        return value

    def row_counts(self, count: int) -> list[int]:
        """Return `count` of every process, in rank order."""
        return [count]

    def gather_rows(self, rows: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
        """Return the rows [counts[r], ...] of all processes r, one below the other."""
        return rows
