"""The evaluations that a workspace keeps: `reports/evaluate.json`, and the last one with options beside it.

The first is what `shitu evaluate` measures as the config stands: the best checkpoint, ranked by the cosines that search
gives. What other options give is another figure, and does not take its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shitu_cli.errors import ShituError
from shitu_cli.inputs import read_json

PLAIN, WITH_OPTIONS = "evaluate", "evaluate-with-options"  # names of files in reports/, without suffix


def report_file(reports: Path, options: list[str]) -> Path:
    """Where the JSON of an evaluation with these options belongs."""
    return reports / f"{WITH_OPTIONS if options else PLAIN}.json"


def read_report(file: Path) -> dict[str, Any] | None:
    """An evaluation's values; None where there is none that can be read."""
    try:
        values = read_json(file, allow_nan=True)
    except ShituError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("metrics"), dict) else None


def options_of(values: dict[str, Any]) -> list[str]:
    """What an evaluation was asked for beyond the plain one, in the words of the command line."""
    return [str(word) for word in values.get("measured", {}).get("options", [])]


def features_of(values: dict[str, Any]) -> str:
    """The fingerprint of the features that were ranked, "" where it is not told."""
    return str(values.get("measured", {}).get("features", ""))


def suggested_threshold(reports: Path, features: str) -> dict[str, float] | None:
    """Of the evaluations of these features, the newest one's suggestion: `far`, `tar` and `threshold` (a cosine)."""
    found = []
    for name in (PLAIN, WITH_OPTIONS):
        file = reports / f"{name}.json"
        values = read_report(file)
        if values is not None and features_of(values) == features and values.get("suggested"):
            found.append((file.stat().st_mtime, values["suggested"]))
    return max(found, key=lambda item: item[0])[1] if found else None
