"""The program `shitu`, also as `python -m shitu_cli`."""

import os
import signal


def _stop(number: int, frame: object) -> None:
    """Ctrl-C while the program still loads: an exception would come out of some import, changed or not at all."""
    os.write(2, b"warning: stopped by Ctrl-C\n")
    os._exit(130)


def main() -> None:
    """Load the command line and run it."""
    signal.signal(signal.SIGINT, _stop)
    if hasattr(signal, "pthread_sigmask"):  # held back until now where another process has started this one
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    from shitu_cli.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
