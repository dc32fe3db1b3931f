"""`manifest.json` beside an exported model: how pictures become its input, and what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shitu_cli.config.dump import listed
from shitu_cli.config.parts.transforms import Transform
from shitu_cli.config.reader import make_parts
from shitu_cli.data.transforms import Normalization
from shitu_cli.errors import Command, ConfigError, DataError
from shitu_cli.features.backends import FP32

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """`normalized_inside`: features leave the graph at unit length. `files` maps file names to SHA-256.

    `precision` is what the model was exported to be run in; the rows of `proof` say what each way to run it gave.
    """

    feature_size: int
    normalized_inside: bool
    image_shape: tuple[int, int, int]
    transform_ops: tuple[Transform, ...]
    normalization: Normalization | None
    feature: str
    model: dict[str, Any]
    source: dict[str, Any]
    files: dict[str, str]
    proof: dict[str, Any] = field(default_factory=dict)
    precision: str = FP32
    shitu: str = ""
    paddle: str = ""

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        values["transform_ops"] = listed(self.transform_ops)
        values["image_shape"] = list(self.image_shape)
        return {"format": FORMAT, **values}


def read_manifest(folder: Path) -> Manifest:
    """Raises DataError when it is damaged or of another format."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise DataError(
                f"{path}: written by another version", hint=["export again: ", Command("export", "--out", "inference/")]
            )
        ops = make_parts("transform", values.pop("transform_ops"), "transform_ops")
        norm = values.pop("normalization")
        normalization = None
        if norm is not None:
            normalization = Normalization(tuple(norm["mean"]), tuple(norm["std"]), float(norm["scale"]))
        shape = tuple(int(n) for n in values.pop("image_shape"))
        return Manifest(transform_ops=ops, normalization=normalization, image_shape=shape, **values)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint=["export again: ", Command("export", "--out", "inference/")]
        ) from None
