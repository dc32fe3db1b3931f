"""Open the workspace, its config, its model and its index: what most commands do first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.errors import Message, UsageError, parts_of
from shitu_cli.workspace import Workspace, named_root

if TYPE_CHECKING:
    from shitu_cli.cli.session import Session
    from shitu_cli.config.schema import Config
    from shitu_cli.features.detection.detector import Detector
    from shitu_cli.features.shard_file import Share
    from shitu_cli.index.store import IndexManifest, Store


def open_workspace(
    session: Session, config: Path | None = None, *, optional: bool = False, instead: Message = ()
) -> Workspace:
    """Return the workspace named by -w or SHITU_WORKSPACE, or else the one that contains the current directory.

    Without one, the current directory is used if another `config` is given, or if a workspace is `optional` because the
    options name all that the command needs; the error also says what to do `instead`. A `prepare` that was killed after
    it had committed is completed first.
    Raises UsageError without a workspace, DataError if its lists come from two different runs of `prepare`.
    """
    from shitu_cli.journal import recover
    from shitu_cli.preparation.list_digests import check_lists

    try:
        space = Workspace.find(session.workspace)
    except UsageError as error:
        if config is None and not optional:
            ways = [*parts_of(error.advice or ()), *((", or ", *parts_of(instead)) if error.advice and instead else ())]
            raise UsageError(error.message, hint=ways or None) from None
        return Workspace(named_root(session.workspace) or Path.cwd())
    recover(space)
    check_lists(space)
    return space


def workspace_of_index(session: Session, *, optional: bool = False) -> Workspace:
    """Return the workspace of a command that works on an index.

    It is optional in a directory that holds an index, too, because an index names its model.
    """
    from shitu_cli.index import is_index

    return open_workspace(
        session,
        optional=optional or is_index((named_root(session.workspace) or Path.cwd()) / "index"),
        instead="name the index: --index index/",
    )


def config_or_none(session: Session, instead: Path | None) -> Config | None:
    """Return the workspace's config; None without a workspace if a model or features are given `instead` of it."""
    from shitu_cli.steps.settings import with_lists, workspace_config

    try:
        space = open_workspace(session, instead="name the model: --model inference/")
        return with_lists(workspace_config(space))
    except UsageError:
        if instead is None:
            raise
        return None


def open_detector(
    session: Session, detector: Path | None, threshold: float | None, most: int | None = None
) -> Detector | None:
    """Return the detector of --detector with its other options; UsageError if those are given without it."""
    if detector is None:
        name = "--detector-threshold" if threshold is not None else "--max-boxes" if most is not None else None
        if name is not None:
            raise UsageError(f"{name} needs a detector", hint="name one: --detector mainbody/")
        return None
    from shitu_cli.features.detection.detector import MOST, THRESHOLD, Detector

    opened = Detector(
        detector, threshold=THRESHOLD if threshold is None else threshold, most=MOST if most is None else most
    )
    if opened.remark:
        session.console.warn(opened.remark)
    return opened


def weights_override(session: Session, config: Config, *, dry_run: bool = False) -> Path | None:
    """Return the weights of the option `-o Global.pretrained_model=…`, which PaddleClas's tools evaluate and export.

    None without that option: what the file itself names there is where training begins. A `dry_run` downloads nothing.
    """
    from shitu_cli.config.places import prefix_of
    from shitu_cli.weights.store import obtain, rehearsing

    source = config.Global.pretrained_model
    if not source or not config.origins.get("Global.pretrained_model", "").startswith("-o"):
        return None
    with rehearsing(dry_run):
        return prefix_of(obtain(source, session.console).path)


def share_of(shard: str | None) -> Share | None:
    """Return the part of the images that --shard names, None without that option; UsageError if it names none."""
    if shard is None:
        return None
    from shitu_cli.features.shard_file import Share

    return Share.parse(shard)


def chosen_model(session: Session, model: Path | None, pretrained: str | None, *, dry_run: bool = False) -> Path | None:
    """Return the model of --model or --pretrained; published weights are downloaded and exported at first use.

    Files of --pretrained are relative to the current folder. A `dry_run` downloads nothing and keeps no export.
    """
    if pretrained is None:
        return model
    if model is not None:
        raise UsageError("--model and --pretrained both choose the model", hint="give one of them")
    from shitu_cli.config.places import as_given
    from shitu_cli.deployment.pretrained import export_pretrained
    from shitu_cli.weights.store import rehearsing

    with rehearsing(dry_run):
        return export_pretrained(as_given(pretrained), session.console)


def chosen_index(space: Workspace | None, index: Path | None, store: str | None, collection: str | None) -> Store:
    """Return the store that the options name, by default the workspace's index directory."""
    if index is not None and store is not None:
        raise UsageError("--index and --store both choose where the index is", hint="give one of them")
    if collection is not None and store is None:
        raise UsageError("--collection is for an index in Milvus", hint="--store milvus:http://host:19530")
    if store is not None:
        from shitu_cli.index import open_address

        return open_address(store, collection or "shitu")
    from shitu_cli.index.files import FileStore

    return FileStore(index or (space.index_dir if space is not None else Path("index")))


def check_model(manifest: IndexManifest, model: str, place: str, other: object) -> None:
    """Raise DataError if the index was built with a model or preprocessing other than that of this fingerprint.

    `other` says whose fingerprint it is, in the words of the error.
    """
    if model and not manifest.fits(model):
        from shitu_cli.index.store import of_another_model

        raise of_another_model(manifest, place, other)
