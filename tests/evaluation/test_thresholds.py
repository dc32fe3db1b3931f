"""What a threshold does to photos: against counting one by one, and against things that really are foreign."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shitu_cli.evaluation.intervals import wilson_interval
from shitu_cli.evaluation.thresholds import LEAST_CLASSES, expected_false_answers, lowest_threshold, thresholds
from shitu_cli.evaluation.unknown import Outcomes, ask, ask_left_out, take
from tests.evaluation.photos import photos


def outcomes(*scores_of_classes: list[float]) -> Outcomes:
    scores = np.concatenate([np.asarray(scores, float) for scores in scores_of_classes])
    classes = np.concatenate([[number] * len(scores) for number, scores in enumerate(scores_of_classes)])
    return Outcomes(scores, np.ones(len(scores), bool), classes)


@pytest.mark.parametrize("seed", range(40))
def test_the_lowest_threshold_by_counting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    foreign = outcomes(*(rng.uniform(-1, 0.99, rng.integers(1, 9)).round(2).tolist() for _ in range(9)))
    share = float(rng.choice([0.0, 0.05, 0.2, 0.5]))

    def passing(threshold: float) -> float:
        rates = [(foreign.scores[foreign.classes == c] >= threshold).mean() for c in np.unique(foreign.classes)]
        return float(np.mean(rates))

    limit = lowest_threshold(foreign, share)
    assert limit is not None and passing(limit) <= share + 1e-9 and limit <= 1
    assert passing(limit - 0.001) > share


def test_a_threshold_is_never_above_one() -> None:
    copies = outcomes(*[[1.0, 1.0]] * 10)
    assert lowest_threshold(copies, 0.05) is None and lowest_threshold(copies, 1.0) == -1.0
    found = thresholds(copies, copies, how="copies", labels=9, indexed=10)
    assert found.suggested is None and not any(row.threshold > 1 for row in found.promises)
    assert found.problem is not None and "so similar to the gallery that no threshold" in found.problem


def test_with_too_little_to_measure_on_nothing_is_suggested() -> None:
    known = outcomes([0.9], [0.8])
    for classes, words in ((0, "none"), (1, "only 1"), (LEAST_CLASSES - 1, "only 7")):
        few = outcomes(*[[0.1] * 30] * classes) if classes else Outcomes(*(np.zeros(0) for _ in range(3)))
        found = thresholds(known, few, how="", labels=2, indexed=2)
        assert found.suggested is None and found.promises == [] and found.problem is not None
        assert (
            found.problem
            == f"measuring one takes photos of 8 classes that the network was not trained on, but there are {words}"
        )
    enough = thresholds(known, outcomes(*[[0.1] * 3] * LEAST_CLASSES), how="", labels=2, indexed=2)
    assert enough.suggested is not None and enough.suggested.threshold == pytest.approx(0.101)
    strict = thresholds(known, outcomes(*[[0.1] * 3] * LEAST_CLASSES), how="", labels=2, indexed=2, wanted=[0.001])
    assert strict.suggested is None and "a share of 0.001 takes 1,000 photos to measure" in str(strict.problem)


def test_what_is_promised_of_known_things() -> None:
    known = Outcomes(np.array([0.9, 0.8, 0.7, 0.3]), np.array([True, True, False, True]), np.arange(4))
    foreign = outcomes(*[[0.5, 0.1, 0.1]] * 10)
    found = thresholds(known, foreign, how="here", labels=10, indexed=10)
    assert found.suggested is not None and found.suggested.threshold == pytest.approx(0.501)
    assert (found.suggested.right, found.suggested.wrong) == (0.5, 0.25)
    assert found.to_json()["how"] == "here" and found.to_json()["suggested"]["threshold"] == 0.501


def test_the_share_is_counted_on_classes_without_a_say_in_the_threshold() -> None:
    """Nine classes never come near, the tenth does: whichever threshold the nine choose, it passes."""
    foreign = outcomes(*[[0.1] * 10] * 9, [0.6] * 10)
    found = thresholds(outcomes([0.9]), foreign, how="", labels=10, indexed=10)
    assert found.suggested is not None and found.suggested.threshold == pytest.approx(0.601)
    assert found.suggested.false_answers == pytest.approx(0.1)


def test_promises_hold_for_other_classes() -> None:
    """Foreign classes drawn from where the gallery's are: the share that passes lies in its interval, mostly."""
    inside, shares = 0, []
    for seed in range(30):
        everything = photos(60, 6, seed=seed, size=12, spread=0.35)
        ours = everything.labels < 20
        gallery = take(everything, np.flatnonzero(ours))
        foreign = take(everything, np.flatnonzero(~ours))
        left_out = ask_left_out(gallery, gallery, range(20))
        found = thresholds(ask(gallery, gallery), left_out, how="", labels=19, indexed=20).suggested
        assert found is not None
        share = float((ask(foreign, gallery).scores >= found.threshold).mean())
        inside += found.false_answers_95[0] <= share <= found.false_answers_95[1]
        shares.append(share)
    assert inside >= 29 and np.mean(shares) < 0.08


@pytest.mark.parametrize(("share", "draws"), [(0.0, 12), (0.05, 12), (0.5, 100), (1.0, 8)])
def test_wilson_interval(share: float, draws: int) -> None:
    low, high = wilson_interval(share, draws)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):  # each end is where the share is 1.96 standard errors away
        if 0 < end < 1:
            assert abs(end - share) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / draws))
    assert wilson_interval(0.3, 0) == (0.0, 1.0)


def test_a_larger_index_gives_more_false_answers() -> None:
    assert expected_false_answers(0.05, 10, 10) == expected_false_answers(0.05, 10, 5) == 0.05
    assert expected_false_answers(0.05, 10, 20) == pytest.approx(1 - 0.95**2)
    assert expected_false_answers(1.0, 10, 40) == 1 and expected_false_answers(0.0, 10, 40) == 0
