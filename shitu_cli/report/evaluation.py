"""The reports of a workspace: `reports/evaluate.json`, and the last evaluation with other options beside it.

The first is what `shitu evaluate` measures without options: the best checkpoint, ranked by the cosines that search
uses. Options lead to figures that cannot be compared with it, so they never replace it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shitu_cli.errors import Command
from shitu_cli.inputs import read_note
from shitu_cli.reporting import counted

PLAIN, WITH_OPTIONS = "evaluate", "evaluate-with-options"  # names of files in reports/, without suffix
CLASSIFIER = "classifier"  # where the config measures how often the head is right
WORTH_DEPLOYING = 0.5  # of recall@1: below, an answer is wrong more often than right
UNDECIDED_SHARE = 0.1  # of the queries, as in evaluation/metrics.py
LEAST_CLASSES = 8  # of foreign things, as in evaluation/thresholds.py


def report_file(reports: Path, options: list[str]) -> Path:
    """Return where the JSON of an evaluation with these options goes."""
    return reports / f"{WITH_OPTIONS if options else PLAIN}.json"


def read_report(file: Path) -> dict[str, Any] | None:
    """Return the values of an evaluation; None if the file is missing or damaged."""
    values = read_note(file)
    return values if isinstance(values.get("metrics"), dict) else None


def options_of(values: dict[str, Any]) -> list[str]:
    """Return the options of an evaluation as on the command line; none for the plain one."""
    return [str(word) for word in values.get("measured", {}).get("options", [])]


def features_of(values: dict[str, Any]) -> str:
    """Return the fingerprint of the features that were ranked, "" if unknown."""
    return str(values.get("measured", {}).get("features", ""))


def model_of(values: dict[str, Any]) -> str:
    """Return what was evaluated: a path with its network."""
    return str(values.get("measured", {}).get("model", "of an older report"))


def right_first(values: dict[str, Any]) -> str:
    """Return the main figure in words: 35 of 36 photos found an image of their class first."""
    answerable = values["queries"] - values["unanswerable"]
    return f"{values['right_first']:,} of {counted(answerable, 'photo')} found an image of their class first"


def is_worth_deploying(values: dict[str, Any]) -> bool:
    """Return whether at least half of the queries find their class first; False if rounding decides about it."""
    return bool(values.get("metrics", {}).get("recall@1", 0.0) >= WORTH_DEPLOYING and not is_undecided(values))


def is_undecided(values: dict[str, Any]) -> bool:
    """Return whether rounding decides so many queries that the figures mean nothing."""
    answerable = values.get("queries", 0) - values.get("unanswerable", 0)
    return bool(values.get("decided_by_rounding", 0) > UNDECIDED_SHARE * answerable)


def newest_thresholds(reports: Path, features: str) -> dict[str, Any] | None:
    """Return the thresholds in the newest evaluation of these features that suggests one; None if none does."""
    measured = []
    for name in (PLAIN, WITH_OPTIONS):
        file = reports / f"{name}.json"
        values = read_report(file)
        unknown = None if values is None or features_of(values) != features else values.get("unknown")
        if unknown and unknown.get("suggested"):
            measured.append((file.stat().st_mtime, unknown))
    return max(measured, key=lambda item: item[0])[1] if measured else None


def suggestion_for(unknown: dict[str, Any], labels: int) -> dict[str, Any]:
    """Return the suggestion for an index of this many labels: the values of `Promise` (evaluation/thresholds.py).

    An index of more labels than were measured against gives more false answers: for it the threshold is a stricter one
    if there is one, and the values are those expected. Between two measured thresholds, values change evenly: shares of
    false answers fall faster at first, so what is expected there is rather too many.
    """
    suggested: dict[str, Any] = unknown["suggested"]
    if labels <= unknown["labels"]:
        return suggested
    from shitu_cli.evaluation.thresholds import expected_false_answers

    def expected(share: float) -> float:
        return expected_false_answers(share, unknown["labels"], labels)

    stricter = [row for row in unknown["promises"] if row["threshold"] >= suggested["threshold"]]
    rows = [
        {
            **row,
            "false_answers": expected(row["false_answers"]),
            "false_answers_95": [expected(share) for share in row["false_answers_95"]],
        }
        for row in sorted(stricter, key=lambda row: row["threshold"])
    ]
    allowed = max(suggested["wanted"], suggested["false_answers"])
    at = next((number for number, row in enumerate(rows) if row["false_answers"] <= allowed), -1)
    return _between(rows[at - 1], rows[at], allowed) if at > 0 else rows[at]


def _between(looser: dict[str, Any], stricter: dict[str, Any], allowed: float) -> dict[str, Any]:
    """Return the values of the threshold between two at which just the allowed share of false answers is expected."""
    part = (looser["false_answers"] - allowed) / (looser["false_answers"] - stricter["false_answers"])

    def mixed(low: float, high: float) -> float:
        return low + part * (high - low)

    intervals = ("false_answers_95", "right_95")
    return {
        "wanted": stricter["wanted"],
        "threshold": math.ceil(mixed(looser["threshold"], stricter["threshold"]) * 1000 - 1e-6) / 1000,
        **{key: mixed(looser[key], stricter[key]) for key in ("false_answers", "right", "wrong")},
        **{key: list(map(mixed, looser[key], stricter[key])) for key in intervals},
    }


def effects_of(promise: dict[str, Any]) -> list[str]:
    """Return what a threshold does to 100 photos of unknown and 100 of known things, a sentence each."""
    false_answers, right = promise["false_answers"], promise["right"]
    about = "fewer than 1 gets" if false_answers < 0.005 else f"about {100 * false_answers:.0f} get"
    return [
        f"of 100 photos of things that are not in the index, {about} an answer "
        f"(95 % interval: {_of_100(promise['false_answers_95'])})",
        f"of 100 photos of known things, {100 * right:.0f} are answered rightly ({_of_100(promise['right_95'])})",
    ]


def _of_100(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f}"


def ways_to_threshold(unknown: Mapping[str, Any]) -> list[str | Command]:
    """Return what to do where an evaluation, whose values these are, suggests no threshold."""
    photos = Command("evaluate", "--unknown", "./not-ours", without=("--cross-fit",))
    ways: list[str | Command] = ["to measure one, use photos of things that you do not index: ", photos]
    if unknown.get("labels", LEAST_CLASSES) >= LEAST_CLASSES:  # trainings without some classes need as many
        trainings = Command("evaluate", "--cross-fit", "4", without=("--unknown",))
        ways += ["; or train without some of the classes: ", trainings]
    return ways
