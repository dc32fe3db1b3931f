"""The real command, run as a user runs it: in this process, or in one of its own where a process is at stake."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

# A small network without online evaluation: for tests of what happens around training.
SMALL = ["-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_during_train=False"]
COMMAND = (sys.executable, "-m", "shitu_cli")
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGPIPE") if hasattr(signal, name)]

Result = subprocess.CompletedProcess


def shitu(*args: str, cwd: Path, check: bool = True, env: dict[str, str] | None = None) -> Result[str]:
    """Run the real entry point inside this process, a second or two faster than `shitu_process`.

    What it prints is captured at the descriptors, so that libraries and processes which it starts are heard too.
    Whatever the command changes about this process is put back. `env` is for what is read while the command runs;
    variables that libraries read at their import, signals and limits need `shitu_process`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _unchanged_process(), _redirected(out.fileno(), err.fileno()):
            os.chdir(cwd)
            os.environ.update({"OMP_NUM_THREADS": "1", **(env or {})})
            sys.argv = ["shitu", *_typed(args, cwd)]
            code = _run_main()
        stdout, stderr = (_text_of(file) for file in (out, err))
    return _checked(Result(["shitu", *args], code, stdout, stderr), check)


def shitu_process(*args: str, cwd: Path, check: bool = True, env: dict[str, str] | None = None) -> Result[str]:
    """Run the real entry point in a process of its own, on one compute thread: tests do not disturb each other."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", **(env or {})}
    argv = [*COMMAND, *_typed(args, cwd)]
    return _checked(subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True), check)


def shitu_started(
    *args: str, cwd: Path, env: dict[str, str] | None = None, own_group: bool = False
) -> subprocess.Popen[str]:
    """Start the real entry point in a process of its own, which goes on; what it prints and reports is one stream.

    Processes of `own_group` get signals together, as from a terminal.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(
        [*COMMAND, *args], cwd=cwd, env=environment, text=True, start_new_session=own_group, **streams
    )


def _typed(args: tuple[str, ...], cwd: Path) -> list[str]:
    """The command as it is run: new configs come from the quick template, whatever trained weights this machine has."""
    typed = list(args)
    if typed[:1] == ["prepare"] and "--template" not in typed and "--formats" not in typed:
        named = next((typed[n + 1] for n, word in enumerate(typed[:-1]) if word in ("-w", "--workspace")), ".")
        folder = (cwd / named).resolve()
        if not any((above / "shitu.yaml").is_file() for above in (folder, *folder.parents)):
            typed += ["--template", "quick"]
    return typed


def _checked(result: Result[str], check: bool) -> Result[str]:
    if check and result.returncode:
        command = " ".join(map(str, result.args))
        raise AssertionError(f"{command}: exit code {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def _run_main() -> int:
    """Call the program's entry point; return the exit code that its process would have."""
    from shitu_cli.__main__ import main

    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:  # as the interpreter does: --debug lets it through
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _redirected(out: int, err: int) -> Iterator[None]:
    """Lead descriptors 1 and 2, and Python's streams on them, to other files."""
    streams, kept = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    for stream in streams:
        stream.flush()
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(os.fdopen(os.dup(2), "wb"), encoding="utf-8", line_buffering=True)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(ValueError):  # closed by the command
                    stream.flush()
    finally:
        sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _text_of(file: io.BufferedRandom) -> str:  # type: ignore[type-arg]
    file.seek(0)
    return file.read().decode("utf-8").replace("\r\n", "\n")


@contextlib.contextmanager
def _unchanged_process() -> Iterator[None]:
    """Put back afterwards what a command changes about its process."""
    directory, environment, argv = os.getcwd(), dict(os.environ), sys.argv
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    root = logging.getLogger()
    level, root_handlers, disabled = root.level, list(root.handlers), logging.root.manager.disable
    numbers = random.getstate()
    with _unchanged_libraries():
        try:
            yield
        finally:
            signal.alarm(0)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.chdir(directory)
            os.environ.clear()
            os.environ.update(environment)
            if "numba" in sys.modules:  # it refuses another number than its threads were started with
                os.environ["NUMBA_NUM_THREADS"] = str(sys.modules["numba"].config.NUMBA_NUM_THREADS)
            sys.argv = argv
            root.setLevel(level)
            root.handlers[:] = root_handlers
            logging.disable(disabled)
            random.setstate(numbers)


@contextlib.contextmanager
def _unchanged_libraries() -> Iterator[None]:
    """Put back the random numbers of numpy and Paddle, Paddle's device and its default type."""
    import numpy as np

    numbers = np.random.get_state()
    paddle = sys.modules.get("paddle")  # one that is not loaded yet has no state to lose
    if paddle is not None:
        device, dtype, generators = paddle.get_device(), paddle.get_default_dtype(), paddle.get_rng_state()
    try:
        yield
    finally:
        np.random.set_state(numbers)
        if paddle is not None:
            paddle.set_device(device)
            paddle.set_default_dtype(dtype)
            paddle.set_rng_state(generators)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def all_end(pids: list[int], seconds: float = 10) -> bool:
    """Whether all these processes end within so many seconds; what only waits to be reaped has ended."""
    deadline = time.monotonic() + seconds
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
