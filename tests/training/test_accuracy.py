"""The accuracy of the head on the batches that it learns from: Metric.Train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.load import load_config  # noqa: E402
from shitu_cli.training.accuracy import accuracies  # noqa: E402
from tests.command import SMALL, shitu  # noqa: E402

TRAIN = ["train", *SMALL, "--batch-size", "8", "-o", "Metric.Train=[{TopkAcc: {topk: [1, 5]}}]"]


def records(workspace: Path, kind: str) -> list[dict[str, float]]:
    lines = (workspace / "output/metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_counts_labels_among_the_largest_logits() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((9, 6)).astype(np.float32), rng.integers(0, 6, 7)
    order = np.argsort(-logits, axis=1)
    expected = {f"top{k}": np.mean([label in order[row, :k] for row, label in enumerate(labels)]) for k in (1, 5)}
    got = accuracies({"logits": paddle.to_tensor(logits)}, paddle.to_tensor(labels), (1, 5, 7))
    assert {name: float(value) for name, value in got.items()} == {k: np.float32(v) for k, v in expected.items()}
    assert accuracies({"logits": None}, paddle.to_tensor(labels), (1,)) == {}


def test_it_is_logged_and_a_resumed_run_goes_on_with_it(workspace: Path) -> None:
    shitu(*TRAIN, "--epochs", "1", cwd=workspace)
    (epoch,) = records(workspace, "epoch")
    assert 0 <= epoch["top1"] <= epoch["top5"] <= 1
    steps = [record["top5"] for record in records(workspace, "train")]
    assert all(8 * value % 1 == 0 for value in steps)
    log = (workspace / "output/train.log").read_text()
    assert f"top1 {epoch['top1']:.5f}, top5 {epoch['top5']:.5f}" in log
    assert load_config(workspace / "output/config.yaml").train_metrics[0].topk == (1, 5)
    shitu("train", "-c", "output/config.yaml", "--resume", "--epochs", "2", cwd=workspace)
    assert "top1" in records(workspace, "epoch")[1]


def test_a_head_without_the_logits_of_all_classes_is_told(workspace: Path) -> None:
    head = "Arch.Head={name: ArcMargin, embedding_size: 1280, class_num: 6, sample_ratio: 0.5}"
    done = shitu(*TRAIN, "--epochs", "1", "-o", head, cwd=workspace)
    assert "Metric.Train has no effect: this head" in done.stderr
    assert "top1" not in records(workspace, "epoch")[0]
