"""A process with everything loaded, which runs commands and functions in forks of itself: they start at once.

`python -m tests.warm [modules]` reads orders from stdin, a line of JSON each, and answers each with two lines: the
process id of the fork, and its exit code once it has ended. A fork counts its changes of files below its folder, as
bytes of another file, and can be told to die just before one of them. Python processes that a command starts are forks
of the command. All compute on one thread, as threads do not come along into a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shitu_cli.cli.app import COMMANDS

# faiss before all that numba loads, see runtime/compilation.py.
_LIBRARIES = "faiss numba onnx onnxruntime openvino paddle.inference paddle2onnx.command rich.table pydantic"
_ROOMS = "training.run training.start deployment.run evaluation.evaluate preparation.formats report.evaluate_page"
_MODULES = (
    *_LIBRARIES.split(),
    *(f"shitu_cli.{name}" for name in _ROOMS.split()),
    *(f"shitu_cli.cli.{name}" for name in COMMANDS),
)


def run_command(*words: str) -> None:
    """Run `shitu` with these words, to its exit."""
    from shitu_cli.__main__ import main

    sys.argv = ["shitu", *words]
    main()


class _Fork(subprocess.Popen):  # type: ignore[type-arg]
    """A started `python -m module words` that is a fork of this process instead of a new one."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        if list(args[:2]) != [sys.executable, "-m"] or rest[4] is not None:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        environment, pipes = rest[5], rest[9:15]  # the positions of CPython 3.10 to 3.12; the fourth is cwd
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            for number, descriptor in enumerate((pipes[0], pipes[3], pipes[5])):
                if descriptor != -1:
                    os.dup2(descriptor, number)
            os.closerange(3, 1024)  # as close_fds does: what the parent has locked is not locked by the fork too
            os.environ.clear()
            os.environ.update(environment if environment is not None else {})
            sys.argv = args[2:]
            _end_with(lambda: runpy.run_module(args[2], run_name="__main__", alter_sys=True))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _end_with(work: Callable[[], object]) -> None:
    """Do the work and end this process as the interpreter would, without what it does for other threads."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _serve() -> None:
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu", threads=1)
    for name in (*_MODULES, *sys.argv[1:]):
        importlib.import_module(name)
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _obey(order)
        print(pid, flush=True)
        # The process stays until the next order, so that whoever kills it cannot hit another one of its number.
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        print(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, flush=True)
        sys.stdin.readline()
        os.waitpid(pid, 0)


_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


def _watch_changes(folder: str, counts: str, kill_before: int | None) -> None:
    """Count the changes below a folder, also those of later forks; kill all of this group before one of them."""
    Path(counts).write_bytes(b"")

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not changes or not isinstance(arguments[0], str | bytes):
            return
        if os.path.abspath(os.fsdecode(arguments[0])).startswith(folder):
            file = os.open(counts, os.O_WRONLY | os.O_APPEND)  # each time: later forks close all that is open
            os.write(file, b".")
            if os.fstat(file).st_size == kill_before:
                os.kill(0, signal.SIGKILL)
            os.close(file)

    sys.addaudithook(look)


def _obey(order: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(order["folder"])
    _watch_changes(os.getcwd(), order["counts"], order["kill_before"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    subprocess.Popen = _Fork  # type: ignore[misc]
    module, _, name = order["call"].partition(":")
    function = getattr(importlib.import_module(module), name)
    _end_with(lambda: function(*order["arguments"]))


if __name__ == "__main__":
    _serve()
