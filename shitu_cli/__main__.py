"""Run the program `shitu`, also as `python -m shitu_cli`."""

import atexit
import os
import signal
import sys
import threading


def _stop(number: int, frame: object) -> None:
    """Exit on Ctrl-C while the program loads: an exception could be changed or swallowed by an import."""
    os.write(2, b"warning: stopped by Ctrl-C\n")
    os._exit(130)


def _open_standard_streams() -> None:
    """Reopen closed descriptors 0, 1 and 2: otherwise the next file to be opened would receive the output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system takes the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))


def main() -> None:
    """Load the command line and run it."""
    signal.signal(signal.SIGINT, _stop)
    if hasattr(signal, "pthread_sigmask"):  # held back until now where another process has started this one
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    _open_standard_streams()
    from shitu_cli.cli.app import main as run

    run()


def program() -> None:
    """Run `shitu`, then end the process without tearing down the interpreter and its libraries.

    Tearing them down would take a fifth of the time of a search, for nothing. It still happens where Paddle is loaded,
    which has connections to close, where threads are running, and under a debugger or a profiler.
    """
    try:
        main()
    except SystemExit as end:
        busy = [thread for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
        if "paddle" in sys.modules or busy or sys.gettrace() or sys.getprofile() or not isinstance(end.code, int):
            raise
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(end.code)


if __name__ == "__main__":
    program()
