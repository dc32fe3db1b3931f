"""The config that a step works with: of a workspace or of a file, with lists for what PaddleClas reads otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from shitu_cli.config.load import load_config
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.errors import Command, UsageError
from shitu_cli.workspace import Workspace


def workspace_config(
    workspace: Workspace,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Return the workspace's config, or that of another `file`; relative paths count from the workspace.

    Raises UsageError when the file does not exist, ConfigError with all that is wrong in it.
    """
    path = file or workspace.config_path
    if not path.is_file():
        raise UsageError(f"no config file at {path}", hint=Command("prepare", "./data"))
    return load_config(path, overrides, flags=flags, root=workspace.root)


def with_lists(config: Config, needed: Collection[str] = ()) -> Config:
    """Return the config with lists for what PaddleClas reads by a class of its own.

    Of the splits (train, query, gallery) that are `needed` the data must be there.
    """
    from shitu_cli.data.reader_classes import as_lists

    return as_lists(config, Places.of(config).cache / "lists", needed)
