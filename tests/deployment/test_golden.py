"""A checkpoint in another program's names, exported in all formats, gives that program's features."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

from shitu_cli.deployment.onnx_model import write_onnx_model  # noqa: E402
from shitu_cli.features.backends import FP32, PADDLE, Way, ways_in  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.tracing import write_paddle_model  # noqa: E402
from shitu_cli.model.weights import load_weights  # noqa: E402
from shitu_cli.training.save_files import write_arrays  # noqa: E402

NETWORKS = [
    "PPLCNet_x0_25-FC-ArcMargin",
    pytest.param("PPLCNetV2_base_ShiTu-BNNeck-FC", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> tuple[dict[str, Any], Any, ModuleType]:
    spec = importlib.util.spec_from_file_location("golden_fill", golden_dir / "fill.py")
    assert spec is not None and spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return json.loads((golden_dir / "arch.json").read_text()), np.load(golden_dir / "arch_outputs.npz"), fill


@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_all_formats(golden: tuple[dict[str, Any], Any, ModuleType], name: str, tmp_path: Path) -> None:
    arch, outputs, fill = golden
    if f"{name}/features" not in outputs:
        pytest.skip(f"no reference features of {name}")
    entry = arch[name]
    shapes = entry.get("state_dict") or entry["state"]
    write_arrays(tmp_path / "w.pdparams", {key: fill.weight(key, shape) for key, shape in shapes.items()})
    model = build_rec_model(entry["arch"])
    load_weights(model, tmp_path / "w")
    for form in ("pir", "pdmodel"):
        write_paddle_model(model, tmp_path / "inference", form=form)
    write_onnx_model(tmp_path / "inference.pdmodel", tmp_path / "inference.onnx")
    images = fill.images(2, entry["input_size"])
    expected = outputs[f"{name}/features"]
    ways = [way for way in ways_in(tmp_path) if way.precision == FP32]
    assert {way.file for way in ways} == {"inference.pdmodel", "inference.json", "inference.onnx"}
    for way in ways:
        run = way.open(tmp_path, threads=1)
        got = run(images)
        assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-4
        # Any batch and size: the graph fixes neither.
        assert run(np.repeat(images, 3, axis=0)).shape == (6, expected.shape[1])
    assert not list(tmp_path.glob("*.tmp"))


def test_the_three_files_of_the_older_format(golden: tuple[dict[str, Any], Any, ModuleType], tmp_path: Path) -> None:
    arch, _, _ = golden
    write_paddle_model(build_rec_model(arch[NETWORKS[0]]["arch"]), tmp_path / "inference", normalize=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "inference.pdiparams",
        "inference.pdiparams.info",
        "inference.pdmodel",
    ]
    run = Way("inference.pdmodel", PADDLE).open(tmp_path, threads=1)
    features = run(np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32))
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
