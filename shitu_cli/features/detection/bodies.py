"""Images of which only the surest object counts: it is detected while the image is read, to decode each image once."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.data.images import Box, crop, decode_image
from shitu_cli.errors import DataError, ShituError
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Cropped, ImageInput, ImagePart, inputs_of
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import Reporter


class _DetectorFails(ShituError):
    """A detector that cannot be run: an error of the whole call, where a DataError means that one image is left out."""

    exit_code = DataError.exit_code


class Body(ImagePart):
    """An image in a file, cropped to its surest box, or whole if nothing is found.

    `box` is known once it has been read: None for the whole image.
    """

    def __init__(self, path: str | Path, detector: Detector) -> None:
        self.path, self._detector = path, detector
        self.box: Box | None = None

    def pixels(self, enough: int | None = None) -> np.ndarray:
        """Return what `decode_image` returns for the path and the box.

        Raises DataError for an image that cannot be read, another ShituError if the detector fails.
        """
        image = decode_image(self.path)
        try:
            boxes = self._detector.detect(image, most=1)
        except DataError as error:
            raise _DetectorFails(error.message, hint=error.advice, details=error.details) from None
        self.box = boxes[0].box if boxes else None
        if enough is not None:  # at a fraction of its size the same part has other pixels
            return decode_image(self.path, box=self.box, enough=enough)
        return image if self.box is None else crop(image, self.box, str(self.path))


def bodies_of(images: ImageFiles, detector: Detector | None) -> list[ImageInput]:
    """Return inputs of the extractor; those without a box are searched for one if there is a detector."""
    inputs = inputs_of(images)
    return inputs if detector is None else [Body(one, detector) if isinstance(one, str) else one for one in inputs]


def with_boxes(images: ImageFiles, inputs: Sequence[ImageInput]) -> ImageFiles:
    """Return the images with the boxes that were found while the inputs were read."""
    boxes = [one.box if isinstance(one, (Body, Cropped)) else None for one in inputs]
    return ImageFiles(list(images.files), list(images.labels), boxes)


def report_whole(images: ImageFiles, unreadable: Container[int], reporter: Reporter) -> None:
    """Say how many of the readable images have no box, because nothing was found in them."""
    count = sum(box is None and n not in unreadable for n, box in enumerate(images.boxes))
    if count:
        reporter.info(f"nothing was found in {count:,} of {len(images):,} images: they are used whole")
