"""What a run says before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.config.load import load_config
from shitu_cli.templates import read_template
from shitu_cli.training.precision import precision_remarks


@pytest.mark.parametrize(
    ("device", "level", "remark"),
    [
        ("cpu", "O1", "AMP is for GPUs: on the CPU training runs in float32"),
        ("gpu:0", "O2", "O2 runs as O1: the weights stay float32"),
        ("gpu:0", "O1", ""),
    ],
)
def test_mixed_precision_that_runs_differently_is_named(tmp_path: Path, device: str, level: str, remark: str) -> None:
    (tmp_path / "shitu.yaml").write_text(read_template("quick"))
    config = load_config(tmp_path / "shitu.yaml", [f"AMP.level={level}", "AMP.use_amp=True"])
    assert remark in "\n".join(precision_remarks(config, device))
    assert bool(remark) == bool(precision_remarks(config, device))
    assert precision_remarks(load_config(tmp_path / "shitu.yaml"), device) == []
