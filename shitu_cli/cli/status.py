"""`shitu` without a command: show the state of the workspace and the next step."""

from __future__ import annotations

from shitu_cli.cli.opening import open_workspace
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command, UsageError
from shitu_cli.steps.status import status


def show_status(session: Session) -> None:
    """Show the results of each step, and propose the first one that is missing or out of date."""
    console = session.console
    try:
        space = open_workspace(session)
    except UsageError:
        if session.workspace is not None or console.as_json:
            raise
        console.info("No workspace here. Put the images of each class into a folder named after it, then:")
        console.next_step([Command("prepare", "./data"), "      (or see it work first: ", Command("demo"), ")"])
        return
    steps = status(space)
    following = next((step.command for step in steps if step.command), Command("search", "photo.jpg"))
    if console.as_json:
        states = [{"step": step.step, "state": step.state, "is_done": step.command is None} for step in steps]
        console.json({"workspace": str(space.root), "steps": states, "next": session.complete(following)})
        return
    console.table(f"Workspace {space.root}", ["step", "state"], [[step.step, step.state] for step in steps])
    console.next_step(following)
