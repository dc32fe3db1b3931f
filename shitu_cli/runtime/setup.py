"""Getting Paddle ready before first use: quiet, on all cores, with an allocator that keeps its pages.

Call `setup_paddle` before anything else imports paddle; the values behind it are measured, see each comment.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import signal
import sys
import warnings

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.inputs import whole_number
from shitu_cli.runtime.arithmetic import set_threads
from shitu_cli.runtime.memory import PADDLE_MEMORY, require_memory
from shitu_cli.runtime.threads import compute_threads

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4

REPAIR = "pip uninstall -y paddlepaddle paddlepaddle-gpu, then install paddlepaddle-gpu alone"


def setup_paddle(device: str = "auto", threads: int | None = None) -> str:
    """Import Paddle quietly, choose the device (`auto`, `cpu`, `gpu`, `gpu:N`) and return it with the reason.

    The answer reads `cpu: no GPU in this build of Paddle, 2 threads`; the part before the colon and blank is the
    device. Raises EnvironmentProblem when a GPU is asked for and there is none.
    """
    if "paddle" not in sys.modules:
        require_memory(PADDLE_MEMORY)
        _import_quietly()
    import paddle

    chosen, reason = _choose(device)
    paddle.set_device(chosen)
    if chosen == "cpu":
        count = threads or compute_threads()
        set_threads(count)
        _keep_freed_memory()
        reason += f", {count} thread{'s' if count > 1 else ''}"
    return f"{chosen}: {reason}"


def _import_quietly() -> None:
    """Import without the two lines on stderr, and without paddle's handler and level on the root logger."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    # Its idle threads spin for 200 ms, on the cores that our own kernels compute on: a third of the training speed.
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    warnings.filterwarnings("ignore", message="No ccache found")
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    # Its own handlers print a trace of C++ for what is only a request to stop: until they are gone, that waits.
    hold_back(signal.SIGTERM)
    import paddle

    paddle.disable_signal_handler()
    let_through(signal.SIGTERM)
    root.setLevel(level)
    root.handlers[:] = handlers
    warnings.filterwarnings("ignore", message="When training, we now always track global mean")


def hold_back(*signals: signal.Signals) -> None:
    """Let signals wait: for this thread, and for the threads and processes that it starts."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def let_through(*signals: signal.Signals) -> None:
    """Undo `hold_back`, for this thread."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _choose(device: str) -> tuple[str, str]:
    import paddle

    if device == "cpu":
        return "cpu", "as asked"
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if device == "auto":
        if count:
            return "gpu:0", f"the first of {count} GPU{'s' if count > 1 else ''}"
        why = "no GPU found" if paddle.is_compiled_with_cuda() else "no GPU in this build of Paddle"
        if _gpu_build_is_covered():
            why = f"the CPU build of Paddle lies over the one for GPUs; {REPAIR}"
        return "cpu", why
    name, _, index = device.partition(":")
    wanted = whole_number(index or "0")
    if name != "gpu" or wanted is None:
        raise EnvironmentProblem(f"unknown device {device}", hint="auto, cpu, gpu or gpu:0")
    if not paddle.is_compiled_with_cuda():
        raise EnvironmentProblem(
            f"{device} was asked for, but this build of PaddlePaddle has no GPU support",
            hint=REPAIR if _gpu_build_is_covered() else "install paddlepaddle-gpu, or use --device cpu",
        )
    if wanted >= count:
        raise EnvironmentProblem(f"{device} was asked for, but there are {count} GPUs", hint="use --device cpu")
    return f"gpu:{wanted}", "as asked"


def _gpu_build_is_covered() -> bool:
    """Whether paddlepaddle was installed over paddlepaddle-gpu: both own the same files, and the last one wins."""
    import paddle

    if paddle.is_compiled_with_cuda():
        return False
    return all(_is_installed(package) for package in ("paddlepaddle", "paddlepaddle-gpu"))


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks instead of returning them: page faults cost up to 40 % of a step."""
    _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))


def return_large_blocks() -> None:
    """Tell glibc to give blocks above 32 MB back at once, for networks with arrays of hundreds of megabytes.

    Kept and split by smaller ones, such blocks cost a third more memory than they need; returning them costs a
    step with 185 thousand classes a tenth to a third of its speed.
    """
    _mallopt((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TOP_PAD, 0))


def _mallopt(*settings: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library: slower, not wrong
        return
    for name, value in settings:
        mallopt(name, value)
