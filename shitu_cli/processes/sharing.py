"""The processes that share a piece of work, as the code that does the work sees them; Paddle is not loaded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Processes:
    """A single process, which gathers its own values; subclasses connect several.

    `rank` is the number of this process among the `world` processes.
    """

    rank: int = 0
    world: int = 1

    def gather(self, value: Any) -> list[Any]:
        """Return `value` of every process, in order of rank; JSON-like values only."""
        return [value]

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        """Return the rows [counts[r], D] of all ranks r one below the other on rank 0, None on the others."""
        return rows
