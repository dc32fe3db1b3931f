"""What an image shows, judged by its nearest neighbours in an index."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from shitu_cli.index.store import Match

VOTERS = 5  # nearest neighbours that vote
# A neighbour whose score is lower by this counts e times less. Plain sums of scores would let a class with many images
# outvote the single, much nearer image of another class.
SOFTNESS = 0.1


@dataclass(frozen=True)
class Verdict:
    """The answer for one image.

    `label` is None where the image is unknown: nothing with a label is near enough. `confidence` is the label's share
    of the votes (0 to 1), `margin` how much nearer its best neighbour is than the best of any other label (its score
    itself where no other label is among the neighbours), `agreeing` how many of the `voters` have the label.
    """

    label: str | None
    confidence: float
    margin: float
    agreeing: int
    voters: int


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
    )
