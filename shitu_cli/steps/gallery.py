"""What is to be indexed: images that are named, the gallery list, or vectors of a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shitu_cli.data.lists import relative_to
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.files import sha256_of
from shitu_cli.reporting import Reporter, SilentReporter, counted
from shitu_cli.steps.models import open_extractor

if TYPE_CHECKING:
    import numpy as np

    from shitu_cli.config.schema import Config, SplitConfig
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.index.store import FeatureTable
    from shitu_cli.preparation.sources import Pictures
    from shitu_cli.workspace import Workspace


class Gallery(NamedTuple):
    """Vectors with labels and paths; `model` is the fingerprint of what made them, "" where that is not known."""

    table: FeatureTable
    model: str
    model_path: str


class Source(NamedTuple):
    """Where vectors come from: the config (None outside a workspace), and the model to use instead of its own.

    `label` is given to all images; with `named` they must have labels. `check` hears the fingerprint of the model
    before anything is computed.
    """

    space: Workspace
    config: Config | None
    model: Path | None = None
    label: str | None = None
    named: bool = False
    check: Callable[[str], None] = lambda fingerprint: None
    reporter: Reporter = SilentReporter()

    def extractor(self) -> Extractor:
        return open_extractor(self.config, self.model, reporter=self.reporter)


def gallery(sources: Sequence[str] | None, features: Path | None, source: Source) -> Gallery:
    """The gallery that `sources` or `features` mean, each path once; the workspace's gallery list without either."""
    reporter = source.reporter
    if features is None:
        pictures, told = _images(source, sources)
        pictures.labels = _labelled(pictures.labels, pictures.files, source)
        reporter.info([f"indexing {pictures.described()}", *told])
        found = _of_images(pictures, source)
    else:
        found = _of_features(features, source)
    table = found.table.distinct()
    again = len(found.table.labels) - len(table.labels)
    if again:
        reporter.warn(f"{counted(again, 'picture')} came more than once: the last of each is indexed")
    unlabelled = sum(not label for label in table.labels)
    if unlabelled:
        reporter.warn(f"{counted(unlabelled, 'picture')} without label: what finds them tells a path only")
    return found._replace(table=table)


def stored(space: Workspace, path: str) -> str:
    """Relative to the workspace while below it, so that it can be moved as a whole; "" where none is known."""
    if not path:
        return ""
    whole = os.path.abspath(path)
    return relative_to(whole, space.root) if space.config_path.is_file() else whole


def _of_images(pictures: Pictures, source: Source) -> Gallery:
    from shitu_cli.index.store import FeatureTable

    extractor = source.extractor()
    source.check(extractor.fingerprint)
    vectors, pictures = _vectors(source.reporter, extractor, pictures)
    paths = [stored(source.space, pictures.name(number)) for number in range(len(pictures))]
    table = FeatureTable(vectors, pictures.labels, paths)
    return Gallery(table, extractor.fingerprint, str(extractor.path))


def _of_features(features: Path, source: Source) -> Gallery:
    from shitu_cli.index.sources import read_features

    (table, model), path = read_features(features), ""
    if source.model is not None:
        extractor = source.extractor()
        if extractor.feature_size != table.features.shape[1]:
            raise DataError(
                f"{features}: {table.features.shape[1]} values each, but {source.model} gives {extractor.feature_size}",
                hint="name the model that made them",
            )
        if model not in ("", extractor.fingerprint):
            raise DataError(f"{features} was made by another model than {source.model}", hint="leave out --model")
        model, path = extractor.fingerprint, str(source.model)
    elif not model:
        source.reporter.warn("which model made these vectors is not known: name it with --model")
    source.check(model)
    labels = _labelled(table.labels, table.paths, source)
    return Gallery(
        table._replace(labels=labels, paths=[stored(source.space, file) for file in table.paths]), model, path
    )


def _labelled(labels: Sequence[str], paths: Sequence[str], source: Source) -> list[str]:
    """The labels as asked for; UsageError where they must be there and one is not."""
    if source.label is not None:
        return [source.label] * len(labels)
    bare = next((path for path, label in zip(paths, labels, strict=True) if not label), None)
    if source.named and bare is not None:
        raise UsageError(f"no label for {bare}", hint="give one: --label NAME, or a list with path and label")
    return list(labels)


def _images(source: Source, sources: Sequence[str] | None) -> tuple[Pictures, list[str | Command]]:
    """Return what the user names, or the gallery list with the names of its classes, and what to say of that."""
    from shitu_cli.preparation.sources import find_pictures, list_pictures

    config = source.config
    if sources:
        return find_pictures(list(sources), lambda path: own_image_root(config, path)), []
    if config is None:
        raise UsageError("there is no gallery list", hint=["name the images: ", Command("index build", "./gallery")])
    listed, split, others = _gallery_list(config)
    remark: list[str | Command] = [f": those of {os.path.relpath(listed)}"]
    if others:
        files = [os.path.relpath(file) for file in [listed, *others]]
        remark += [" (with the other lists: ", Command("index build", *files), ")"]
    return list_pictures(listed, Path(split.dataset.image_root)), remark


def own_image_root(config: Config | None, listed: Path) -> Path | None:
    """Return where the paths of the config's own lists count from; None for other lists."""
    if config is None:
        return None
    loaders = config.DataLoader
    for split in (loaders.train, loaders.query, loaders.gallery):
        if split is not None and Path(split.dataset.cls_label_path).resolve() == listed.resolve():
            return Path(split.dataset.image_root)
    return None


def _gallery_list(config: Config) -> tuple[Path, SplitConfig, list[Path]]:
    """Return the list that is the gallery, and the other lists of the config that hold something else."""
    loaders = config.DataLoader
    listed = [
        (Path(part.dataset.cls_label_path), part)
        for part in (loaders.gallery, loaders.train, loaders.query)
        if part is not None
    ]
    if not listed:
        raise UsageError("the config has no gallery", hint=["name the images: ", Command("index build", "./gallery")])
    # Without an evaluation split the training images are the gallery.
    there = [(file, part) for file, part in listed if file.is_file()]
    chosen = next((both for both in there if both[1] is not loaders.query), listed[0])
    digests = {sha256_of(file) for file, _ in there if file == chosen[0]}
    others = []
    for file, _ in there:  # one list under two names is one
        if (digest := sha256_of(file)) not in digests:
            digests.add(digest)
            others.append(file)
    return *chosen, others


def _vectors(reporter: Reporter, extractor: Extractor, pictures: Pictures) -> tuple[np.ndarray, Pictures]:
    """Features of all pictures that can be read; the others are told and left out."""
    import numpy as np

    from shitu_cli.features.extractor import pictures_of

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
