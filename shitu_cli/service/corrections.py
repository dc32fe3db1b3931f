"""Find the items of an index that contradict a person's correction of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.errors import ShituError
from shitu_cli.index.store import Item, Match
from shitu_cli.inputs import read_bytes
from shitu_cli.service.batching import Image
from shitu_cli.service.views import View

SAME = 1 - 1e-5  # cosine of one image's features, computed by whatever program; another photo hardly comes so near
ALIKE = 0.999  # below, not even a file with the same bytes shows the same area
MOST = 50  # copies of an image in an index that are looked for


def contradicting(
    view: View,
    features: np.ndarray,
    labels: Sequence[str],
    images: Sequence[Image],
    file_of: Callable[[Item], Path],
) -> list[int]:
    """Return the ids of items that are one of these images, or that area of it, under another label than its new one.

    It is the same image if its features are, or if its file holds the same bytes. A binary index has no features to
    compare, so there only the bytes decide.
    """
    if view.manifest is None:
        return []
    exact = view.manifest.kind != "binary"

    def is_same(match: Match, image: Image) -> bool:
        if exact and match.score >= SAME:
            return True
        return match.score >= ALIKE and _holds(file_of(Item(match.id, match.label, match.path)), image.data)

    rows = zip(view.search(features, MOST), labels, images, strict=True)
    return [
        match.id
        for matches, label, image in rows
        for match in matches
        if match.label != label and is_same(match, image)
    ]


def _holds(file: Path, data: bytes) -> bool:
    """Return whether a file holds exactly these bytes; one that cannot be read does not."""
    try:
        return file.stat().st_size == len(data) and read_bytes(file, limit=len(data)) == data
    except (OSError, ValueError, ShituError):
        return False
