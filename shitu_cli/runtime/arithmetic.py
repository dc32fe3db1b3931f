"""Set the number of threads that the libraries of this process compute on, and preserve it across other computations.

A sum that is divided among a different number of threads rounds differently, so the bits of a training depend on these
numbers. They belong to the whole process, and libraries change them for each other: a predictor of Paddle Inference
leaves Paddle on one thread when it is created and after each run, whatever number it was given, and a BLAS built on
OpenMP passes its number on to everything else that uses OpenMP. So only this module sets them, and code that computes
during training runs inside `kept_threads` (a call of a predictor) or `kept_arithmetic` (anything).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from shitu_cli.runtime.compilation import use_threads

_current = [1]  # the last argument of `set_threads`; Paddle starts with 1 and cannot be asked


def current_threads() -> int:
    """Return the number of threads that Paddle and the kernels compute on in this process."""
    return _current[0]


def set_threads(count: int) -> None:
    """Let Paddle, its mathematics library and numba's loops compute on `count` threads.

    Paddle's own flags have no effect at run time. numba, if not loaded yet, reads its number when it is imported.
    """
    from paddle.base import core

    core.set_num_threads(count)
    _current[0] = count
    if sys.modules.get("numba") is not None:
        use_threads(count)
    else:
        os.environ["NUMBA_NUM_THREADS"] = str(count)


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Restore Paddle's number of threads afterwards; costs microseconds."""
    from paddle.base import core

    count = current_threads()
    try:
        yield
    finally:
        core.set_num_threads(count)


@contextlib.contextmanager
def kept_arithmetic() -> Iterator[None]:
    """Restore the number of threads of every library of this process afterwards; costs milliseconds."""
    from paddle.base import core
    from threadpoolctl import ThreadpoolController

    count = current_threads()
    libraries = ThreadpoolController().lib_controllers
    # OpenMP last: some BLAS pass their number on to it.
    before = [(library, library.num_threads) for library in sorted(libraries, key=lambda it: it.user_api == "openmp")]
    try:
        yield
    finally:
        for library, threads in before:
            if threads is not None:
                library.set_num_threads(threads)
        if current_threads() != count:
            set_threads(count)
        core.set_num_threads(count)
