"""The areas of an image that are recognised: what a detector finds, and the whole image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shitu_cli.data.images import crop, decode_image
from shitu_cli.data.loader import NO_RANDOMNESS
from shitu_cli.errors import DataError
from shitu_cli.features.detection.boxes import Detection, whole
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Extractor, ImageInput, ImagePart, rgb, transformed
from shitu_cli.runtime.threads import compute_threads, image_threads


class Cut(Enum):
    """Which areas of an image count: all of it; the surest box; or each box and all of it."""

    WHOLE = "whole"
    BODY = "body"
    OBJECTS = "objects"


class Areas(NamedTuple):
    """Where they are, and each one prepared for the network; without a detector, the only detection is None."""

    detections: list[Detection | None]
    inputs: list[np.ndarray]


class AreaFeatures(NamedTuple):
    """Where the areas of an image are, and their features float32 [K, D] of unit length."""

    detections: list[Detection | None]
    features: np.ndarray


def read_areas(
    extractor: Extractor,
    detector: Detector | None,
    image: ImageInput,
    cut: Cut = Cut.OBJECTS,
    *,
    threshold: float | None = None,
) -> Areas:
    """Return the areas of an image, boxes first; an image that is cut out already is one.

    Each has the pixels that it would have if it were cut out beforehand. `threshold` replaces that of the detector.
    Raises DataError for an image that cannot be read.
    """
    if detector is None or cut is Cut.WHOLE or isinstance(image, ImagePart):
        return Areas([None], [extractor.read(image)])
    pixels = decode_image(image) if isinstance(image, (str, Path, bytes)) else rgb(image)
    boxes = detector.detect(pixels, threshold=threshold)
    areas = (boxes[:1] or [whole(pixels)]) if cut is Cut.BODY else [*boxes, whole(pixels)]
    return Areas(list(areas), [_prepared(extractor, image, pixels, area) for area in areas])


def _prepared(extractor: Extractor, image: ImageInput, pixels: np.ndarray, area: Detection) -> np.ndarray:
    """Return the input of the network for an area, as for a file that is cut out by the line of a list."""
    transform = extractor.transform
    if transform.enough is not None and isinstance(image, (str, Path, bytes)):  # decoded at a fraction of its size
        box = None if area.is_whole else area.box
        pixels = decode_image(image, box=box, enough=transform.enough)
    else:
        pixels = crop(pixels, area.box)
    return transformed(image, pixels, transform, NO_RANDOMNESS)


def features_of_areas(
    extractor: Extractor, detector: Detector | None, images: Sequence[ImageInput]
) -> Iterator[AreaFeatures | DataError]:
    """Yield for each image, in order, its areas with their features, or the error that says why it cannot be read."""

    def read(image: ImageInput) -> Areas | DataError:
        try:
            return read_areas(extractor, detector, image)
        except DataError as error:
            return error

    with image_threads(compute_threads(), "detect") as pool:
        for start in range(0, len(images), extractor.batch_size):
            group = list(pool.map(read, images[start : start + extractor.batch_size]))
            inputs = [one for part in group if isinstance(part, Areas) for one in part.inputs]
            features = iter(compute_alike(extractor, inputs, extractor.batch_size))
            for part in group:
                if isinstance(part, DataError):
                    yield part
                else:
                    rows = np.stack([next(features) for _ in part.inputs])
                    yield AreaFeatures(part.detections, rows)


def compute_alike(extractor: Extractor, inputs: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]:
    """Return the feature float32 [D] of each input; those of one shape are computed together."""
    alike: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, one in enumerate(inputs):
        alike[one.shape, one.dtype].append(number)
    features: list[np.ndarray] = [np.empty(0, np.float32)] * len(inputs)
    for numbers in alike.values():
        for start in range(0, len(numbers), batch_size):
            part = numbers[start : start + batch_size]
            for number, feature in zip(part, extractor.compute(np.stack([inputs[n] for n in part])), strict=True):
                features[number] = feature
    return features
