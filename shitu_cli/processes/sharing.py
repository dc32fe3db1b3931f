"""The processes that share a piece of work, as the code that does the work sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Processes(Protocol):
    """The processes of a run (processes/collectives.py); what they gather is complete in the first one."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def gather(self, value: Any) -> list[Any]: ...

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None: ...


@dataclass(frozen=True)
class Alone:
    """One process, without Paddle's collectives."""

    rank: int = 0
    world: int = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        return rows
