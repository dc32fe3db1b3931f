"""A network's graph is traced once and written with the weights of the moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

from shitu_cli.features.backends import Way  # noqa: E402
from shitu_cli.model import build_rec_model, tracing  # noqa: E402
from shitu_cli.model.tracing import TracedNetwork, write_paddle_model  # noqa: E402


@pytest.mark.parametrize("name", ["PPLCNet_x0_25", "PPLCNetV2_small"])  # the second one merges its branches
def test_new_weights_reach_a_graph_that_was_traced_before(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_rec_model({"Backbone": {"name": name}, "BackboneStopLayer": {"name": "flatten"}})
    model.train()
    traces = []
    forward = tracing.embed
    monkeypatch.setattr(tracing, "embed", lambda *args: traces.append(1) or forward(*args))
    traced = TracedNetwork(model)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    features = []
    for turn in range(3):
        traced.write(tmp_path / str(turn))
        if turn == 0:
            first = len(traces)
        assert model.training and model.backbone.training
        (tmp_path / f"{turn}").mkdir()
        for suffix in (".pdmodel", ".pdiparams"):
            (tmp_path / f"{turn}{suffix}").rename(tmp_path / f"{turn}" / f"inference{suffix}")
        features.append(Way("inference.pdmodel", "Paddle Inference").open(tmp_path / f"{turn}", threads=1)(images))
        for parameter in model.parameters():
            parameter.set_value(parameter * 1.01 + 0.001)
    assert len(traces) == first > 0
    assert not np.array_equal(features[0], features[1])
    for parameter in model.parameters():  # back to the weights of the last turn, traced anew
        parameter.set_value((parameter - 0.001) / 1.01)
    write_paddle_model(model, tmp_path / "inference")
    fresh = Way("inference.pdmodel", "Paddle Inference").open(tmp_path, threads=1)(images)
    assert np.allclose(fresh, features[2], rtol=1e-3, atol=1e-5)
