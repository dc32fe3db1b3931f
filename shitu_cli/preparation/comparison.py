"""Compare each image with its class, to show the likeliest wrong labels and outliers first.

Features of trained weights are compared where there are some, else colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from shitu_cli.data.lists import is_distractor
from shitu_cli.preparation.audit import Look
from shitu_cli.preparation.formats.base import Rows

RIDGE = 0.1  # of the features' mean variance: the weight that keeps the regression from learning single images
LIKELIER = 0.1  # score from which another class is likelier: 43 of 2,936 grocery photos, and all of 20 mislabelled ones
FEWEST = 3  # images of a class in a sample
USUAL_MOST = 20  # images of a class in a sample, as long as there are more classes to look at
COMPARED = 200_000  # images up to which colours are compared
NOT_COMPARED = -1.0
LISTED = 200  # suspects in the JSON

Item = TypeVar("Item")


@dataclass(frozen=True)
class Comparison:
    """`scores` [N] are larger for images that fit their class less; NOT_COMPARED or 0 for those not compared.

    `likelier` is another class that an image clearly fits better, where there is one. `compared` counts images; `by`
    says what was compared: "features of efficientnet-lite0", "colours".
    """

    scores: np.ndarray
    by: str
    compared: int = 0
    likelier: dict[int, str] = field(default_factory=dict)

    def suspects(self) -> list[int]:
        """Return the images that look more like another class, the likeliest mistakes first."""
        return sorted(self.likelier, key=lambda number: -self.scores[number])

    def describe(self, images: int) -> str:
        """Return a sentence about the comparison, for a data set of this many images."""
        part = f"{self.compared:,} images" if self.compared == images else f"{self.compared:,} of {images:,} images"
        count = len(self.likelier)
        looks = {0: "none of them looks", 1: "1 of them looks"}.get(count, f"{count:,} of them look")
        return f"labels: {part} compared by {self.by}; {looks} more like another class"

    def to_json(self, rows: Rows) -> dict[str, Any]:
        """Return what was compared, and the suspects with the class that they fit better."""
        return {
            "compared": self.compared,
            "by": self.by,
            "suspects": [
                {
                    "path": rows.paths[number],
                    "box": rows.boxes.get(number),
                    "label": rows.shown(rows.labels[number]),
                    "looks_like": rows.shown(self.likelier[number]),
                    "unlike": round(float(self.scores[number]), 3),
                }
                for number in self.suspects()[:LISTED]
            ],
        }


def sample(labels: Sequence[str], most: int) -> list[int]:
    """Return the numbers of the images to compare: all of classes that have enough, at most `most`.

    Of larger data sets evenly spread images of all classes, or of some where these are very many.
    """
    members: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        if not is_distractor(label):
            members.setdefault(label, []).append(number)
    classes = [numbers for numbers in members.values() if len(numbers) >= FEWEST]
    if sum(map(len, classes)) > most:
        each = max(USUAL_MOST, most // len(classes))
        classes = [_spread(numbers, each) for numbers in _spread(classes, max(2, most // each))]
    return sorted(number for numbers in classes for number in numbers)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` of the items, evenly spread; all of fewer."""
    return [items[n * len(items) // count] for n in range(count)] if len(items) > count else list(items)


def by_features(labels: Sequence[str], numbers: Sequence[int], features: np.ndarray, by: str) -> Comparison:
    """Compare the images at `numbers`, whose features [n, D] are given, with their classes.

    The score is how much better an image fits the best other class than its own, from -1 to 1.
    """
    scores = np.full(len(labels), NOT_COMPARED)
    names = sorted({labels[number] for number in numbers})
    if len(names) < 2:
        return Comparison(scores, by)
    place = {name: at for at, name in enumerate(names)}
    classes = np.array([place[labels[number]] for number in numbers])
    evidence, at = _without_itself(features, classes), np.arange(len(numbers))
    own = evidence[at, classes]
    evidence[at, classes] = -np.inf
    other = evidence.argmax(axis=1)
    margins = np.clip(evidence[at, other] - own, NOT_COMPARED, 1)
    scores[list(numbers)] = margins
    likelier = {numbers[n]: names[other[n]] for n in np.flatnonzero(margins >= LIKELIER).tolist()}
    return Comparison(scores, by, len(numbers), likelier)


def _without_itself(features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how well each image fits each class [N, C], learned from all images but this one.

    Ridge regression of ones and zeros on the features; what leaving one image out changes is known in closed form
    (Allen's PRESS, Technometrics 1974).
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    one_hot = np.eye(classes.max() + 1)[classes]
    one_hot -= one_hot.mean(axis=0)
    covariance = centred.T @ centred
    weight = RIDGE * max(np.trace(covariance) / len(covariance), 1e-9)
    projected = np.linalg.solve(covariance + weight * np.eye(len(covariance)), centred.T).T
    leverage = np.einsum("nd,nd->n", projected, centred)[:, None]
    fitted = projected @ (centred.T @ one_hot)
    return (fitted - leverage * one_hot) / np.maximum(1 - leverage, 1e-6)


def by_colours(labels: Sequence[str], looks: Sequence[Look]) -> Comparison:
    """Compare the colours of each image with the mean of its class; scores are multiples of the median distance.

    Colours are those of 4 x 4 fields. 0 for images that were not decoded, for classes of fewer than 4 images and for
    very large data sets.
    """
    comparison = Comparison(np.zeros(len(labels)), "colours")
    if len(labels) > COMPARED:
        return comparison
    members: dict[str, list[int]] = {}
    for number, look in enumerate(looks):
        if look.colours:
            members.setdefault(labels[number], []).append(number)
    for numbers in members.values():
        if len(numbers) > FEWEST:
            colours = np.frombuffer(b"".join(looks[n].colours for n in numbers), np.uint8).reshape(len(numbers), -1)
            distances = np.abs(colours - colours.mean(axis=0)).mean(axis=1)
            comparison.scores[numbers] = distances / max(float(np.median(distances)), 4.0)
    return comparison
