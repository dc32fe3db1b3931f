"""One answer from the areas of an image: what shows the same thing counts once, the best of it first."""

from __future__ import annotations

from shitu_cli.features.detection.boxes import Detection
from shitu_cli.index.objects import combined
from shitu_cli.index.store import Match
from shitu_cli.index.verdict import Answer, judge

WHOLE = Detection((0, 0, 100, 100), None)
LEFT, RIGHT = Detection((0, 0, 40, 90), 0.9), Detection((60, 0, 100, 90), 0.8)
LEFT_TOO = Detection((2, 2, 42, 92), 0.7)


def answer(label: str, score: float, threshold: float | None = 0.5) -> Answer:
    matches = [Match(1, label, "", score)]
    return Answer(judge(matches, threshold), matches)


def labels(result: Answer) -> list[tuple[str | None, Detection | None]]:
    return [(one.label, one.area) for one in result.objects]


def test_without_a_detector_there_is_one_answer() -> None:
    only = answer("a", 0.9)
    assert combined([only], [None]) is only and only.objects == ()


def test_things_that_lie_apart_all_count_and_the_whole_image_gives_way() -> None:
    result = combined([answer("a", 0.7), answer("b", 0.9), answer("b", 0.6)], [LEFT, RIGHT, WHOLE])
    assert labels(result) == [("b", RIGHT), ("a", LEFT)]
    assert result.label == "b" and result.area == RIGHT and all(not one.objects for one in result.objects)


def test_of_areas_that_overlap_the_best_recognised_stays() -> None:
    result = combined([answer("a", 0.7), answer("b", 0.8), answer("c", 0.6)], [LEFT, LEFT_TOO, WHOLE])
    assert labels(result) == [("b", LEFT_TOO)]
    result = combined([answer("a", 0.7), answer("b", 0.8), answer("c", 0.95)], [LEFT, RIGHT, WHOLE])
    assert labels(result) == [("c", WHOLE)]


def test_an_unknown_thing_is_said_beside_a_known_one() -> None:
    result = combined([answer("a", 0.3), answer("b", 0.8), answer("c", 0.4)], [LEFT, RIGHT, WHOLE])
    assert labels(result) == [("b", RIGHT), (None, LEFT)]


def test_the_whole_image_is_unknown_only_where_nothing_is_left() -> None:
    result = combined([answer("a", 0.3), answer("b", 0.4)], [LEFT, WHOLE])
    assert labels(result) == [(None, LEFT)]
    assert labels(combined([answer("b", 0.4)], [WHOLE])) == [(None, WHOLE)]


def test_without_a_threshold_scores_alone_decide() -> None:
    result = combined([answer("a", 0.1, None), answer("b", 0.4, None)], [LEFT, WHOLE])
    assert labels(result) == [("b", WHOLE)]
