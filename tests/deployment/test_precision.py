"""Which way an exported model is run: what is refused, what is chosen, and why."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.deployment import prove as proof
from shitu_cli.deployment.prove import prove
from shitu_cli.deployment.run import ExportOptions, choose_way, with_bf16
from shitu_cli.errors import EnvironmentProblem, ShituError, UsageError
from shitu_cli.features import backends
from shitu_cli.features.backends import BF16, FP32, ONNX_RUNTIME, PADDLE, Way


def _row(way: Way, ms: float = 1.0, **values: Any) -> dict[str, Any]:
    row = {"images": 500, "difference": 1e-6, "min_cosine": 1.0, "recall@1": 0.8, "recall@1_trained": 0.8}
    times = {"batch 1, threads 2": [ms, ms], "batch 32, threads 2": [ms, ms]}
    return {**dataclasses.asdict(way), **row, "latency_ms": times, "refused": None, **values}


UNMEASURED = {"recall@1": None, "recall@1_trained": None}
PLAIN, COARSE = Way("inference.onnx", ONNX_RUNTIME), Way("inference.json", PADDLE, BF16)


def _proven(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, folder: Path, drop: float) -> list[Any]:
    done = subprocess.CompletedProcess([], 0, stdout="noise\n" + json.dumps(rows), stderr="")
    monkeypatch.setattr(proof, "run_module", lambda *arguments: done)
    nothing = np.zeros(1, np.float32)
    return [row["refused"] for row in prove(folder, nothing, nothing, nothing, max_recall_drop=drop)]


@pytest.mark.parametrize(
    ("values", "drop", "refused"),
    [
        ({"min_cosine": 0.995, "difference": 0.02}, 0.005, None),
        ({"recall@1": 0.796}, 0.005, None),
        ({"recall@1": 0.81}, 0.0, None),
        (
            {"recall@1": 0.79},
            0.005,
            "recall@1 among 500 images falls from 0.8000 to 0.7900, more than the 0.005 of --max-recall-drop",
        ),
        ({"recall@1": 0.79}, 0.02, None),
        (UNMEASURED, 1.0, "no two images have the same class, so the loss of recall cannot be measured"),
        (
            {**UNMEASURED, "coincide": "the features nearly coincide"},
            1.0,
            "the features of different images nearly coincide, so the loss of recall cannot be measured",
        ),
        ({"min_cosine": 0.995, "difference": 0.13}, 0.005, None),  # measured on a CPU with AMX
        ({"difference": 0.35}, 1.0, "smallest cosine 1.000000, difference 0.35"),
        ({"min_cosine": 0.5}, 1.0, "smallest cosine 0.500000, difference 1e-06"),
        ({"min_cosine": float("nan")}, 1.0, "smallest cosine nan, difference 1e-06"),
    ],
)
def test_what_bfloat16_may_cost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, float], drop: float, refused: str | None
) -> None:
    assert _proven([_row(PLAIN), _row(COARSE, **values)], monkeypatch, tmp_path, drop) == [None, refused]
    assert not list(tmp_path.iterdir())


def test_recall_is_of_pictures_that_have_others_of_their_class() -> None:
    features = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    assert proof._recall(features, np.array([5, 5, 6, 7])) == 1.0
    assert proof._recall(features, np.array([5, 6, 6, 5])) == 0.0
    assert proof._recall(features, np.array([5, 6, 7, 8])) is None


def test_a_network_whose_features_coincide_gets_no_recall() -> None:
    """Rounding would give the file another one than the network, and both would be called proven."""
    rng = np.random.default_rng(0)
    coinciding = rng.standard_normal(64) + 1e-6 * rng.standard_normal((40, 64))
    labels = np.arange(40) % 5
    row = proof._compare(coinciding.astype(np.float32), coinciding.astype(np.float32), labels)
    assert row["recall@1"] is None and row["recall@1_trained"] is None
    assert "nearly coincide: for 40 of 40 queries" in str(row["coincide"])
    apart = rng.standard_normal((40, 64)).astype(np.float32)
    row = proof._compare(apart, apart, labels)
    assert row["recall@1"] == row["recall@1_trained"] is not None and row["coincide"] is None


@pytest.mark.parametrize("values", [{"min_cosine": 0.9998}, {"difference": 0.01}, {"difference": float("nan")}])
def test_float32_must_be_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, float]) -> None:
    with pytest.raises(ShituError, match="differs from the trained network; nothing was written") as caught:
        _proven([_row(PLAIN, **values)], monkeypatch, tmp_path, 1.0)
    assert caught.value.details[0].startswith("ONNX Runtime inference.onnx: smallest cosine ")


def test_a_precision_is_chosen_for_a_reason() -> None:
    plain, coarse = _row(PLAIN, ms=2.0), _row(COARSE, ms=1.0)
    refused = {**coarse, "refused": "recall@1 falls"}
    slow = _row(COARSE, ms=3.0)
    assert choose_way([plain, coarse], FP32)[0] == PLAIN
    assert choose_way([plain, slow], BF16)[0] == COARSE
    assert choose_way([plain, coarse], "auto") == (
        COARSE,
        "1.00 ms per image in batches of 32 (ONNX Runtime inference.onnx 2.00)",
    )
    assert choose_way([plain, slow], "auto")[0] == PLAIN
    way, reason = choose_way([plain, refused], "auto")
    assert way == PLAIN and reason.endswith("; bf16 is refused: recall@1 falls")
    with pytest.raises(ShituError, match="--precision bf16 is refused; nothing was written") as caught:
        choose_way([plain, refused], BF16)
    assert caught.value.details == ["Paddle Inference in bfloat16: recall@1 falls"]
    assert "--precision auto" in str(caught.value.hint)


def test_a_cpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: False)
    assert with_bf16(ExportOptions()) == ExportOptions()
    with pytest.raises(EnvironmentProblem, match="--precision bf16: this CPU does not compute in bfloat16"):
        with_bf16(ExportOptions(precision=BF16))
    assert with_bf16(ExportOptions(precision="auto")).formats == ("pdmodel", "onnx")
    assert "is not available: this CPU does not" in choose_way([_row(PLAIN)], "auto")[1]
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: True)
    # The format that Paddle Inference computes in bfloat16 comes along.
    assert with_bf16(ExportOptions(precision=BF16)).formats == ("pdmodel", "onnx", "pir")
    assert with_bf16(ExportOptions(formats=("pir",), precision="auto")).formats == ("pir",)
    with pytest.raises(UsageError, match="--precision int8: expected fp32, bf16 or auto"):
        with_bf16(ExportOptions(precision="int8"))


def test_same_answers_are_counted_by_the_image_found_first() -> None:
    rng = np.random.default_rng(0)
    network = rng.standard_normal((30, 8)).astype(np.float32)
    network /= np.linalg.norm(network, axis=1, keepdims=True)
    network[1] = network[0]  # to image 2 both are equally similar: either is the same answer
    assert proof.same_answers(network, network) == 30
    assert proof.same_answers(network[[1, 0, *range(2, 30)]], network) == 30
    other = network.copy()
    other[5] = -network[5]
    assert 0 < proof.same_answers(other, network) < 30
    assert proof.same_answers(network[:1], network[:1]) is None
