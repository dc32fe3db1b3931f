"""Choose the threshold below which search says "unknown", and say what it costs: false answers against right ones.

Both are shares of photos, from the answers of evaluation/unknown.py. Photos of one class are alike: ten of them are
hardly more evidence than one. So all classes of foreign things count the same whatever their number of photos, and the
interval (Wilson 1927) is that of as many independent draws as there are classes. A threshold fits the classes that it
was chosen on better than any others: so the share is counted on held-out classes, each group of classes at the
threshold that the other groups choose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from shitu_cli.evaluation.intervals import wilson_interval
from shitu_cli.evaluation.unknown import Outcomes

FALSE_ANSWERS = 0.05  # the share of photos of foreign things unless the user asks for another
SHARES = (0.2, 0.1, 0.05, 0.02, 0.01)  # that are always reported
LEAST_CLASSES = 8  # of foreign things; the interval of fewer says next to nothing
GROUPS = 20  # of classes: each is held out in turn when a threshold is chosen
STRICTER = (1.0, 0.75, 0.5, 0.25, 0.0)  # parts of the wanted share to choose by, until held-out classes keep it too
FEW = 3  # expected classes with a false answer: with fewer, seeing none at all is likelier than 5 % (Poisson)
STEPS = 1000  # thresholds in a unit of similarity


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
            f"a share of {target:g} takes {math.ceil(1 / target):,} photos to measure, but there are {len(foreign):,}"
        )
    elif suggested is None:
        problem = (
            "photos of unknown things are so similar to the gallery that no threshold keeps the share of them that "
            f"get an answer at {target:g}"
        )
    return replace(measured, promises=promises, suggested=suggested, problem=problem)


def too_little(classes: int) -> str:
    """Return the problem of too few foreign classes to suggest a threshold."""
    count = "none" if classes == 0 else f"only {classes}"
    return (
        f"measuring one takes photos of {LEAST_CLASSES} classes that the network was not trained on, but there are "
        f"{count}"
    )


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
        limit = lowest_threshold(foreign.take(~out), share)
        passing[out] = limit is not None and foreign.scores[out] >= limit
    return float(_class_weights(foreign.classes)[passing].sum())


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
