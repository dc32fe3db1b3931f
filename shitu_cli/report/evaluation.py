"""The reports of a workspace: `reports/evaluate.json`, and the last evaluation with other options beside it.

The first is what `shitu evaluate` measures without options: the best checkpoint, ranked by the cosines that search
uses. Options lead to figures that cannot be compared with it, so they never replace it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shitu_cli.errors import ShituError
from shitu_cli.inputs import read_json

PLAIN, WITH_OPTIONS = "evaluate", "evaluate-with-options"  # names of files in reports/, without suffix


def report_file(reports: Path, options: list[str]) -> Path:
    """Return where the JSON of an evaluation with these options goes."""
    return reports / f"{WITH_OPTIONS if options else PLAIN}.json"


def read_report(file: Path) -> dict[str, Any] | None:
    """Return the values of an evaluation; None if the file is missing or damaged."""
    try:
        values = read_json(file, allow_nan=True)
    except ShituError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("metrics"), dict) else None


def options_of(values: dict[str, Any]) -> list[str]:
    """Return the options of an evaluation as on the command line; none for the plain one."""
    return [str(word) for word in values.get("measured", {}).get("options", [])]


def features_of(values: dict[str, Any]) -> str:
    """Return the fingerprint of the features that were ranked, "" if unknown."""
    return str(values.get("measured", {}).get("features", ""))


def suggested_threshold(reports: Path, features: str) -> dict[str, float] | None:
    """Return the suggestion of the newest evaluation of these features: `far`, `tar` and `threshold` (a cosine).

    None if there is no such evaluation, or it suggests nothing.
    """
    suggestions = []
    for name in (PLAIN, WITH_OPTIONS):
        file = reports / f"{name}.json"
        values = read_report(file)
        if values is not None and features_of(values) == features and values.get("suggested"):
            suggestions.append((file.stat().st_mtime, values["suggested"]))
    return max(suggestions, key=lambda item: item[0])[1] if suggestions else None
