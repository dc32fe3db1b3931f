"""An export where none of the config's lists exists, as on a machine for deployment: proven on drawn images."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.deployment import run
from shitu_cli.errors import ShituError
from shitu_cli.steps.export import export


@dataclasses.dataclass
class Kept:
    """What an export would have been proven on."""

    shape: tuple[int, ...]
    labels: list[int]
    remarks: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def without_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(origin: object, images: np.ndarray, labels: np.ndarray, *others: object) -> Any:
        return Kept(images.shape, labels.tolist())

    monkeypatch.setattr(run, "export_network", keep)


def test_lists_that_are_elsewhere_are_not_needed(trained_workspace: Path, without_proof: None) -> None:
    config = load_config(trained_workspace / "shitu.yaml")
    real = export(config)
    assert real.remarks == []
    shutil.rmtree(trained_workspace / "lists")
    drawn: Any = export(config)
    assert drawn.shape == (32, *real.shape[1:]) and drawn.labels == np.repeat(np.arange(8), 4).tolist()  # type: ignore
    (remark,) = drawn.remarks
    assert "the list of the config is not here" in remark and "on drawn images" in remark
    with pytest.raises(ShituError, match="lists"):  # what bf16 costs is measured on real images
        export(config, precision="auto")
