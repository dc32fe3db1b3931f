"""The state of a run as JSON: generators continue where they were, fields survive."""

from __future__ import annotations

import json
import random

import numpy as np
import paddle
import pytest

from shitu_cli.errors import DataError
from shitu_cli.training.loop_state import LoopState, Progress, capture_rng, restore_rng, seed_everything


def draw() -> tuple[float, float, list[float], list[float]]:
    dropped = paddle.nn.functional.dropout(paddle.ones([16]), 0.5).numpy().tolist()
    return random.random(), float(np.random.rand()), paddle.rand([3]).numpy().tolist(), dropped


def test_generators_continue_after_a_round_trip_through_json() -> None:
    seed_everything(3)
    draw()
    saved = json.loads(json.dumps(capture_rng()))
    expected = draw()
    seed_everything(99)
    draw()
    restore_rng(saved)
    assert draw() == expected


def test_ranks_draw_differently() -> None:
    seed_everything(3, rank=0)
    first = draw()
    seed_everything(3, rank=1)
    assert draw() != first


def test_loop_state_round_trip() -> None:
    state = LoopState(epoch=3, step_in_epoch=2, best_score=0.5, progress=Progress(4, {"loss": 2.0}, 1.5))
    assert LoopState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        LoopState.from_json({**LoopState().to_json(), "colour": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "three"),
        ("best_score", "good"),
        ("evaluations", [{"recall@1": "x"}]),
        ("epoch_losses", {}),
        ("progress", {"samples": None}),
        ("progress", {"colour": 1}),
        ("scaler", {"scale": []}),
        ("rng", [1]),
    ],
)
def test_fields_of_other_types_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="field"):
        LoopState.from_json({**LoopState().to_json(), name: value})


def test_generators_of_others_are_refused() -> None:
    whole = capture_rng()
    for broken in (
        {},
        {"python": [3]},
        {**whole, "numpy": ["x"]},
        {**whole, "paddle": [{}]},
        {**whole, "python": [3, [1], None]},
    ):
        with pytest.raises(DataError, match="random generators"):
            restore_rng(broken)
