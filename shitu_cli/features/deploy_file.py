"""`inference.yml` beside a model that another program exported: how PaddleX and PaddleClas prepare its images."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.config.parts.transforms import DecodeImage, Transform
from shitu_cli.config.reader import Reader
from shitu_cli.errors import DataError
from shitu_cli.inputs import read_text
from shitu_cli.inputs.yaml_files import parse_yaml

NAME = "inference.yml"
MAX_BYTES = 1 << 20
_KEY = "PreProcess.transform_ops"


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
    ops = reader.listed(_KEY, "transform", block.get("transform_ops") if isinstance(block, dict) else None)
    if reader.problems or not ops:
        raise DataError(f"{path} does not say how images are prepared", details=reader.problems)
    return (DecodeImage(), *(op for op in ops if not isinstance(op, DecodeImage)))
