"""Nothing that a user has given is ignored in silence: it is refused, or said when it will count."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import pytest

from shitu_cli.cli.console import Console
from shitu_cli.cli.export import next_command
from shitu_cli.workspace import Workspace
from tests.cli.test_mistakes import fails
from tests.command import shitu

DEVICES = ("--devices", "cpu:2")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train --views 8 --neck trained", "--views, --neck: only --frozen learns a projection"),
        ("train --frozen --epochs 3 --lr 0.1", "--epochs, --lr: --frozen is a single step"),
        ("train --dry-run --resume", "--resume: --dry-run measures a new run"),
        ("train --dry-run --frozen", "--frozen: --dry-run measures steps of training; --frozen only computes features"),
        ("train --dry-run --nnodes 2", "--nnodes: --dry-run measures a new run"),
        ("train --resume --pretrained x", "--pretrained: --resume continues with the weights of the run"),
        ("train --init-from a --pretrained b", "--init-from and --pretrained both choose"),
        ("train --node-rank 1", "--node-rank: only for training on several machines"),
        ("evaluate --merge shards --devices cpu:2", "--devices: --merge computes no features"),
        ("evaluate --rerank --unknown nowhere", "with --rerank images are ranked by something else"),
        ("evaluate --query-expansion 3 --far 0.1", "with --query-expansion images are ranked by something else"),
        ("evaluate -o Global.feature_binarize=sign --cross-fit 2", "with Global.feature_binarize images are ranked"),
        (
            "evaluate -o Global.feature_binarize=sign --far 0.1",
            "shitu evaluate -o Global.feature_binarize=null --far 0.1",
        ),
        ("extract data --dry-run --devices cpu:2", "--devices: --dry-run measures one process"),
        ("export --pretrained efficientnet-lite0 -o Global.epochs=1", "--override: published weights are exported"),
        ("export --max-recall-drop 0.1", "--max-recall-drop: fp32 loses no recall"),
        ("index build --recall 0.5", "--recall: --kind flat compares all vectors"),
        ("config lr --yaml", "lr: --yaml always prints the whole config"),
        ("config --yaml --json", "--json: --yaml prints YAML"),
    ],
)
def test_what_has_no_effect_is_refused(prepared: Path, line: str, says: str) -> None:
    fails(*line.split(), cwd=prepared, code=2, says=(says,))


def test_a_part_says_what_only_the_whole_evaluation_uses(trained_workspace: Path) -> None:
    words = ("evaluate", "--model", "output/latest", "--shard", "1/2")
    done = shitu(*words, "--unknown", "nowhere", "--far", "0.1", "--json", cwd=trained_workspace)
    assert "only used with --merge, not for a single part: --far, --unknown" in done.stderr
    values = json.loads(done.stdout)
    assert values["part"] == 1 and values["of"] == 2 and Path(values["shard"]).is_file()


def test_json_is_json_whatever_the_stream_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"é名😀": [1.5, "ü"]}
    for encoding in ("ascii", "latin-1", "cp1252", "utf-8"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", out)
        Console().json({**value, "none": [math.nan, (math.inf,)]})
        assert json.loads(out.buffer.getvalue().decode(encoding)) == {**value, "none": [None, [None]]}  # type: ignore[attr-defined]


def test_a_hint_does_not_repeat_what_was_wrong(tmp_path: Path) -> None:
    for words in (("models",), ("weights", "list")):
        text = fails(*words, "zzz", cwd=tmp_path, code=2, says=("zzz",))
        assert f"hint: shitu {' '.join(words)}\n" in text


def test_values_of_the_config_keep_their_types_in_json(prepared: Path) -> None:
    (row,) = json.loads(shitu("config", "Global.eval_during_train", "--json", cwd=prepared).stdout)
    assert row["value"] is True
    template = json.loads(shitu("templates", "quick", "--json", cwd=prepared).stdout)
    assert template["name"] == "quick" and "Arch:" in template["text"]


def test_after_an_export_without_a_workspace_the_next_command_names_everything(tmp_path: Path) -> None:
    command = next_command(Workspace(tmp_path), Path("mine.yaml"), tmp_path / "inference", "inference")
    assert str(command) == "shitu index build ./photos --model inference --index index/"
    (tmp_path / "shitu.yaml").write_text("")
    assert str(next_command(Workspace(tmp_path), None, tmp_path / "inference", "inference")) == "shitu index build"
