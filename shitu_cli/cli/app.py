"""The command line on Typer: one file per command, loaded on use; errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import signal
import sys
from typing import Annotated, Any

import typer
from typer.main import get_command

from shitu_cli import __version__
from shitu_cli.cli import options
from shitu_cli.cli.grouped import GENERAL, HELP, GroupedCommands, apply_global_options
from shitu_cli.cli.options import option
from shitu_cli.cli.refused import usage_error
from shitu_cli.cli.session import Session
from shitu_cli.errors import MACHINE_HINTS, EnvironmentProblem, ShituError, UsageError

AGAIN_SECONDS = 3  # after which a lost Ctrl-C is raised again
BROKEN_PIPE = 128 + 13  # what a shell shows for SIGPIPE
STOPPED = 130
STEPS, USE, MORE = "From images to a model", "Using the model", "More"
# All commands in the order in which help shows them, with the heading of each.
COMMANDS = {
    **dict.fromkeys(("prepare", "train", "evaluate", "export"), STEPS),
    **dict.fromkeys(("extract", "merge", "index", "search", "serve"), USE),
    **dict.fromkeys(("demo", "models", "weights", "config", "templates"), MORE),
}
# The class of all errors of a command line: Typer does not export it, and takes it from Click or brings it along.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


class Shitu(GroupedCommands):
    """The root: each command is a function in a file of its name, or in BELOW those below it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in the order in which help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, whose file is loaded now; None for an unknown name."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, heading = importlib.import_module(f"shitu_cli.cli.{cmd_name}"), COMMANDS[cmd_name]
            if hasattr(module, "BELOW"):
                self.add_group(cmd_name, module.BELOW, module.HELP, heading)
            else:
                self.add(cmd_name, getattr(module, cmd_name), heading)
        return self.commands.get(cmd_name)


def root(
    context: typer.Context,
    workspace: options.WorkspaceOption = None,
    quiet: Annotated[bool, option(GENERAL, "Show only results, warnings and errors.", "--quiet", "-q")] = False,
    as_json: options.JsonOption = False,
    debug: Annotated[bool, option(GENERAL, "Show a traceback when something fails.", "--debug")] = False,
    version: Annotated[bool, option(GENERAL, "Show the version.", "--version")] = False,
) -> None:
    """Show the state of the workspace and the next step, if no command is given."""
    apply_global_options(context)
    if version:
        typer.echo(f"shitu {__version__}")
        context.exit()
    if context.invoked_subcommand is None:
        from shitu_cli.cli.status import show_status

        session = Session.of(context)
        session.enter(context)
        show_status(session)
    elif as_json:
        raise UsageError("--json goes after the command", hint="put it at the end of the line")


def _build() -> Any:
    """Return the command line that Typer builds; commands are added to it on use."""
    program = typer.Typer(
        name="shitu",
        help="From a folder of labelled images to a deployed feature extractor: prepare, train, evaluate, export.",
        cls=Shitu,
        invoke_without_command=True,
        rich_markup_mode=None,
        context_settings=HELP,
    )
    program.callback()(root)
    return get_command(program)


app = _build()


def main() -> None:
    """Run `shitu` and exit with the code of what happened; show a traceback only with --debug."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may not be valid text
    session = Session()
    session.debug = "--debug" in sys.argv  # for failures before the option is parsed
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        if hasattr(signal, "SIGALRM"):  # an exception in a destructor or an import gets lost: raise it again later
            signal.signal(signal.SIGALRM, stop)
            signal.alarm(AGAIN_SECONDS)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        code = _run(session, sys.argv[1:])
        sys.stdout.flush()
    except SystemExit as end:
        if stopped and end.code == STOPPED:
            _leave_stopped(session)
        raise
    except BaseException as error:
        # Ctrl-C during an import surfaces as an ImportError.
        if isinstance(error, KeyboardInterrupt) or (stopped and not isinstance(error, ShituError)):
            _leave_stopped(session)
        code = _exit_code_of(error, session)
    finally:
        _ignore_ctrl_c()
    sys.exit(code)


def _ignore_ctrl_c() -> None:
    """Ignore another Ctrl-C: all is done, and an exception would show what libraries do while the process ends."""
    if hasattr(signal, "SIGALRM"):
        signal.alarm(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(session: Session, arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    if "_SHITU_COMPLETE" in os.environ:  # a shell asks for completions
        app.main(args=arguments, prog_name="shitu")
    _refuse_empty(arguments)
    try:
        with app.make_context("shitu", arguments, obj=session) as context:
            app.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.Abort:
        return STOPPED
    except CommandLineError as error:
        raise usage_error(error) from None
    return 0


def _refuse_empty(arguments: list[str]) -> None:
    """Raise UsageError for an empty word: as a path it would mean the current directory."""
    for number, word in enumerate(arguments):
        if re.fullmatch(r"(--[a-z-]+=)?", word):
            before = word.rstrip("=") or " ".join(arguments[max(0, number - 1) : number]) or "shitu"
            raise UsageError(
                f"there is an empty argument after {before}", hint="is a variable of your shell empty or not set?"
            )


def _exit_code_of(error: BaseException, session: Session) -> int:
    """Show an error and return its exit code."""
    problem = _as_problem(error)
    if isinstance(error, BrokenPipeError):
        _drop_output()
        return BROKEN_PIPE
    try:
        if session.debug:
            session.console.trace(error)
        session.console.error(problem)
    except OSError:  # nobody can read it: only the exit code remains
        _drop_output()
    return problem.exit_code


def _drop_output() -> None:
    """Discard all further output, so that the interpreter does not fail on it when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
    os.close(null)


def _as_problem(error: BaseException) -> ShituError:
    """Return any exception as a ShituError: refusals of the machine with a way out, all others as unexpected."""
    if isinstance(error, ShituError):
        return error
    if isinstance(error, MemoryError):
        return EnvironmentProblem(
            "there is not enough memory", hint="close other programs, or use a smaller --batch-size or fewer --devices"
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return EnvironmentProblem(
            "the system does not allow this program more threads",
            hint="raise the limit (ulimit -u), or close other programs",
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = os.fsdecode(error.filename or "")
        return UsageError(f"the path is too long for this system: {name[:60]}...")
    if isinstance(error, OSError) and error.errno in MACHINE_HINTS:
        return EnvironmentProblem(str(error), hint=MACHINE_HINTS[error.errno])
    first, *more = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
    return ShituError(
        f"unexpected {first}", details=more[:3], hint="run the command again with --debug and report its output"
    )


def _leave_stopped(session: Session) -> None:
    _ignore_ctrl_c()
    session.console.warn("stopped by Ctrl-C")
    sys.exit(STOPPED)
