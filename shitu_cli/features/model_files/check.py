"""Decide whether a model file may be loaded."""

from __future__ import annotations

import io
from pathlib import Path

from shitu_cli.features.model_files.operators import FEATURES, Kind
from shitu_cli.features.model_files.program import HINT, ModelProblem, Program, check_program, refused
from shitu_cli.inputs import MIB, open_input, read_bytes, read_json
from shitu_cli.inputs.protobuf import ProtobufProblem

_MAX_PROGRAM = 256 * MIB
_MAX_ONNX = 2048 * MIB  # Protocol Buffers allow no more
_MAX_PARAMETERS = 64 << 30


def check_model_files(file: Path, kind: Kind = FEATURES) -> None:
    """Look into inference.pdmodel or .json, with the .pdiparams beside it, or an ONNX file, of a network of this kind.

    Raises DataError unless the file is whole and computes only: allowed operators, no loops, no data elsewhere, sizes
    that can be, weights that are those of the program.
    """
    try:
        if file.suffix == ".onnx":
            from shitu_cli.features.model_files.onnx import read_onnx

            check_program(read_onnx(read_bytes(file, limit=_MAX_ONNX, hint=HINT)), kind.onnx, kind.name)
            return
        if file.suffix == ".json":
            from shitu_cli.features.model_files.pir import read_pir

            program = read_pir(read_json(file, limit=_MAX_PROGRAM, hint=HINT))
            check_program(program, kind.pir, kind.name)
        else:
            from shitu_cli.features.model_files.pdmodel import read_pdmodel

            program = read_pdmodel(read_bytes(file, limit=_MAX_PROGRAM, hint=HINT))
            check_program(program, kind.pdmodel, kind.name)
    except (ModelProblem, ProtobufProblem) as problem:
        raise refused(file, problem) from None
    _check_parameters(file.with_suffix(".pdiparams"), program)


def _check_parameters(file: Path, program: Program) -> None:
    from shitu_cli.features.model_files.parameters import shapes_in

    with open_input(file, limit=_MAX_PARAMETERS, hint=HINT) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        try:
            shapes = shapes_in(stream, size)
        except ModelProblem as problem:
            raise refused(file, problem) from None
    declared = list(program.parameters.items())
    if len(shapes) != len(declared):
        raise refused(file, f"it holds {len(shapes)} weights, the program beside it has {len(declared)}")
    for (name, expected), shape in zip(declared, shapes, strict=True):
        if tuple(expected) != shape:
            difference = f"the shape {list(shape)}, the program says {list(expected)}"
            raise refused(file, f"its weights for {name[:40]!r} have {difference}")
