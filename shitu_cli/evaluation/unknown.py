"""What a threshold does: how often things that are not in the index get an answer, and known things the right one.

Both are counted per photo, with the verdict that search gives (index/verdict.py). A thing is *foreign* only if the
network has not been trained on it: training pushes classes apart, so that a trained class that is left out of the index
is far easier to recognise as unknown than a product that comes next month. So either photos of untrained classes are
searched for in the gallery without their class, or photos that the user provides in the whole gallery.

Photos of one class are alike: ten of them are hardly more evidence than one. So all classes count the same whatever
their number of photos, and the interval (Wilson 1927) is that of as many independent draws as there are classes. A
threshold fits the classes that it was chosen on better than any others: so the share is counted on held-out classes,
each group of classes at the threshold that the other groups choose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from shitu_cli.evaluation.intervals import wilson_interval
from shitu_cli.evaluation.metrics import FeatureSet, excluded
from shitu_cli.evaluation.similarity import Similarities
from shitu_cli.index.store import Match
from shitu_cli.index.verdict import VOTERS, judge

FALSE_ANSWERS = 0.05  # the share of photos of foreign things unless the user asks for another
SHARES = (0.2, 0.1, 0.05, 0.02, 0.01)  # that are always reported
LEAST_CLASSES = 8  # of foreign things; the interval of fewer says next to nothing
GROUPS = 20  # of classes: each is held out in turn when a threshold is chosen
STRICTER = (1.0, 0.75, 0.5, 0.25, 0.0)  # parts of the wanted share to choose by, until held-out classes keep it too
MOST_PHOTOS = 2000  # that are searched for: more would hardly narrow the interval
FEW = 3  # expected classes with a false answer: with fewer, seeing none at all is likelier than 5 % (Poisson)
BLOCK = 256  # photos whose similarities to the gallery are in memory at once
STEPS = 1000  # thresholds in a unit of similarity
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


# ------------------------------------------------------------------------------------------------- thresholds


@dataclass(frozen=True)
class Promise:
    """The effect of a threshold: shares of photos, with their 95 % intervals.

    `wanted` is the share of false answers that was requested; `false_answers` the share of photos of foreign things
    that get an answer, `right` and `wrong` the shares of photos of known things that get the right and a wrong one.
    """

    wanted: float
    threshold: float
    false_answers: float
    false_answers_95: tuple[float, float]
    right: float
    right_95: tuple[float, float]
    wrong: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with shares of six digits."""
        values = asdict(self)
        return {
            key: [round(v, 6) for v in value] if isinstance(value, tuple) else round(value, 6)
            for key, value in values.items()
        }


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for several shares of false answers; `problem` says why there are none, or not the wanted one.

    `how` describes the foreign photos, `labels` is the number of labels in the index that the shares hold for: more
    labels give more false answers.
    """

    promises: list[Promise]
    suggested: Promise | None
    problem: str | None = None
    how: str = ""
    photos: int = 0
    classes: int = 0
    known: int = 0
    labels: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the values for the report, which `search --threshold auto` reads."""
        return {
            "suggested": None if self.suggested is None else self.suggested.to_json(),
            "problem": self.problem,
            "how": self.how,
            "photos": self.photos,
            "classes": self.classes,
            "known": self.known,
            "labels": self.labels,
            "promises": [promise.to_json() for promise in self.promises],
        }


def thresholds(
    known: Outcomes, foreign: Outcomes, *, how: str, labels: int, indexed: int, wanted: Sequence[float] = ()
) -> Thresholds:
    """Return thresholds for shares of false answers; the one for the first of `wanted`, or FALSE_ANSWERS, is suggested.

    Args:
        known: The answers to photos of known things.
        foreign: The answers to photos of foreign things.
        how: A description of the foreign photos, for the reader.
        labels: The number of labels in the gallery that gave the answers.
        indexed: The number of labels in the index that the shares are for.
        wanted: Shares of photos of foreign things that may get an answer, between 0 and 1.

    With too little to measure on there are none, and `problem` says so.
    """
    target = wanted[0] if wanted else FALSE_ANSWERS
    measured = Thresholds(
        [], None, None, how, photos=len(foreign), classes=foreign.class_count, known=len(known), labels=indexed
    )
    if foreign.class_count < LEAST_CLASSES:
        return replace(measured, problem=too_little(foreign.class_count))
    # A share of less than one photo cannot be seen.
    visible = [share for share in sorted({target, *wanted, *SHARES}, reverse=True) if share * len(foreign) >= 1]
    promises = []
    for share in visible:
        limit, false_answers = _kept_by_other_classes(foreign, share)
        if limit is not None:
            promises.append(
                _promise(known, share, limit, expected_false_answers(false_answers, labels, indexed), foreign)
            )
    suggested = next((row for row in promises if row.wanted == target), None)
    problem = None
    if target not in visible:
        problem = (
            f"a share of {target:g} shows only in {math.ceil(1 / target):,} photos or more, there are {len(foreign):,}"
        )
    elif suggested is None:
        problem = (
            f"photos of foreign things are so similar that no threshold keeps their share of answers at {target:g}"
        )
    return replace(measured, promises=promises, suggested=suggested, problem=problem)


def too_little(classes: int) -> str:
    """Return the problem of too few foreign classes to suggest a threshold."""
    count = "none" if classes == 0 else f"only {classes}"
    return f"that takes photos of {LEAST_CLASSES} classes that the network was not trained on, and there are {count}"


def lowest_threshold(foreign: Outcomes, share: float) -> float | None:
    """Return the lowest threshold, in steps of 0.001, at which at most `share` of foreign photos get an answer.

    Classes count alike. None if even a threshold of 1 lets more through.
    """
    weights = _class_weights(foreign.classes)
    order = np.argsort(-foreign.scores, kind="stable")
    passing = np.cumsum(weights[order])  # share at a threshold just below or at each score
    beyond = np.flatnonzero(passing > share + 1e-9)
    if not len(beyond):
        return -1.0
    # All scores equal to the first one that exceeds the share must stay below the threshold.
    at = (math.floor(float(foreign.scores[order[beyond[0]]]) * STEPS) + 1) / STEPS
    return max(-1.0, at) if at <= 1 else None


def _kept_by_other_classes(foreign: Outcomes, share: float) -> tuple[float | None, float]:
    """Return the lowest threshold that keeps `share` on held-out classes too, and their share.

    If even the strictest does not, return that one and its share; None if a threshold of 1 would let more through.
    """
    limit, kept = None, 1.0
    for part in STRICTER:
        limit, kept = lowest_threshold(foreign, part * share), _share_of_others(foreign, part * share)
        if limit is None or kept <= share:
            break
    return limit, kept


def _share_of_others(foreign: Outcomes, share: float) -> float:
    """Return the share of foreign photos that get an answer at thresholds chosen on other classes for `share`."""
    _, places = np.unique(foreign.classes, return_inverse=True)
    groups = places.reshape(-1) % GROUPS
    passing = np.zeros(len(foreign), bool)
    for group in np.unique(groups):
        out = groups == group
        limit = lowest_threshold(_part(foreign, ~out), share)
        passing[out] = limit is not None and foreign.scores[out] >= limit
    return float(_class_weights(foreign.classes)[passing].sum())


def _part(outcomes: Outcomes, rows: np.ndarray) -> Outcomes:
    return Outcomes(outcomes.scores[rows], outcomes.right[rows], outcomes.classes[rows])


def _promise(known: Outcomes, wanted: float, threshold: float, false_answers: float, foreign: Outcomes) -> Promise:
    answered = known.scores >= threshold
    right = float((answered & known.right).mean()) if len(known) else float("nan")
    wrong = float((answered & ~known.right).mean()) if len(known) else float("nan")
    return Promise(
        wanted=wanted,
        threshold=threshold,
        false_answers=false_answers,
        false_answers_95=_interval(false_answers, foreign.class_count),
        right=right,
        right_95=wilson_interval(right, len(known)),
        wrong=wrong,
    )


def _interval(share: float, classes: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of false answers; from 0 if as many other classes may well have none."""
    low, high = wilson_interval(share, classes)
    return (0.0 if share * classes < FEW else low), high


def _class_weights(classes: np.ndarray) -> np.ndarray:
    """Return weights float64 [N] that sum to one, the same sum for each class."""
    _, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return 1 / counts[places.reshape(-1)] / max(1, len(counts))


def expected_false_answers(share: float, labels: int, indexed: int) -> float:
    """Return the share of false answers from an index of `indexed` labels, measured against `labels`.

    Each label is another chance to be similar by accident; they are taken as independent.
    """
    if labels <= 0 or indexed <= labels:
        return share
    return float(1 - (1 - min(share, 1.0)) ** (indexed / labels))
