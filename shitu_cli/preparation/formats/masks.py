"""Masks: painted images that belong to photos of the same names, so they are no images of a class."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from shitu_cli.data.images import decode_image
from shitu_cli.errors import ShituError
from shitu_cli.preparation.formats.source import Source, fold, without_suffix

_NAMES = re.compile(
    r"masks?|.*_masks?|trimaps?|ground[_-]?truths?|gt|segmentation.*|seg_?maps?|annotations?|labels?|depth|mattes?|"
    r"alpha|saliency|contours?",
    re.I,
)
_END = re.compile(r"[_-](?:mask|seg|gt|label|trimap|matte|alpha|segmentation|contour)(?:_?\d{1,3})?$", re.I)
MASKED = 0.5  # share of a folder's images that must be masks of others
SAMPLE = 400
LOOKED_AT = 5  # images that are decoded
COLOURED = 4.0  # mean difference between the channels above which an image counts as coloured
PAINTED = 0.95  # share of the pixels that have one of the eight commonest of 4,096 colours, from which it is painted


def holds_masks(source: Source, folder: str, *, is_leaf: bool) -> bool:
    """Return whether a folder is called as folders of masks are, and its images are named as others elsewhere are.

    Products of a class called `mask` or `labels` may be numbered like those of other classes. So a folder that has
    none below it (`is_leaf`), with files of the same kind as the others, holds masks only if they look painted.
    """
    if not _NAMES.fullmatch(folder.rpartition("/")[2][:100]):
        return False
    mine = [path for path in source.tree.images if path.startswith(f"{folder}/")]
    sample = mine[:SAMPLE]
    count, are_alike = 0, is_leaf
    for path in sample:
        name = without_suffix(path.rpartition("/")[2])[:300]
        stem = _END.sub("", name)
        others = [other for other in source.tree.stems.get(fold(stem), ()) if not other.startswith(f"{folder}/")]
        count += bool(others)
        are_alike = are_alike and stem == name and all(_suffix(other) == _suffix(path) for other in others)
    if not mine or count < MASKED * len(sample):
        return False
    return not (are_alike and _are_photos(source, sample))


def masks_beside(source: Source) -> list[str]:
    """Return the images that are painted, and named after another in their folder: 1_mask.png beside 1.png."""
    named = [path for path in source.tree.images if _END.search(without_suffix(path[-300:]))]
    masks = [path for path in named if _has_photo(source, path)]
    return [] if not masks or _are_photos(source, masks) else masks


def _has_photo(source: Source, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    others = source.tree.stems.get(fold(_END.sub("", without_suffix(name)[:300])), ())
    return any(other.rpartition("/")[0] == folder for other in others)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _are_photos(source: Source, images: Sequence[str]) -> bool:
    """Return whether some of the images have the colours of photos."""
    return any(_is_photo(str(source.base / path)) for path in images[:: max(1, len(images) // LOOKED_AT)])


def _is_photo(path: str) -> bool:
    try:
        pixels = decode_image(path, enough=64)
    except ShituError:  # a member of an archive: better a class too many than one lost
        return True
    channels = pixels.astype(np.int16)
    is_coloured = np.abs(np.diff(channels, axis=2)).mean() > COLOURED
    coarse = (channels >> 4).reshape(-1, 3) @ np.array([256, 16, 1])
    commonest = np.sort(np.bincount(coarse))[-8:].sum()
    return bool(is_coloured and commonest < PAINTED * len(coarse))
