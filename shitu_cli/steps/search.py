"""Answer images from an index, with a threshold: the user's own, or what evaluation measured for these features."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from shitu_cli.errors import Command, UsageError
from shitu_cli.features.extractor import Extractor
from shitu_cli.index.store import Store
from shitu_cli.index.verdict import VOTERS, Answer, judge
from shitu_cli.steps.measured_threshold import Threshold, measured_threshold

AUTO = "auto"


def near_answers(store: Store, features: np.ndarray, top: int, threshold: float | None) -> list[Answer]:
    """Return the answers to features float32 [N, D], each with its `top` matches that reach the threshold."""
    neighbours = store.search(features, max(top, VOTERS))
    near = [
        [match for match in nearest[:top] if threshold is None or match.score >= threshold] for nearest in neighbours
    ]
    return [Answer(judge(nearest, threshold), matches) for nearest, matches in zip(neighbours, near, strict=True)]


def threshold_of(text: str | None, *, reports: Path, extractor: Extractor, store: Store) -> Threshold:
    """Return the threshold that `text` names: a number, `auto`, or None for no threshold.

    Raises UsageError for anything else, and for `auto` if no evaluation of this model suggests one.
    """
    if text is None:
        return Threshold()
    kind = store.manifest().kind
    if text != AUTO:
        return own_threshold(text, kind)
    if kind == "binary":
        raise UsageError(
            "--threshold auto: evaluation suggests cosines, a binary index answers with shares of equal bits",
            hint="give a number, such as --threshold 0.8",
        )
    measured = measured_threshold(reports, extractor.fingerprint, store.manifest(), store.label_count())
    if measured is None:
        raise _nothing_suggested(reports, extractor)
    return measured


def own_threshold(text: str, kind: str, words: str = "auto") -> Threshold:
    """Return the threshold that the user names for an index of this kind; UsageError if it is not a score.

    `words` are those that the option takes instead of a number.
    """
    lowest = 0.0 if kind == "binary" else -1.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= 1:
        raise UsageError(f"--threshold {text}: expected a number from {lowest:g} to 1, or {words}")
    return Threshold(value, "given")


def _nothing_suggested(reports: Path, extractor: Extractor) -> UsageError:
    """Return the error that says what is missing: an evaluation of this model, or one that could suggest something."""
    from shitu_cli.report.evaluation import PLAIN, WITH_OPTIONS, features_of, read_report, ways_to_threshold

    values = [read_report(reports / f"{name}.json") for name in (PLAIN, WITH_OPTIONS)]
    unknown = [
        part["unknown"]
        for part in values
        if part is not None and features_of(part) == extractor.fingerprint and part.get("unknown")
    ]
    if unknown:
        return UsageError(
            f"--threshold auto: the evaluation suggests none: {unknown[0].get('problem')}",
            hint=ways_to_threshold(unknown[0]),
        )
    has_other = values[0] is not None  # of another model, so the command names this one
    return UsageError(
        "--threshold auto needs a plain evaluation of this model (without re-ranking and the like)",
        hint=Command("evaluate", *(["--model", extractor.path] if has_other else [])),
    )
