"""Read the output of detectors as boxes: each family of networks writes them in its own form.

The shapes of the arrays differ enough to tell the form; numbers that the form does not allow are an error instead of
wrong boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

STRIDES = (4, 8, 16, 32, 64, 128)  # of the feature maps from which boxes are predicted
YOLO_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
ANCHORS = 3  # boxes at each place in YOLO up to version 7
KNOWN_FORMS = (
    "PaddleDetection: [N, 6] (class, score, x1, y1, x2, y2) with the number of boxes",
    "PaddleDetection without its own suppression: boxes [1, N, 4] and scores [1, C, N]",
    "PicoDet without postprocessing: scores [1, N, C] of each level, then distances [1, N, 4 * M] of each",
    "YOLO v5 and v7: [1, N, 5 + C]; v8 and later: [1, 4 + C, N]; with suppression: [1, N, 6] or [N, 7]",
)


class Boxes(NamedTuple):
    """Boxes float64 [N, 4] with scores float64 [N], the best of all classes.

    `in_image`: in pixels of the image rather than of the input; `final`: the network has suppressed duplicates itself.
    """

    boxes: np.ndarray
    scores: np.ndarray
    in_image: bool = False
    final: bool = False


class UnknownForm(Exception):
    """The form of the arrays is not known here, or they hold what that form does not allow."""


def read_boxes(outputs: Sequence[np.ndarray], size: tuple[int, int], *, in_image: bool) -> Boxes:
    """Return the boxes in what a network gives for one image, with an input of this (height, width).

    `in_image`: the network was told the scale, and answers in pixels of the image if its form allows that. Raises
    UnknownForm.
    """
    outputs = decisive(outputs)
    shapes = [output.shape for output in outputs]
    form = _form_of(shapes, size)
    if form is None:
        raise UnknownForm(f"arrays of the shapes {', '.join('x'.join(map(str, shape)) for shape in shapes[:8])}")
    result = form([np.asarray(output, np.float64) for output in outputs], size)
    if len(result.scores) and not (result.scores.min() >= -1e-3 and result.scores.max() <= 1 + 1e-3):
        low, high = result.scores.min(), result.scores.max()
        raise UnknownForm(f"scores from {low:.3g} to {high:.3g}, where 0 to 1 are expected")
    return result._replace(in_image=in_image and form in (_finished, _unsuppressed))


def decisive(outputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return the outputs without the feature maps [1, 3, H, W, 5 + C] that older exports of YOLOv5 give besides."""
    return outputs[:1] if all(output.ndim == 5 for output in outputs[1:]) else outputs


Form = Callable[[list[np.ndarray], tuple[int, int]], Boxes]


def _form_of(shapes: Sequence[tuple[int, ...]], size: tuple[int, int]) -> Form | None:
    first, ranks = shapes[0] if shapes else (), {len(shape) for shape in shapes}
    if len(first) == 2 and len(shapes) <= 2 and (first[1] == 6 or np.prod(first) < 6):
        return _finished
    if ranks == {2} and len(shapes) == 1 and first[1] == 7:
        return _finished_batch
    if ranks != {3} or any(shape[0] != 1 for shape in shapes):
        return None
    if len(shapes) == 1:
        return _yolo_form(first, size)
    if len(shapes) == 2 and _boxes_first(shapes) is not None:
        return _unsuppressed
    half = len(shapes) // 2
    is_pico = len(shapes) % 2 == 0 and all(
        scores[1] == distances[1] and scores[2] == first[2] and distances[2] == shapes[half][2]
        for scores, distances in zip(shapes[:half], shapes[half:], strict=True)
    )
    return _pico_levels if is_pico and shapes[half][2] % 4 == 0 and shapes[half][2] >= 8 else None


def _yolo_form(shape: tuple[int, ...], size: tuple[int, int]) -> Form | None:
    counts = {sum(_places(size, stride) for stride in strides) for strides in YOLO_STRIDES}
    if shape[2] in counts and shape[1] >= 5:
        return _yolo_8
    if shape[1] in {ANCHORS * count for count in counts} and shape[2] >= 6:
        return _yolo_5
    return _finished_yolo if shape[2] == 6 else None


def _places(size: tuple[int, int], stride: int) -> int:
    return -(-size[0] // stride) * -(-size[1] // stride)


def _finished(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    """Read PaddleDetection with suppression inside; without a box it gives an array without rows, or a single -1."""
    rows = outputs[0] if outputs[0].ndim == 2 and outputs[0].shape[1] == 6 else np.zeros((0, 6))
    if len(outputs) == 2 and outputs[1].size == 1 and 0 <= outputs[1].item() <= len(rows):
        rows = rows[: int(outputs[1].item())]
    rows = rows[rows[:, 0] >= 0]
    return Boxes(rows[:, 2:], rows[:, 1], final=True)


def _finished_batch(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    """Read YOLOv7's end-to-end export: image of the batch, x1, y1, x2, y2, class, score."""
    rows = outputs[0]
    return Boxes(rows[:, 1:5], rows[:, 6], final=True)


def _finished_yolo(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    """Read YOLOv10, and later ones with suppression: x1, y1, x2, y2, score, class; rows of zeros fill it up."""
    rows = outputs[0][0]
    return Boxes(rows[:, :4], rows[:, 4], final=True)


def _unsuppressed(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    boxes, scores = outputs if _boxes_first([output.shape for output in outputs]) else outputs[::-1]
    return Boxes(boxes[0], scores[0].max(axis=0, initial=0.0))


def _boxes_first(shapes: Sequence[tuple[int, ...]]) -> bool | None:
    """Return whether boxes [1, N, 4] come before scores [1, C, N], None if these shapes are neither order."""
    for first in (True, False):
        boxes, scores = shapes if first else shapes[::-1]
        if boxes[2] == 4 and scores[2] == boxes[1]:
            return first
    return None


def _yolo_8(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    rows = outputs[0][0].T
    return Boxes(_corners(rows[:, :4]), rows[:, 4:].max(axis=1))


def _yolo_5(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    rows = outputs[0][0]
    return Boxes(_corners(rows[:, :4]), rows[:, 4] * rows[:, 5:].max(axis=1))


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Return x1, y1, x2, y2 of boxes that are given as centre, width and height."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _pico_levels(outputs: list[np.ndarray], size: tuple[int, int]) -> Boxes:
    """Read PicoDet's own outputs: at each place of a level, the distances to the four sides as distributions.

    Each distance is the mean of 0, 1, 2, … strides, weighted by a softmax (Li et al. 2020, Generalized Focal Loss).
    """
    half = len(outputs) // 2
    boxes, scores = [], []
    for level_scores, distances in zip(outputs[:half], outputs[half:], strict=True):
        count, bins = distances.shape[1], distances.shape[2] // 4
        stride = next((stride for stride in STRIDES if _places(size, stride) == count), None)
        if stride is None:
            raise UnknownForm(f"a level of {count} places, which no stride has on an input of {size[0]} x {size[1]}")
        weights = np.exp((d := distances[0].reshape(count, 4, bins)) - d.max(axis=2, keepdims=True))
        sides = stride * (weights @ np.arange(bins)) / weights.sum(axis=2)
        down, across = np.divmod(np.arange(count), -(-size[1] // stride))
        centres = (np.stack([across, down], axis=1) + 0.5) * stride
        boxes.append(np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1))
        scores.append(level_scores[0].max(axis=1))
    return Boxes(np.concatenate(boxes), np.concatenate(scores))
