"""The threshold that evaluation has measured for a model, from the workspace or from the index itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from shitu_cli.index import is_index
from shitu_cli.index.store import IndexManifest


class Threshold(NamedTuple):
    """The lowest score (cosine) at which a neighbour counts, None for any; `source` is measured, given or none.

    `meaning` says in sentences what a measured one does to 100 photos of foreign and of known things, and whether the
    index has changed since.
    """

    value: float | None = None
    source: str = "none"
    meaning: tuple[str, ...] = ()


def measured_threshold(
    reports: Path, features: str, manifest: IndexManifest | None, labels: int | None
) -> Threshold | None:
    """Return the threshold for an index of this many labels, None if no evaluation of these features suggests one.

    The newest evaluation of this model in the workspace decides; without one, what the index has recorded.
    """
    from shitu_cli.index.measured import change_since
    from shitu_cli.report.evaluation import effects_of, newest_thresholds, suggestion_for

    recorded = manifest.measured if manifest is not None and manifest.model == features else None
    unknown = newest_thresholds(reports, features) or recorded
    if unknown is None:
        return None
    suggestion = suggestion_for(unknown, labels or 0)
    remarks = [change_since(manifest)] if manifest is not None and recorded is not None else []
    if manifest is not None and labels is None:
        remarks.append(
            f"measured with {unknown['labels']:,} labels: if the index holds more, which the server does not count, "
            "more photos of things that are not in it get an answer"
        )
    return Threshold(float(suggestion["threshold"]), "measured", (*effects_of(suggestion), *filter(None, remarks)))


def block_for_index(reports: Path, features: str) -> dict[str, Any] | None:
    """Return what a new index records of the workspace's evaluations of these features."""
    from shitu_cli.index.measured import block_of
    from shitu_cli.report.evaluation import newest_thresholds

    return block_of(newest_thresholds(reports, features)) if features else None


def note_in_index(folder: Path, features: str, unknown: dict[str, Any] | None) -> bool:
    """Record what an evaluation has measured in the index in `folder`; return False if there is none of these features.

    Raises EnvironmentProblem if another process keeps changing it or the disk refuses, DataError if it is damaged.
    """
    from shitu_cli.index.files import FileStore
    from shitu_cli.index.measured import block_of

    return is_index(folder) and FileStore(folder).note_measured(features, block_of(unknown))
