"""Prepare Paddle before its first use: quiet, on all cores, with an allocator that keeps its pages.

Call `setup_paddle` before anything else imports paddle; the comments say what each setting was measured to do.
"""

from __future__ import annotations

import ctypes
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

    The result looks like `cpu: no GPU in this build of Paddle, 2 threads`: the device, then the reason. Raises
    EnvironmentProblem if a GPU is requested and there is none.
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
    """Import Paddle without its lines on stderr, and without its handler and level on the root logger."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    # Its idle threads would spin for 200 ms on the cores that our kernels compute on: a third of the training speed.
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    warnings.filterwarnings("ignore", message="No ccache found")
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    # Until its own handlers are off, which print a C++ trace on SIGTERM, that signal waits.
    hold_back(signal.SIGTERM)
    import paddle

    paddle.disable_signal_handler()
    let_through(signal.SIGTERM)
    root.setLevel(level)
    root.handlers[:] = handlers
    warnings.filterwarnings("ignore", message="When training, we now always track global mean")


def hold_back(*signals: signal.Signals) -> None:
    """Block signals for this thread and for the threads and processes that it starts."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def let_through(*signals: signal.Signals) -> None:
    """Undo `hold_back`, for this thread."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _choose(device: str) -> tuple[str, str]:
    import paddle

    if device == "cpu":
        return "cpu", "as requested"
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if device == "auto":
        if count:
            return "gpu:0", f"the first of {count} GPU{'s' if count > 1 else ''}"
        why = "no GPU found" if paddle.is_compiled_with_cuda() else "no GPU in this build of Paddle"
        if _gpu_build_is_covered():
            why = f"paddlepaddle was installed over paddlepaddle-gpu, which is hidden by it; {REPAIR}"
        return "cpu", why
    name, _, index = device.partition(":")
    number = whole_number(index or "0")
    if name != "gpu" or number is None:
        several = f"; for several GPUs: --devices {index}" if "," in index else ""
        raise EnvironmentProblem(f"unknown device {device}", hint=f"auto, cpu, gpu or gpu:0{several}")
    if not paddle.is_compiled_with_cuda():
        raise EnvironmentProblem(
            f"{device} was requested, but this build of PaddlePaddle does not support GPUs",
            hint=REPAIR if _gpu_build_is_covered() else "install paddlepaddle-gpu, or use --device cpu",
        )
    if number >= count:
        raise EnvironmentProblem(f"{device} was requested, but there are {count} GPUs", hint="--device cpu")
    return f"gpu:{number}", "as requested"


def _gpu_build_is_covered() -> bool:
    """Return whether paddlepaddle was installed over paddlepaddle-gpu: they share files, the last one wins."""
    import paddle

    if paddle.is_compiled_with_cuda():
        return False
    return all(has_package(package) for package in ("paddlepaddle", "paddlepaddle-gpu"))


def has_package(package: str) -> bool:
    """Return whether pip has installed a package of this name."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _keep_freed_memory() -> None:
    """Let glibc reuse freed blocks instead of returning them: page faults cost up to 40 % of a step."""
    _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))


def return_large_blocks() -> None:
    """Let glibc return blocks above 32 MB at once, for networks with arrays of hundreds of megabytes.

    Kept blocks get split by smaller ones and cost a third more memory; returning them costs a step with 185,000
    classes a tenth to a third of its speed.
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
