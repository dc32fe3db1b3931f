"""`inference.yml` beside a model that another program exported: how PaddleX and PaddleClas prepare its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shitu_cli.config.parts.transforms import DecodeImage, Transform
from shitu_cli.config.reader import Reader
from shitu_cli.errors import DataError
from shitu_cli.inputs import read_text
from shitu_cli.inputs.yaml_files import parse_yaml

NAME = "inference.yml"
MAX_BYTES = 1 << 20
_KEY = "PreProcess.transform_ops"
_INTERPOLATIONS = {"linear": "bilinear", "lanczos4": "lanczos"}


def read_deploy_file(folder: Path) -> tuple[Transform, ...] | None:
    """Return the transforms of a directory's inference.yml, None if it has no such file.

    Raises DataError that names the file and every problem if it cannot be read or asks for what is not supported here.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    values = parse_yaml(read_text(path, limit=MAX_BYTES, error=DataError), str(path), error=DataError)
    block = values.get("PreProcess") if isinstance(values, dict) else None
    reader = Reader({}, str(path))
    listed = block.get("transform_ops") if isinstance(block, dict) else None
    ops = reader.listed(_KEY, "transform", _with_our_words(listed))
    if reader.problems or not ops:
        raise DataError(
            f"{path} does not say how images are prepared",
            details=reader.problems,
            hint=f"it needs a list {_KEY}, as PaddleX and PaddleClas write it",
        )
    return (DecodeImage(), *(op for op in ops if not isinstance(op, DecodeImage)))


def _with_our_words(ops: Any) -> Any:
    """Return the plain values of transforms with PaddleClas's names of interpolations in place of PaddleX's."""
    if isinstance(ops, list):
        return [_with_our_words(op) for op in ops]
    if not isinstance(ops, dict):
        return ops
    method = ops.get("interpolation")
    own = {"interpolation": _INTERPOLATIONS.get(method.lower(), method.lower())} if isinstance(method, str) else {}
    return {name: _with_our_words(value) for name, value in ops.items()} | own
