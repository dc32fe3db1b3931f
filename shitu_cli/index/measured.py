"""The measured thresholds of a model, stored in its index, so that a copy of the index answers as the original does.

The block holds only what a search needs: the suggested threshold, those for other shares of false answers, and with how
many labels they were measured. The number of images at that time shows whether the index has changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shitu_cli.index.store import IndexManifest
from shitu_cli.inputs import is_real, is_whole

MOST_PROMISES = 100
_NUMBERS = ("wanted", "threshold", "false_answers", "right", "wrong")
_INTERVALS = ("false_answers_95", "right_95")


def block_of(unknown: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what an index keeps of an evaluation's `unknown`; None if that suggests nothing."""
    if not unknown or not unknown.get("suggested"):
        return None
    block = {key: unknown[key] for key in ("suggested", "promises", "labels")}
    return block if is_block({**block, "count": 1, "next_id": None}) else None


def noted(manifest: IndexManifest, block: Mapping[str, Any] | None) -> IndexManifest:
    """Return the manifest with a block that was measured for the index as it is now."""
    measured = None if block is None else {**block, "count": manifest.count, "next_id": manifest.next_id}
    return replace(manifest, measured=measured)


def change_since(manifest: IndexManifest) -> str | None:
    """Return in words how the index has changed since its block was noted; None if it has not."""
    block = manifest.measured
    if block is None or (block["count"], block["next_id"]) == (manifest.count, manifest.next_id):
        return None
    return (
        f"measured when the index held {block['count']:,} images, before it was changed (now {manifest.count:,}): "
        "evaluate again to measure it with the new images"
    )


def is_block(value: Any) -> bool:
    """Return whether a value of a manifest, whoever wrote it, is a block as `noted` writes it, or none."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"suggested", "promises", "labels", "count", "next_id"}:
        return False
    promises = value["promises"]
    return (
        isinstance(promises, list)
        and len(promises) <= MOST_PROMISES
        and all(map(_is_promise, (value["suggested"], *promises)))
        and any(row["threshold"] >= value["suggested"]["threshold"] for row in promises)
        and _is_count(value["labels"])
        and _is_count(value["count"])
        and (value["next_id"] is None or _is_count(value["next_id"]))
    )


def _is_promise(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {*_NUMBERS, *_INTERVALS}
        and all(_is_number(value[key]) for key in _NUMBERS)
        and all(
            isinstance(value[key], list) and len(value[key]) == 2 and all(map(_is_number, value[key]))
            for key in _INTERVALS
        )
    )


def _is_number(value: Any) -> bool:
    return is_real(value, -1, 1)


def _is_count(value: Any) -> bool:
    return is_whole(value, 0, (1 << 62) - 1)
