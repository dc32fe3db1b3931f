"""What an image shows, judged by its nearest neighbours in an index or by the centres of its labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shitu_cli.features.detection.boxes import Detection
from shitu_cli.index.store import Match

VOTERS = 5  # nearest neighbours that vote
# A neighbour whose score is lower by this counts e times less. Plain sums of scores would let a class with many images
# outvote the single, much nearer image of another class.
SOFTNESS = 0.1
DIGITS = 6  # of scores in JSON


@dataclass(frozen=True)
class Verdict:
    """The answer for one image.

    `label` is None if the image is unknown: nothing with a label is near enough; `nearest` is the label that wins
    the votes even then (None if no neighbour has a label), and `score` the best cosine of its images. `confidence`
    is its share of the votes (0 to 1), `margin` how much nearer its best neighbour is than the best of any other label
    (its score itself if no other label is among the neighbours), `agreeing` how many of the `voters` have it.
    """

    label: str | None
    confidence: float
    margin: float
    agreeing: int
    voters: int
    score: float = 0.0
    nearest: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether nothing with a label is near enough."""
        return self.label is None

    def to_json(self) -> dict[str, Any]:
        """Return the values for programs, as `search --json` prints them."""
        return {
            "label": self.label,
            "unknown": self.is_unknown,
            "nearest": self.nearest,
            "score": round(self.score, DIGITS),
            "confidence": round(self.confidence, DIGITS),
            "margin": round(self.margin, DIGITS),
            "agreeing": self.agreeing,
            "voters": self.voters,
        }


@dataclass(frozen=True)
class Answer:
    """The verdict on one image and its nearest neighbours, best first.

    With a detector, `objects` are the answers to the things in the image, the best first, each with the `area` that it
    is about; the verdict is that of the first one. Without, there is no area and there are no objects.
    """

    verdict: Verdict
    neighbours: list[Match]
    area: Detection | None = None
    objects: tuple[Answer, ...] = ()

    @property
    def label(self) -> str | None:
        """The label, None if the image is unknown."""
        return self.verdict.label

    @property
    def is_unknown(self) -> bool:
        """Whether nothing with a label is near enough."""
        return self.verdict.is_unknown

    def to_json(self) -> dict[str, Any]:
        """Return verdict and neighbours for programs, as `search --json` prints them; areas if there are any."""
        matches = [
            {"id": m.id, "label": m.label, "score": round(m.score, DIGITS), "path": m.path} for m in self.neighbours
        ]
        values: dict[str, Any] = {"answer": self.verdict.to_json(), "matches": matches}
        if self.area is not None:
            score = self.area.score
            values |= {"box": list(self.area.box), "box_score": None if score is None else round(score, DIGITS)}
        if self.objects:
            values["objects"] = [one.to_json() for one in self.objects]
        return values


def judge(neighbours: Sequence[Match], threshold: float | None = None, voters: int = VOTERS) -> Verdict:
    """Return the verdict of the best `voters` neighbours that have a label, each voting with exp(score / SOFTNESS).

    `neighbours` are ordered, best first. The image is unknown if no neighbour of the winning label reaches `threshold`.
    """
    voting = [match for match in neighbours if match.label][:voters]
    if not voting:
        return Verdict(None, 0.0, 0.0, 0, 0)
    best: dict[str, float] = {}
    votes: defaultdict[str, float] = defaultdict(float)
    for match in voting:
        best.setdefault(match.label, match.score)
        votes[match.label] += math.exp((match.score - voting[0].score) / SOFTNESS)
    label = max(votes, key=lambda name: (votes[name], best[name]))
    rivals = [score for name, score in best.items() if name != label]
    is_unknown = threshold is not None and best[label] < threshold
    return Verdict(
        label=None if is_unknown else label,
        confidence=votes[label] / math.fsum(votes.values()),
        margin=best[label] - max(rivals) if rivals else best[label],
        agreeing=sum(match.label == label for match in voting),
        voters=len(voting),
        score=best[label],
        nearest=label,
    )
