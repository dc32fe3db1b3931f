"""The files that a run writes line by line."""

from __future__ import annotations

import json
from pathlib import Path

from shitu_cli.training.log import RunLog


def test_a_line_that_was_cut_spoils_no_other(tmp_path: Path) -> None:
    text, metrics = tmp_path / "train.log", tmp_path / "metrics.jsonl"
    for _ in range(2):
        log = RunLog(text, metrics)
        log.line("whole")
        log.record("train", step=1)
        log.close()
    metrics.write_text(metrics.read_text() + '{"kind": "tra')
    log = RunLog(text, metrics)
    log.record("train", step=2)
    log.close()
    lines = metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in (*lines[:2], *lines[3:])] == [1, 1, 2] and len(lines) == 4
    assert len(text.read_text().splitlines()) == 2
