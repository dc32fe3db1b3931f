"""Names that are no valid text: the log takes them, and what Paddle cannot write is said."""

from __future__ import annotations

import os
from pathlib import Path

import paddle
import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.model.tracing import write_paddle_model
from shitu_cli.training.log import RunLog

NAME = os.fsdecode(b"caf\xe9")


def test_the_log_takes_any_name(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "train.log", None, None)
    log.line(f"log: {NAME}\x1b[2J")
    log.close()
    assert (tmp_path / "train.log").read_text(encoding="utf-8").endswith("log: caf\\udce9\\x1b[2J\n")


def test_paddle_cannot_write_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="not valid UTF-8"):
        write_paddle_model(paddle.nn.Linear(2, 2), tmp_path / NAME / "new" / "inference")
