"""Published weights that are exported into the cache at first use."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from shitu_cli.deployment import pretrained
from shitu_cli.weights.catalogue import CATALOGUE

MANIFEST = {
    "format": 1, "feature_size": 4, "normalized_inside": False, "image_shape": [3, 8, 8], "transform_ops": [],
    "feature": "features", "model": {}, "source": {}, "files": {},
}  # fmt: skip


def test_what_is_damaged_in_the_cache_is_exported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes there, so that an error could not say what to do."""
    weights, written = tmp_path / "weights.npz", list[Path]()
    weights.write_bytes(b"weights")

    def write(entry: object, located: object, folder: Path, options: object, reporter: object) -> None:
        written.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(MANIFEST))

    found = (CATALOGUE["efficientnet-lite0"], SimpleNamespace(path=weights, origin="here"))
    monkeypatch.setattr(pretrained, "_find", lambda what, reporter: found)
    monkeypatch.setattr(pretrained, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(pretrained, "_write", write)
    folder = pretrained.export_pretrained("efficientnet-lite0")
    assert pretrained.export_pretrained("efficientnet-lite0") == folder and written == [folder]
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, "feature_size": 0}))
    assert pretrained.export_pretrained("efficientnet-lite0") == folder and written == [folder, folder]
