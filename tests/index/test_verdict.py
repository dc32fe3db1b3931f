"""The verdict over neighbours, against the rule written out; what a shop would expect of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shitu_cli.index.store import Match
from shitu_cli.index.verdict import SOFTNESS, Verdict, judge


def neighbours(*pairs: tuple[str, float]) -> list[Match]:
    return [Match(n, label, f"{n}.jpg", score) for n, (label, score) in enumerate(pairs)]


def naive(matches: list[Match], threshold: float | None, voters: int) -> Verdict:
    voting = [match for match in matches if match.label != ""][:voters]
    names = sorted({match.label for match in voting})
    total = {name: sum(math.exp(m.score / SOFTNESS) for m in voting if m.label == name) for name in names}
    top = {name: max(m.score for m in voting if m.label == name) for name in names}
    winner = max(names, key=lambda name: total[name])
    others = [top[name] for name in names if name != winner]
    known = threshold is None or top[winner] >= threshold
    return Verdict(
        winner if known else None,
        total[winner] / sum(total.values()),
        top[winner] - max(others) if others else top[winner],
        len([m for m in voting if m.label == winner]),
        len(voting),
        top[winner],
        winner,
    )


@pytest.mark.parametrize("seed", range(200))
def test_against_the_rule_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.uniform(-1, 1, rng.integers(1, 12)))[::-1]
    labels = rng.choice(["a", "b", "c", ""], len(scores))
    labels[-1] = "a"
    matches = neighbours(*zip(labels.tolist(), scores.tolist(), strict=True))
    if not any(match.label for match in matches[: len(matches)]):
        return
    threshold, voters = (None, 0.2, 0.9)[seed % 3], int(rng.integers(1, 8))
    verdict, expected = judge(matches, threshold, voters), naive(matches, threshold, voters)
    assert (verdict.label, verdict.agreeing, verdict.voters) == (expected.label, expected.agreeing, expected.voters)
    assert (verdict.nearest, verdict.score, verdict.is_unknown) == (
        expected.nearest,
        expected.score,
        not expected.label,
    )
    assert verdict.confidence == pytest.approx(expected.confidence)
    assert verdict.margin == pytest.approx(expected.margin)


def test_one_near_image_is_not_outvoted_by_many_far_ones() -> None:
    verdict = judge(neighbours(("one image", 0.95), *[("many images", 0.6)] * 4))
    assert verdict.label == "one image" and verdict.agreeing == 1 and verdict.voters == 5
    assert verdict.margin == pytest.approx(0.35)


def test_what_is_nearly_equal_is_decided_by_the_many() -> None:
    verdict = judge(neighbours(("slip", 0.91), *[("right", 0.90)] * 4))
    assert verdict.label == "right" and verdict.agreeing == 4 and verdict.margin == pytest.approx(-0.01)


def test_unknown() -> None:
    far = neighbours(("a", 0.4), ("a", 0.39))
    assert judge(far, threshold=0.5).label is None and judge(far).label == "a" and judge(far, 0.4).label == "a"
    for nothing in ([], neighbours(("", 0.99))):
        assert judge(nothing) == Verdict(None, 0.0, 0.0, 0, 0)
    assert judge(neighbours(("", 0.99), ("a", 0.8))).label == "a"
