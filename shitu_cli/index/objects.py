"""Answers to images: with a detector one from several areas, of which some show the same thing, and one counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.features.detection.boxes import Detection, apart
from shitu_cli.index.verdict import Answer

if TYPE_CHECKING:
    from shitu_cli.features.detection.detector import Detector
    from shitu_cli.features.extractor import Extractor, ImageInput

# Of two areas, above which they show the same thing; PP-ShiTu's rec_nms_thresold.
OVERLAP = 0.05


def answers_to(
    images: Sequence[ImageInput],
    *,
    extractor: Extractor,
    detector: Detector | None,
    answer: Callable[[np.ndarray], list[Answer]],
) -> Iterator[tuple[int, Answer | DataError]]:
    """Yield the number of each image with its answer, or with the error that says why it cannot be read.

    `answer` returns the answers to features float32 [N, D].
    """
    if detector is None:
        for numbers, features, unreadable in extractor.batches(images):
            yield from ((number, DataError(reason)) for number, reason in unreadable.items())
            yield from zip(numbers.tolist(), answer(features), strict=True)
        return
    from shitu_cli.features.detection.areas import features_of_areas

    for number, part in enumerate(features_of_areas(extractor, detector, images)):
        yield number, part if isinstance(part, DataError) else combined(answer(part.features), part.detections)


def combined(answers: Sequence[Answer], detections: Sequence[Detection | None]) -> Answer:
    """Return the answer to an image from those to its areas, which are its `objects`, the best first.

    As in PP-ShiTu, the whole image competes with the detected areas; of areas that overlap, the one with the highest
    score stays. Known objects come before unknown ones, and the whole image only counts as unknown if nothing else is
    left. Without a detector there is one area, whose answer is that of the image.
    """
    areas = [replace(answer, area=area) for answer, area in zip(answers, detections, strict=True) if area is not None]
    if not areas:
        return answers[0]
    order = sorted(range(len(areas)), key=lambda n: _rank(areas[n]))
    boxes = np.asarray([area.box for area in detections if area is not None], np.float64)
    kept = [areas[n] for n in apart(boxes, order, OVERLAP)]
    objects = [one for one in kept if not (one.is_unknown and one.area is not None and one.area.is_whole)] or kept[:1]
    return replace(objects[0], objects=tuple(objects))


def _rank(answer: Answer) -> tuple[bool, bool, float]:
    """Return what areas are sorted by: known ones by their score, unknown ones with the whole image last."""
    is_whole = answer.area is not None and answer.area.is_whole
    return answer.is_unknown, answer.is_unknown and is_whole, -answer.verdict.score
