"""What an index answers to photos of things that it does not hold, and to those of known things, without a threshold.

Each photo gets the verdict that search gives (index/verdict.py). A thing is *foreign* only if the network has not been
trained on it: training pushes classes apart, so that a trained class that is left out of the index is far easier to
recognise as unknown than a product that comes next month. So either photos of untrained classes are searched for in the
gallery without their class, or photos that the user provides in the whole gallery. What follows for a threshold is in
evaluation/thresholds.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shitu_cli.evaluation.metrics import FeatureSet, excluded
from shitu_cli.evaluation.similarity import Similarities
from shitu_cli.index.store import Match
from shitu_cli.index.verdict import VOTERS, judge

MOST_PHOTOS = 2000  # that are searched for: more would hardly narrow the interval
BLOCK = 256  # photos whose similarities to the gallery are in memory at once
NO_ANSWER = -2.0  # the score if no neighbour has a label, below any cosine


@dataclass(frozen=True)
class Outcomes:
    """The answers to photos without a threshold, one value for each photo.

    `scores` float64 [N]: the cosine that a threshold is compared with; `right` bool [N]: whether the label is the
    photo's; `classes` int64 [N]: what the photo shows.
    """

    scores: np.ndarray
    right: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def class_count(self) -> int:
        """The number of classes that the photos show."""
        return len(np.unique(self.classes))

    def take(self, rows: np.ndarray) -> Outcomes:
        """Return the outcomes of these photos, by numbers or by a mask [N]."""
        return Outcomes(self.scores[rows], self.right[rows], self.classes[rows])


class Fold(NamedTuple):
    """Unit features float32 [Q, D] of the query and [G, D] of the gallery, by a network not trained on `classes`."""

    classes: np.ndarray
    query: np.ndarray
    gallery: np.ndarray


def ask(photos: FeatureSet, gallery: FeatureSet, *, without_own_class: bool = False) -> Outcomes:
    """Return the answers that the gallery gives to the photos.

    A photo itself and images with its label and id (camera) are excluded, as in the metrics; `without_own_class`
    excludes all images with its label.
    """
    gallery_labels = [str(label) if label >= 0 else "" for label in gallery.labels.tolist()]
    scores, right = np.full(len(photos), NO_ANSWER), np.zeros(len(photos), bool)
    for number, similarity in _similarity_rows(photos, gallery):
        similarity[excluded(photos, gallery, number)] = -np.inf
        if without_own_class:
            similarity[gallery.labels == photos.labels[number]] = -np.inf
        nearest = [
            Match(place, gallery_labels[place], "", float(similarity[place])) for place in _best(similarity, VOTERS)
        ]
        verdict = judge(nearest)
        if verdict.nearest is not None:
            scores[number] = verdict.score
            right[number] = verdict.nearest == str(photos.labels[number])
    return Outcomes(scores, right, photos.labels)


def ask_known(query: FeatureSet, gallery: FeatureSet, answerable: np.ndarray) -> Outcomes:
    """Return the answers to queries whose class is in the gallery (`answerable` bool [Q])."""
    return ask(sampled(query, np.flatnonzero(answerable)), gallery)


def ask_left_out(query: FeatureSet, gallery: FeatureSet, classes: Sequence[int]) -> Outcomes:
    """Return the answers to photos of these classes, each from the gallery without its class."""
    photos = all_photos(query, gallery)
    return ask(sampled(photos, np.flatnonzero(np.isin(photos.labels, classes))), gallery, without_own_class=True)


def all_photos(query: FeatureSet, gallery: FeatureSet) -> FeatureSet:
    """Return the query images, and those gallery images that are not among them."""
    if query.identity is None or gallery.identity is None:
        return query
    rows = np.flatnonzero(~np.isin(gallery.identity, query.identity))
    both_have_ids = query.ids is not None and gallery.ids is not None
    return FeatureSet(
        np.concatenate([query.features, gallery.features[rows]]),
        np.concatenate([query.labels, gallery.labels[rows]]),
        np.concatenate([query.ids, gallery.ids[rows]]) if both_have_ids else None,  # type: ignore[index]
        np.concatenate([query.identity, gallery.identity[rows]]),
    )


def sampled(photos: FeatureSet, rows: np.ndarray) -> FeatureSet:
    """Return the photos of these rows; of more than MOST_PHOTOS, the same random sample each time."""
    if len(rows) > MOST_PHOTOS:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_PHOTOS])
    return take(photos, rows)


def take(photos: FeatureSet, rows: np.ndarray) -> FeatureSet:
    """Return the photos of these rows."""
    return FeatureSet(
        photos.features[rows],
        photos.labels[rows],
        None if photos.ids is None else photos.ids[rows],
        None if photos.identity is None else photos.identity[rows],
    )


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of several groups of photos as one."""
    return Outcomes(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.classes for part in parts]),
    )


def _similarity_rows(photos: FeatureSet, gallery: FeatureSet) -> Iterator[tuple[int, np.ndarray]]:
    similarities = Similarities(photos.features, gallery.features)
    for start in range(0, len(photos), BLOCK):
        numbers = np.arange(start, min(start + BLOCK, len(photos)))
        yield from zip(numbers.tolist(), similarities(numbers), strict=True)


def _best(similarity: np.ndarray, count: int) -> list[int]:
    """Return the places of the highest values, best first, equal ones by place; never one that is excluded."""
    places = np.flatnonzero(similarity > -np.inf)
    if len(places) > count:
        bar = np.partition(similarity[places], -count)[-count]
        places = places[similarity[places] >= bar]
    return places[np.argsort(-similarity[places], kind="stable")[:count]].tolist()
