"""What most commands begin with: the workspace and its config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.errors import UsageError
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.cli.session import Session
    from shitu_cli.config.schema import Config


def open_workspace(session: Session, config: Path | None = None, *, named: bool = False) -> Workspace:
    """The workspace named by -w, by SHITU_WORKSPACE, or found from here upwards.

    Without one it is here, with another `config`, and when all that the command needs is `named` by its options. What a
    killed `prepare` has committed is finished first, and lists of two different runs of it are refused (DataError).
    """
    from shitu_cli.data.generation import check_lists
    from shitu_cli.journal import settle

    try:
        space = Workspace.find(session.workspace)
    except UsageError:
        if config is None and not named:
            raise
        return Workspace(session.workspace or Path.cwd())
    settle(space)
    check_lists(space)
    return space


def config_or_none(session: Session, instead: Path | None) -> Config | None:
    """Return the workspace's config; None where there is none and a model or features are named that do `instead`."""
    from shitu_cli.steps.settings import with_lists, workspace_config

    try:
        return with_lists(workspace_config(open_workspace(session)))
    except UsageError:
        if instead is None:
            raise
        return None


def chosen_model(session: Session, model: Path | None, pretrained: str | None) -> Path | None:
    """Return the model of --model or --pretrained, whose weights are fetched and exported at the first use."""
    if pretrained is None:
        return model
    if model is not None:
        raise UsageError("--model and --pretrained both say which model to use", hint="give one of them")
    from shitu_cli.deployment.pretrained import export_pretrained

    return export_pretrained(pretrained, session.console)
