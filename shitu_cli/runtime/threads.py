"""Decide how many threads this process computes on, for everything that starts threads.

The smallest of three counts: the cores of the process's affinity, the CPU time that its control group allows (which
`docker run --cpus 2` sets), and this process's share if a run has several.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

from shitu_cli.runtime.control_groups import allowed_cores

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

THREADS = "SHITU_RANK_THREADS"  # the share of a process among several; processes/launch.py sets it


def compute_threads() -> int:
    """Return the number of threads that this process computes on, at least 1."""
    share = os.environ.get(THREADS, "")
    return max(1, int(share)) if share.isdecimal() else available_cores()


def available_cores() -> int:
    """Return the cores that this process and those that it starts may use together, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = allowed_cores()
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def is_bound() -> bool:
    """Return whether this process may not use all cores of the machine, as a launcher or a container has decided."""
    return available_cores() < (os.cpu_count() or 1)


def image_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return `count` threads that decode and resize images, each image on one of them.

    OpenCV would divide each image among threads of its own, which spin beside these and keep them waiting. From now on
    it computes on the thread that calls it, in the whole process, which changes no pixel.
    """
    import cv2

    cv2.setNumThreads(1)
    return ThreadPoolExecutor(count, thread_name_prefix=f"shitu-{name}")


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep each of numpy's matrix products on the thread that calls it.

    A BLAS that divides a product among threads rounds differently for each number of them. To use several cores,
    compute whole tiles of one shape in several threads.
    """
    with _blas().limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    import numpy  # noqa: F401  (loads the library that is looked for)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
