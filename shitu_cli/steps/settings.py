"""The config of a step: from a workspace or a file, with lists instead of datasets that only PaddleClas reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from shitu_cli.config.arguments import require_config
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
    """Return the workspace's config, or that of another `file`; relative paths start at the workspace.

    Raises UsageError if the file does not exist, ConfigError that lists everything wrong in it.
    """
    path = file or workspace.config_path
    if not path.is_file():
        raise UsageError(f"no config file at {path}", hint=Command("prepare", "./data"))
    return load_config(path, overrides, flags=flags, root=workspace.root)


def with_lists(config: Config, required: Collection[str] = ()) -> Config:
    """Return the config with plain lists for datasets that PaddleClas reads with a class of its own.

    Raises DataError if the data of a `required` split (train, query, gallery) are missing or damaged, UsageError for
    what is not a config.
    """
    require_config(config)
    from shitu_cli.data.reader_classes import as_lists

    return as_lists(config, Places.of(config).workspace.cache_dir / "lists", required)
