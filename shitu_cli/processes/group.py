"""The processes that share the class centres of one head, as the head sees them: sums and rows over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle


class Group:
    """One process on its own: every collective is the identity. processes/collectives.py has the one for several."""

    rank = 0
    world = 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        """A copied network belongs to the same processes."""
        return self

    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Sum of a tensor over all processes."""
        return value

    def max_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Element-wise maximum of a tensor over all processes."""
        return value

    def row_counts(self, count: int) -> list[int]:
        """`count` of every process, in their order."""
        return [count]

    def gather_rows(self, rows: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
        """The rows [n, ...] of all processes under each other; process r gives counts[r] of them."""
        return rows
