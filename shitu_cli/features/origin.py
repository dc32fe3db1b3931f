"""Which model made a file of features: a note beside it, so that an index of them refuses pictures of another model."""

from __future__ import annotations

import json
from pathlib import Path

from shitu_cli.files import atomic_write_json, sha256_of


def note_origin(features: Path, model: str) -> None:
    """Write `<features>.model.json`: the fingerprint of the model, and the hash of the file that it is true of."""
    atomic_write_json(_note(features), {"model": model, "sha256": sha256_of(features)})


def origin_of(features: Path) -> str | None:
    """The fingerprint of the model that made `features`; None where no note says, or it is of other bytes."""
    try:
        note = json.loads(_note(features).read_text(encoding="utf-8"))
        model, digest = str(note["model"]), note["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return model if digest == sha256_of(features) else None


def _note(features: Path) -> Path:
    return features.with_name(f"{features.name}.model.json")
