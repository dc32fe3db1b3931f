"""What most commands begin with: the workspace and its config."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.errors import UsageError
from shitu_cli.files import sha256_of
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config


def open_workspace(workspace: Path | None, config: Path | None = None, *, named: bool = False) -> Workspace:
    """The workspace named by -w, by SHITU_WORKSPACE, or found from here upwards.

    Without one it is here, with another `config`, and when all that the command needs is `named` by its options. What a
    killed `prepare` has committed is finished first, and lists of two different runs of it are refused (DataError).
    """
    from shitu_cli.cli import console
    from shitu_cli.data.generation import check_lists
    from shitu_cli.journal import settle

    console.configure(workspace=workspace, config=config)
    try:
        space = Workspace.find(workspace)
    except UsageError:
        if config is None and not named:
            raise
        return Workspace(workspace or Path.cwd())
    settle(space)
    check_lists(space)
    return space


def export_command(space: Workspace) -> str:
    """How to export into the workspace: --out counts from where the user is."""
    return "shitu export --out inference/" if Path.cwd() == space.root else "shitu export"


def load_workspace_config(
    workspace: Workspace,
    config: Path | None = None,
    overrides: Sequence[str] | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    needed: Collection[str] | None = (),
) -> Config:
    """The workspace's config, or the file given with -c, with overrides and flags applied.

    Lists are made for what PaddleClas reads by a class of its own; of the splits that are `needed` it must be there.
    None makes no lists.
    """
    from shitu_cli.config.load import load_config, resolve_pretrained
    from shitu_cli.data.reader_classes import as_lists

    path = config or workspace.config_path
    if not path.is_file():
        raise UsageError(f"no config file at {path}", hint="shitu prepare ./data")
    settings = load_config(path, list(overrides or ()), flags=dict(flags or {}))
    if needed is not None:
        settings = as_lists(settings, workspace.root, workspace.cache_dir / "lists", needed)
    return resolve_pretrained(settings, workspace.root)


def standing(prefix: Path) -> Path:
    """Where a checkpoint's weights are read from; it is said when that is its copy."""
    from shitu_cli.cli import console
    from shitu_cli.training.checkpoint import standing_weights

    weights, remark = standing_weights(prefix)
    if remark:
        console.reporter().warn(remark)
    return weights


def export_is_stale(space: Workspace) -> bool:
    """Whether the exported model was made from other weights than the best checkpoint of now."""
    import json

    weights, manifest = space.output_dir / "best_model.pdparams", space.inference_dir / "manifest.json"
    if not weights.is_file() or not manifest.is_file():
        return False
    try:
        made_from = json.loads(manifest.read_text(encoding="utf-8"))["source"]["sha256"]
    except (ValueError, KeyError, TypeError):
        return False  # damaged: what reads it says so
    return bool(made_from != sha256_of(weights))
