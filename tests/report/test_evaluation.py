"""What reports suggest to a search: the newest one of its features, and a stricter threshold for a larger index."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.errors import Command
from shitu_cli.report.evaluation import effects_of, newest_thresholds, right_first, suggestion_for, ways_to_threshold


def promise(wanted: float, threshold: float, right: float) -> dict[str, object]:
    return {
        "wanted": wanted,
        "threshold": threshold,
        "false_answers": wanted,
        "false_answers_95": [0.0, 4 * wanted],
        "right": right,
        "right_95": [right - 0.1, right + 0.05],
        "wrong": 0.0,
    }


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    promises = [promise(0.1, 0.5, 0.9), promise(0.05, 0.6, 0.8), promise(0.02, 0.7, 0.7), promise(0.01, 0.8, 0.6)]
    unknown = {"suggested": promises[1], "labels": 12, "promises": promises, "problem": None}
    values = {"metrics": {}, "measured": {"features": "f"}, "unknown": unknown}
    (tmp_path / "evaluate.json").write_text(json.dumps(values))
    return tmp_path


def suggested(reports: Path, labels: int = 0) -> dict[str, Any]:
    """The suggestion of the newest evaluation of the features `f`, for an index of so many labels."""
    unknown = newest_thresholds(reports, "f")
    assert unknown is not None
    return suggestion_for(unknown, labels)


def test_an_index_as_large_as_what_was_measured_against(reports: Path) -> None:
    for labels in (0, 1, 12):
        suggestion = suggested(reports, labels)
        assert (suggestion["threshold"], suggestion["false_answers"]) == (0.6, 0.05)
    assert newest_thresholds(reports, "other features") is None


@pytest.mark.parametrize(
    ("labels", "threshold"), [(13, 0.613), (24, 0.683), (30, 0.699), (36, 0.731), (60, 0.798), (62, 0.8), (1200, 0.8)]
)
def test_a_larger_index_gets_a_stricter_threshold(reports: Path, labels: int, threshold: float) -> None:
    suggestion = suggested(reports, labels)
    assert suggestion["threshold"] == threshold
    expected = 0.05 if threshold < 0.8 else 1 - (1 - 0.01) ** (labels / 12)  # the strictest that was measured
    assert suggestion["false_answers"] == pytest.approx(expected)
    assert 0.6 <= suggestion["right"] <= 0.8 and suggestion["right_95"][0] == pytest.approx(suggestion["right"] - 0.1)


def test_one_label_more_changes_a_threshold_a_little(reports: Path) -> None:
    """Not by a whole step of what was measured, which would cost a tenth of the right answers."""
    steps = [suggested(reports, labels) for labels in range(12, 70)]
    for before, after in itertools.pairwise(steps):
        assert 0 <= after["threshold"] - before["threshold"] < 0.02 and 0 <= before["right"] - after["right"] < 0.02


def test_the_newest_evaluation_decides(reports: Path) -> None:
    values = json.loads((reports / "evaluate.json").read_text())
    values["unknown"]["suggested"] = values["unknown"]["promises"][0]
    newer = reports / "evaluate-with-options.json"
    newer.write_text(json.dumps(values))
    os.utime(newer, (2e9, 2e9))
    assert suggested(reports)["threshold"] == 0.5
    values["unknown"] = None  # one by another ranking suggests nothing
    newer.write_text(json.dumps(values))
    assert suggested(reports)["threshold"] == 0.6


def test_in_words() -> None:
    assert effects_of(promise(0.05, 0.6, 0.8)) == [
        "of 100 photos of things that are not in the index, about 5 get an answer (95 % interval: 0 to 20)",
        "of 100 photos of known things, 80 are answered rightly (70 to 85)",
    ]
    assert "not in the index, fewer than 1 gets an answer" in effects_of(promise(0.001, 0.6, 0.8))[0]
    values = {"queries": 40, "unanswerable": 4, "right_first": 35}
    assert right_first(values) == "35 of 36 photos found an image of their class first"


def test_only_ways_to_a_threshold_that_work_are_proposed() -> None:
    """Trainings without some of the classes need eight of them, and do not go with photos of other things."""
    ways = [str(way) for way in ways_to_threshold({"labels": 8})]
    assert "shitu evaluate --unknown ./not-ours" in ways and "shitu evaluate --cross-fit 4" in ways
    assert [way.without for way in ways_to_threshold({"labels": 8}) if isinstance(way, Command)] == [
        ("--cross-fit",),
        ("--unknown",),
    ]
    assert not any("--cross-fit" in str(way) for way in ways_to_threshold({"labels": 7}))
