"""Loops compiled by numba, the machine code kept on disk where there is a directory for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `numba.njit(**options)` with a cache on disk, or in memory where none can be written."""
    import numba

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # numba found no directory for its cache
            return numba.njit(**options)(function)

    return decorate
