"""A network in memory becomes an engine in the precision that is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.errors import EnvironmentProblem
from shitu_cli.features import backends
from shitu_cli.features import engine as engines
from shitu_cli.features.backends import OPENVINO, cpu_has_bf16
from shitu_cli.features.engine import engine_from_checkpoint, engine_from_model
from shitu_cli.model import tracing
from shitu_cli.runtime.setup import setup_paddle

TEMPLATE = Path(__file__).parents[2] / "templates/quick.yaml"


def test_precisions_of_a_network_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    setup_paddle("cpu")
    import paddle

    from shitu_cli.model import build_rec_model

    config = load_config(TEMPLATE, ["Arch.Backbone.name=PPLCNet_x0_25"])
    model = build_rec_model(config.Arch)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    plain = engine_from_model(model, config)
    assert plain.description == plain.summary() == "Paddle Inference"
    expected = plain(images)
    model.eval()
    with paddle.no_grad():
        layers = model(paddle.to_tensor(_input(images, plain)))["features"].numpy()
    assert np.abs(layers - expected).max() < 1e-4 * np.abs(expected).max()
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: False)
    with pytest.raises(EnvironmentProblem, match="this CPU does not compute in bfloat16"):
        engine_from_model(model, config, precision="bf16")
    monkeypatch.undo()
    if not cpu_has_bf16():
        pytest.skip("this CPU does not compute in bfloat16")
    for hidden in ((), (OPENVINO,)):
        monkeypatch.setattr(engines, "is_installed", lambda program, hidden=hidden: program not in hidden)
        if not hidden and not backends.is_installed(OPENVINO):
            continue
        coarse = engine_from_model(model, config, precision="bf16")
        assert coarse.description == f"{'Paddle Inference' if hidden else 'OpenVINO'} in bfloat16"
        assert coarse.fingerprint == plain.fingerprint + "/bf16"
        got = coarse(images)
        cosines = np.einsum("nd,nd->n", got, expected) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosines.min() > 0.99 and not np.array_equal(got, expected)


def _input(images: np.ndarray, engine: engines.Engine) -> np.ndarray:
    """Normalised as the engine does it."""
    from shitu_cli.data.batch import to_input

    return to_input(images, engine.normalization)


def test_weights_that_a_training_replaces_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of the former weights kept under the hash of the new ones would pass for theirs."""
    file, reads = tmp_path / "best_model.pdparams", []

    def load(prefix: Path, config: object) -> bytes:
        reads.append(file.read_bytes())
        if len(reads) == 1:
            file.write_bytes(b"the new weights")
        return reads[-1]

    file.write_bytes(b"weights")
    monkeypatch.setattr(tracing, "load_trained", load)
    monkeypatch.setattr(engines, "engine_from_model", lambda model, config, weights, precision: (model, weights))
    loaded, digest = engine_from_checkpoint(tmp_path / "best_model", None)  # type: ignore[arg-type, misc]
    assert loaded == b"the new weights" and digest == hashlib.sha256(loaded).hexdigest()
