"""The command line: one Typer application, one file per command, and how errors leave it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from typing import Annotated

import typer

from shitu_cli import __version__
from shitu_cli.cli import console, options
from shitu_cli.errors import MACHINE_HINTS, EnvironmentProblem, ShituError

AGAIN_SECONDS = 3
COMMANDS = (
    "prepare",
    "train",
    "evaluate",
    "export",
    "extract",
    "index",
    "search",
    "demo",
    "models",
    "config_cmd",
    "templates_cmd",
)

app = typer.Typer(
    help="From a folder of labelled pictures to a deployed feature extractor: prepare, train, evaluate, export.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"shitu {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    workspace: options.WorkspaceOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Without a command: where the workspace stands and what to do next."""
    console.configure(quiet=quiet, as_json=False, workspace=workspace)
    if workspace is not None and context.invoked_subcommand is not None:
        os.environ["SHITU_WORKSPACE"] = str(workspace.absolute())  # where the command looks without a -w of its own
    if context.invoked_subcommand is None:
        from shitu_cli.cli.status import status

        status(workspace)


for _name in COMMANDS:
    importlib.import_module(f"shitu_cli.cli.{_name}").register(app)


def _leave_stopped() -> None:
    if hasattr(signal, "SIGALRM"):
        signal.alarm(0)
    console.reporter().warn("stopped by Ctrl-C")
    sys.exit(130)


def main() -> None:
    """Run `shitu` and leave with the exit code of what happened; a traceback only with --debug."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be valid text
    # --debug may stand anywhere, as people append it to the command that failed.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        if hasattr(signal, "SIGALRM"):  # raised inside a destructor or an import, it is lost: then once more
            signal.signal(signal.SIGALRM, stop)
            signal.alarm(AGAIN_SECONDS)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        app(args=arguments, prog_name="shitu", standalone_mode=True)
    except ShituError as error:
        if debug:
            traceback.print_exc()
        console.show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _leave_stopped()
    except SystemExit as left:
        if stopped and left.code == 130:  # Typer has caught it
            _leave_stopped()
        raise
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if stopped:  # in the middle of an import, Ctrl-C comes out as an ImportError
            _leave_stopped()
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in MACHINE_HINTS:
            problem = EnvironmentProblem(str(error), hint=MACHINE_HINTS[error.errno])
            console.show_error(problem)
            sys.exit(problem.exit_code)
        first, *more = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
        hint = "run the command again with --debug and report it"
        console.show_error(ShituError(f"unexpected: {first}", details=more[:3], hint=hint))
        sys.exit(1)
