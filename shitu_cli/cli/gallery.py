"""What `shitu index build` and `add` are to index: pictures that are named, the gallery list, or vectors of a file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shitu_cli.cli import console
from shitu_cli.data.lists import class_names, read_list, relative_to
from shitu_cli.errors import DataError, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    import numpy as np

    from shitu_cli.config.schema import SplitConfig
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.index.store import FeatureTable
    from shitu_cli.preparation.sources import Pictures
    from shitu_cli.workspace import Workspace


class Gallery(NamedTuple):
    """Vectors with labels and paths; `model` is the fingerprint of what made them, "" where that is not known."""

    table: FeatureTable
    model: str
    model_path: str


class Asked(NamedTuple):
    """The options of the command: `label` is given to all; `named`: the pictures must have labels.

    `check` hears the fingerprint of the model before anything is computed.
    """

    workspace: Path | None
    model: Path | None
    label: str | None = None
    named: bool = False
    check: Callable[[str], None] = lambda fingerprint: None


def gallery(space: Workspace, sources: list[str] | None, features: Path | None, asked: Asked) -> Gallery:
    """The gallery that `sources` or `features` mean, each path once; the workspace's gallery list without either."""
    if features is None:
        pictures, told = _pictures(space, asked.workspace, sources)
        pictures.labels = _labelled(pictures.labels, pictures.files, asked)
        console.reporter().info(f"indexing {pictures.described()}{told}")
        found = _of_pictures(space, pictures, asked)
    else:
        found = _of_features(space, features, asked)
    table = found.table.distinct()
    again = len(found.table.labels) - len(table.labels)
    if again:
        console.reporter().warn(f"{counted(again, 'picture')} came more than once: the last of each is indexed")
    unlabelled = sum(not label for label in table.labels)
    if unlabelled:
        console.reporter().warn(f"{counted(unlabelled, 'picture')} without label: what finds them tells a path only")
    return found._replace(table=table)


def stored(space: Workspace, path: str) -> str:
    """Relative to the workspace while below it, so that it can be moved as a whole; "" where none is known."""
    if not path:
        return ""
    whole = os.path.abspath(path)
    return relative_to(whole, space.root) if space.config_path.is_file() else whole


def _of_pictures(space: Workspace, pictures: Pictures, asked: Asked) -> Gallery:
    from shitu_cli.cli.extract import open_extractor
    from shitu_cli.index.store import FeatureTable

    extractor = open_extractor(asked.workspace, asked.model)
    asked.check(extractor.fingerprint)
    vectors, pictures = _vectors(extractor, pictures)
    paths = [stored(space, pictures.name(number)) for number in range(len(pictures))]
    table = FeatureTable(vectors, pictures.labels, paths)
    return Gallery(table, extractor.fingerprint, str(extractor.path))


def _of_features(space: Workspace, features: Path, asked: Asked) -> Gallery:
    from shitu_cli.cli.extract import open_extractor
    from shitu_cli.features.origin import origin_of
    from shitu_cli.index.sources import read_features

    table = read_features(features)
    model, path = origin_of(features) or "", ""
    if asked.model is not None:
        extractor = open_extractor(asked.workspace, asked.model)
        if extractor.feature_size != table.features.shape[1]:
            raise DataError(
                f"{features}: {table.features.shape[1]} values each, but {asked.model} gives {extractor.feature_size}",
                hint="name the model that made them",
            )
        if model not in ("", extractor.fingerprint):
            raise DataError(f"{features} was made by another model than {asked.model}", hint="leave out --model")
        model, path = extractor.fingerprint, str(asked.model)
    elif not model:
        console.reporter().warn("which model made these vectors is not known: name it with --model")
    asked.check(model)
    labels = _labelled(table.labels, table.paths, asked)
    return Gallery(table._replace(labels=labels, paths=[stored(space, file) for file in table.paths]), model, path)


def _labelled(labels: Sequence[str], paths: Sequence[str], asked: Asked) -> list[str]:
    """The labels as asked for; UsageError where they must be there and one is not."""
    if asked.label is not None:
        return [asked.label] * len(labels)
    bare = next((path for path, label in zip(paths, labels, strict=True) if not label), None)
    if asked.named and bare is not None:
        raise UsageError(f"no label for {bare}", hint="give one: --label NAME, or a list with path and label")
    return list(labels)


def _pictures(space: Workspace, workspace: Path | None, sources: list[str] | None) -> tuple[Pictures, str]:
    """What the user names, or the gallery list with the names of its classes, and what to tell of that."""
    from shitu_cli.cli.extract import own_image_root
    from shitu_cli.preparation.sources import find_pictures

    if sources:
        return find_pictures(sources, lambda path: own_image_root(workspace, path)), ""
    listed, split, others = _gallery_list(space)
    told = f": those of {os.path.relpath(listed)}"
    if others:
        words = " ".join(shlex.quote(os.path.relpath(file)) for file in [listed, *others])
        told += console.completed(f" (with the other lists: shitu index build {words})")
    return _of_list(space, listed, split), told


def _gallery_list(space: Workspace) -> tuple[Path, SplitConfig, list[Path]]:
    """The list that is the gallery, and the other lists of the config that hold something else."""
    from shitu_cli.cli.common import load_workspace_config
    from shitu_cli.config.load import resolve_path
    from shitu_cli.files import sha256_of

    loaders = load_workspace_config(space).DataLoader
    listed = [
        (resolve_path(space.root, part.dataset.cls_label_path), part)
        for part in (loaders.gallery, loaders.train, loaders.query)
        if part is not None
    ]
    if not listed:
        raise UsageError("the config has no gallery", hint="name the pictures: shitu index build ./gallery")
    # Without an evaluation split the training pictures are the gallery.
    there = [(file, part) for file, part in listed if file.is_file()]
    chosen = next((both for both in there if both[1] is not loaders.query), listed[0])
    known = {sha256_of(file) for file, _ in there if file == chosen[0]}
    others = []
    for file, _ in there:  # one list under two names is one
        if (digest := sha256_of(file)) not in known:
            known.add(digest)
            others.append(file)
    return *chosen, others


def _of_list(space: Workspace, listed: Path, split: SplitConfig) -> Pictures:
    from shitu_cli.config.load import resolve_path
    from shitu_cli.preparation.sources import Pictures

    images, names = read_list(listed), class_names(listed)
    root = resolve_path(space.root, split.dataset.image_root)
    found = Pictures()
    for n in range(len(images)):
        number = int(images.labels[n])
        found.add(images.file(n, root), names.get(number, str(number)), images.box(n))
    return found


def _vectors(extractor: Extractor, pictures: Pictures) -> tuple[np.ndarray, Pictures]:
    """Features of all pictures that can be read; the others are told and left out."""
    import numpy as np

    from shitu_cli.features.extractor import pictures_of

    reporter = console.reporter()
    features = np.full((len(pictures), extractor.feature_size), np.nan, np.float32)
    skipped: dict[int, str] = {}
    with reporter.progress("extracting", len(pictures)) as bar:
        for indices, part, unread in extractor.batches(pictures_of(pictures)):
            features[indices] = part
            skipped |= unread
            bar.advance(len(indices) + len(unread))
    if len(skipped) == len(pictures):
        raise DataError("none of the pictures can be read", details=list(skipped.values())[:10])
    if not skipped:
        return features, pictures
    first = next(iter(skipped.values()))
    reporter.warn(f"left out as unreadable: {counted(len(skipped), 'picture')}, such as {first}")
    kept = [n for n in range(len(pictures)) if n not in skipped]
    return features[kept], pictures.take(kept)
