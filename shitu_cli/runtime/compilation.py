"""Compile loops with numba, and keep the machine code on disk if there is a directory for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator `numba.njit(**options)` with a cache on disk, or in memory if none can be written."""
    import numba

    if options.get("parallel"):
        _load_faiss()

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # numba has no directory for its cache
            return numba.njit(**options)(function)

    return decorate


def use_threads(count: int) -> None:
    """Let parallel loops run on at most `count` threads (as many as numba began with, if that is less)."""
    import numba

    _load_faiss()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _load_faiss() -> None:
    """Load faiss before numba starts its threads.

    numba's threads make the OpenMP inside Paddle visible to libraries loaded later. faiss would then start its threads
    with one OpenMP and divide the work by the other: every thread would do all of it, over the results of the others.
    """
    import faiss  # noqa: F401
