"""Convert a Paddle inference model to ONNX, with clean names."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from shitu_cli.errors import Command, EnvironmentProblem, ShituError
from shitu_cli.processes.child import run_module

OPSET = 17  # Paddle2ONNX 2.1.0 goes to 21; ONNX Runtime, OpenVINO and TensorRT have read 17 since 2022
INPUT, OUTPUT, BATCH = "x", "features", "N"


def write_onnx_model(pdmodel: Path, out: Path) -> None:
    """Convert `pdmodel` to `out`, with input `x` [N, 3, H, W] and output `features` [N, D], and check the result.

    Raises EnvironmentProblem if the converter is not installed, ShituError if it fails.
    """
    if importlib.util.find_spec("onnx") is None:
        raise EnvironmentProblem("the package onnx is not installed", hint="pip install paddle2onnx onnx")
    import onnx

    # In its own process: the converter prints to descriptor 1 and may abort its process.
    files = ["--model_filename", pdmodel.name, "--params_filename", pdmodel.with_suffix(".pdiparams").name]
    target = ["--save_file", str(out), "--opset_version", str(OPSET)]
    done = run_module("paddle2onnx.command", "--model_dir", str(pdmodel.parent), *files, *target)
    if done.returncode or not out.is_file() or not out.stat().st_size:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ShituError(
            "Paddle2ONNX could not convert the network",
            details=lines[-6:],
            hint=["export without ONNX: ", Command("export", "--format", "pdmodel")],
        )
    model = onnx.load(str(out))
    _clean_names(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


def _clean_names(model: Any) -> None:
    graph = model.graph
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for node in graph.node:
        for tensors in (node.input, node.output):
            for at, name in enumerate(tensors):
                tensors[at] = names.get(name, name)
    for value, name in ((graph.input[0], INPUT), (graph.output[0], OUTPUT)):
        value.name = name
        for at, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param or dim.dim_value <= 0:
                dim.dim_param = (BATCH, "C", "H", "W")[at]
    # Shapes of inner values follow from the input, and use the converter's names.
    del graph.value_info[:]
