"""What every way of running a network has to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from shitu_cli.features.backends import ways_in
from shitu_cli.model.tracing import write_paddle_model


def assert_every_engine_agrees(model: nn.Layer, images: np.ndarray, folder: Path, form: str) -> None:
    """Export a network as pdmodel or pir to `folder`; each float32 engine gives its features of `images` to 1e-4.

    Names of the temporary files in which Paddle rewrites code would make each export another.
    """
    with paddle.no_grad():
        expected = model(paddle.to_tensor(images))["features"].numpy()
    write_paddle_model(model, folder / "inference", form=form)
    assert not [file.name for file in folder.iterdir() if b"to_static_tmp" in file.read_bytes()]
    ways = [way for way in ways_in(folder) if way.precision == "fp32"]
    assert ways
    for way in ways:
        assert np.abs(way.open(folder)(images) - expected).max() <= 1e-4 * np.abs(expected).max(), way
