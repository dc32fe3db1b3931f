"""Collect what to index: images named by the user, the gallery list, or vectors from a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shitu_cli.data.lists import relative_to
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.features.extractor import Extractor
from shitu_cli.files import sha256_of
from shitu_cli.preparation.sources import ImageFiles, find_images, images_of_list
from shitu_cli.reporting import Reporter, SilentReporter, counted
from shitu_cli.steps.models import open_extractor
from shitu_cli.stores import absolute, address_of, is_stored
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config, SplitConfig
    from shitu_cli.features.detection.detector import Detector
    from shitu_cli.index.store import FeatureTable


class GalleryContent(NamedTuple):
    """Vectors with labels and paths; `model` is the fingerprint of the model that computed them, "" if unknown."""

    table: FeatureTable
    model: str
    model_path: str


class GallerySource(NamedTuple):
    """How vectors are made: by the config's model (None outside a workspace), or by `model` instead.

    `label` is assigned to all images; with `requires_labels` every image must have one. A `detector` cuts the most
    confident thing out of each image. `check` is called with the fingerprint of the model before anything is computed.
    """

    space: Workspace
    config: Config | None
    model: Path | None = None
    label: str | None = None
    requires_labels: bool = False
    detector: Detector | None = None
    check: Callable[[str], None] = lambda fingerprint: None
    reporter: Reporter = SilentReporter()

    def extractor(self) -> Extractor:
        return open_extractor(self.config, self.model, reporter=self.reporter)


def collect_gallery(sources: Sequence[str] | None, features: Path | None, source: GallerySource) -> GalleryContent:
    """Return the gallery of `sources` or `features`, else of the workspace's gallery list, with each path once.

    It is empty only where `features` is an empty part of `extract --shard`.
    Raises UsageError or DataError if there is nothing to index or it cannot be read.
    """
    reporter = source.reporter
    if features is None:
        images, remark = images_to_index(source, sources)
        images.labels = _label_all(images.labels, images.files, source)
        reporter.info([f"indexing {images.described()}", *remark])
        content = _of_images(images, source)
    else:
        content = _of_features(features, source)
    table = content.table.distinct()
    repeats = len(content.table.labels) - len(table.labels)
    if repeats:
        labels = _two_labels(content.table)
        reporter.warn(f"{counted(repeats, 'image')} came more than once: only the last of each is indexed{labels}")
    unlabelled_count = sum(not label for label in table.labels)
    if unlabelled_count:
        reporter.warn(
            f"{counted(unlabelled_count, 'image')} without a label: a search that finds them can only show their paths"
        )
    return content._replace(table=table)


def _two_labels(table: FeatureTable) -> str:
    """Return a remark that names an image which came under several labels, "" if none did."""
    label_of: dict[str, str] = {}
    for path, label in zip(table.paths, table.labels, strict=True):
        if path and label_of.setdefault(path, label) != label:
            return f", some under another label than before, such as {path}: {label_of[path]}, then {label}"
    return ""


def stored_path(space: Workspace, path: str) -> str:
    """Return `path` as the index stores it: relative to the workspace if below it, so that both can be moved together.

    Returns "" for "", an unknown path.
    """
    if not path:
        return ""
    whole = absolute(path)
    if address_of(whole) is not None or not space.config_path.is_file():
        return whole
    stored = relative_to(whole, space.root)
    if not os.path.isabs(stored):
        return stored
    folder, name = os.path.split(whole)  # the workspace is known without links, and may be reached through one
    return whole if is_stored(whole) else relative_to(os.path.join(os.path.realpath(folder), name), space.root)


def _of_images(images: ImageFiles, source: GallerySource) -> GalleryContent:
    from shitu_cli.index.store import FeatureTable

    extractor = source.extractor()
    source.check(extractor.fingerprint)
    vectors, images = _vectors(source, extractor, images)
    paths = [stored_path(source.space, images.name(number)) for number in range(len(images))]
    table = FeatureTable(vectors, images.labels, paths)
    return GalleryContent(table, extractor.fingerprint, str(extractor.path))


def _of_features(features: Path, source: GallerySource) -> GalleryContent:
    from shitu_cli.index.sources import read_features

    (table, model), path = read_features(features), ""
    if source.model is not None:
        extractor = source.extractor()
        if extractor.feature_size != table.features.shape[1]:
            raise DataError(
                f"{features} holds vectors of {table.features.shape[1]} values, but {source.model} returns "
                f"{extractor.feature_size}",
                hint="name the model that computed them",
            )
        if model not in ("", extractor.fingerprint):
            raise DataError(
                f"{features} was computed by another model than {source.model}",
                hint="leave out --model",
            )
        model, path = extractor.fingerprint, str(source.model)
    elif not model:
        source.reporter.warn("the model that computed these vectors is unknown: name it with --model")
    source.check(model)
    labels = _label_all(table.labels, table.paths, source)
    return GalleryContent(
        table._replace(labels=labels, paths=[stored_path(source.space, file) for file in table.paths]), model, path
    )


def _label_all(labels: Sequence[str], paths: Sequence[str], source: GallerySource) -> list[str]:
    """Return the labels, or `source.label` for all; UsageError if a label is required but missing."""
    if source.label is not None:
        if not source.label.strip():
            raise UsageError("--label: the name of a label is empty", hint="give one: --label NAME")
        return [source.label] * len(labels)
    bare = next((path for path, label in zip(paths, labels, strict=True) if not label), None)
    if source.requires_labels and bare is not None:
        raise UsageError(f"no label for {bare}", hint="give one: --label NAME, or a list with path and label")
    return list(labels)


def images_to_index(source: GallerySource, sources: Sequence[str] | None) -> tuple[ImageFiles, list[str | Command]]:
    """Return the images that the user names, or those of the gallery list, and a remark about the choice."""

    config = source.config
    if sources:
        return find_images(list(sources), lambda path: own_image_root(config, path), workspace=workspace_of(config)), []
    if config is None:
        raise UsageError("there is no gallery list", hint=["name the images: ", Command("index build", "./gallery")])
    list_path, split, others = _gallery_list(config)
    remark: list[str | Command] = [f": those of {os.path.relpath(list_path)}"]
    if others:
        files = [os.path.relpath(file) for file in [list_path, *others]]
        remark += [" (with the other lists: ", Command("index build", *files), ")"]
    return images_of_list(list_path, split.dataset.image_root), remark


def workspace_of(config: Config | None) -> Workspace | None:
    """Return the workspace of a config; None without one."""

    return None if config is None or config.root is None else Workspace(config.root)


def own_image_root(config: Config | None, list_path: Path) -> str | None:
    """Return the folder to which the paths in one of the config's lists are relative; None for other lists."""
    if config is None:
        return None
    for split in config.DataLoader.splits.values():
        if Path(split.dataset.cls_label_path).resolve() == list_path.resolve():
            return split.dataset.image_root
    return None


def _gallery_list(config: Config) -> tuple[Path, SplitConfig, list[Path]]:
    """Return the list to use as the gallery, and the config's other lists with other content."""
    loaders = config.DataLoader
    candidates = [
        (Path(part.dataset.cls_label_path), part)
        for part in (loaders.gallery, loaders.train, loaders.query)
        if part is not None
    ]
    if not candidates:
        raise UsageError("the config has no gallery", hint=["name the images: ", Command("index build", "./gallery")])
    # Without an evaluation split, the training images are the gallery.
    existing = [(file, part) for file, part in candidates if file.is_file()]
    choice = next((entry for entry in existing if entry[1] is not loaders.query), candidates[0])
    digests = {sha256_of(file) for file, _ in existing if file == choice[0]}
    others = []
    for file, _ in existing:  # the same list under two names counts once
        if (digest := sha256_of(file)) not in digests:
            digests.add(digest)
            others.append(file)
    return *choice, others


def _vectors(source: GallerySource, extractor: Extractor, images: ImageFiles) -> tuple[np.ndarray, ImageFiles]:
    """Return the features of all readable images, and those images with their boxes; warn about the others."""

    from shitu_cli.features.detection.bodies import bodies_of, report_whole, with_boxes

    reporter, inputs = source.reporter, bodies_of(images, source.detector)
    features = np.full((len(images), extractor.feature_size), np.nan, np.float32)
    skipped: dict[int, str] = {}
    with reporter.progress("extracting", len(images)) as bar:
        for indices, vectors, unreadable in extractor.batches(inputs):
            features[indices] = vectors
            skipped |= unreadable
            bar.advance(len(indices) + len(unreadable))
    if len(skipped) == len(images):
        raise DataError("none of the images could be read", details=list(skipped.values())[:10])
    images = with_boxes(images, inputs)
    if source.detector is not None:
        report_whole(images, skipped, reporter)
    if skipped:
        first = next(iter(skipped.values()))
        reporter.warn(f"indexing without {counted(len(skipped), 'image')} that could not be read, such as {first}")
        rows = [n for n in range(len(images)) if n not in skipped]
        features, images = features[rows], images.take(rows)
    return features, images
