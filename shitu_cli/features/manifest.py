"""`manifest.json` beside an exported model: how images become its input, and what it was made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from shitu_cli.config.dump import listed
from shitu_cli.config.parts.transforms import Transform
from shitu_cli.config.reader import make_parts
from shitu_cli.data.transforms import Normalization
from shitu_cli.errors import ConfigError, DataError
from shitu_cli.features.backends import EXPORT_AGAIN, FP32, MODEL_FILES, PADDLE, PRECISIONS, PROGRAMS
from shitu_cli.inputs import is_whole, read_json_object

MANIFEST = "manifest.json"
FORMAT = 1
MAX_SIDE = 65_536
MAX_FEATURE_SIZE = 65_536


@dataclass(frozen=True)
class Manifest:
    """`normalized_inside`: the exported network returns features of length one. `files` maps file names to SHA-256.

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
    """Read the manifest of an exported model; every value is looked at, whoever wrote it.

    Raises DataError when it is damaged, holds values that no export writes, or is of another format.
    """
    path = folder / MANIFEST
    try:
        values = read_json_object(path)
        if values.pop("format", None) == FORMAT:
            return _manifest(values)
    except (DataError, ConfigError, _Unsound) as problem:
        raise DataError(f"{path} is damaged: {problem}", hint=EXPORT_AGAIN) from None
    if not values:
        raise DataError(f"{path} is damaged: it is empty", hint=EXPORT_AGAIN)
    raise DataError(f"{path}: written by another version", hint=EXPORT_AGAIN)


class _Unsound(Exception):
    """A value is not what an export writes there."""


def _manifest(values: dict[str, Any]) -> Manifest:
    unknown = values.keys() - {field.name for field in fields(Manifest)}
    if unknown:
        raise _Unsound(f"unknown key {min(unknown)[:40]!r}")
    shape = _list(values, "image_shape")
    if len(shape) != 3 or not all(is_whole(size, 1, MAX_SIDE) for size in shape) or shape[0] != 3:
        raise _Unsound(f"image_shape is {shape[:5]}, expected [3, height, width]")
    size = _value(values, "feature_size", int)
    if not 1 <= size <= MAX_FEATURE_SIZE:
        raise _Unsound(f"feature_size is {size}, expected 1 to {MAX_FEATURE_SIZE}")
    precision = _value(values, "precision", str, FP32)
    if precision not in PRECISIONS:
        raise _Unsound(f"precision is {precision[:20]!r}, expected {' or '.join(PRECISIONS)}")
    files = _value(values, "files", dict)
    if not all(isinstance(name, str) and isinstance(digest, str) for name, digest in files.items()):
        raise _Unsound("files holds something other than names and hashes")
    proof = _value(values, "proof", dict, {})
    for row in _list(proof, "rows") if "rows" in proof else ():
        _check_row(row)
    return Manifest(
        feature_size=size,
        normalized_inside=_value(values, "normalized_inside", bool),
        image_shape=(shape[0], shape[1], shape[2]),
        transform_ops=_transforms(_list(values, "transform_ops")),
        normalization=None if values.get("normalization") is None else _normalization(values["normalization"]),
        feature=_value(values, "feature", str),
        model=_value(values, "model", dict),
        source=_value(values, "source", dict),
        files=files,
        proof=proof,
        precision=precision,
        shitu=_value(values, "shitu", str, ""),
        paddle=_value(values, "paddle", str, ""),
    )


def _value(values: Any, key: str, kind: type[Any], default: Any = None) -> Any:
    if not isinstance(values, dict):
        raise _Unsound(f"expected a table with {key}")
    value = values.get(key, default)
    if type(value) is not kind:
        raise _Unsound(f"{key} is a {type(value).__name__}, expected a {kind.__name__}")
    return value


def _list(values: Any, key: str) -> list[Any]:
    return list(_value(values, key, list))


def _transforms(entries: list[Any]) -> tuple[Transform, ...]:
    """Return the operations, each of a known name with known arguments, in which no number may be huge."""
    for entry in entries:
        if not isinstance(entry, dict) or len(entry) != 1:
            raise _Unsound("transform_ops holds something other than single operations")
        ((name, arguments),) = entry.items()
        if arguments is not None and not isinstance(arguments, dict):
            raise _Unsound(f"the arguments of {name[:40]} are a {type(arguments).__name__}")
        values = (arguments or {}).values()
        numbers = [number for item in values for number in (item if isinstance(item, list) else [item])]
        if any(isinstance(number, (int, float)) and abs(number) > MAX_SIDE for number in numbers):
            raise _Unsound(f"the arguments of {name[:40]} are too large")
    parts = make_parts("transform", entries, "transform_ops")
    return tuple(part for part in parts if isinstance(part, Transform))


def _normalization(values: Any) -> Normalization:
    mean, std = _list(values, "mean"), _list(values, "std")
    scale = values.get("scale")
    numbers = [*mean, *std, scale]
    if len(mean) != 3 or len(std) != 3 or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
        raise _Unsound("normalization holds something other than three means, three deviations and a scale")
    if not all(deviation > 0 for deviation in std) or any(abs(number) > MAX_SIDE for number in numbers):
        raise _Unsound("normalization has a deviation of zero or huge numbers")
    return Normalization(tuple(mean), tuple(std), float(scale))


def _check_row(row: Any) -> None:
    """Raise _Unsound unless a row of the proof says which file was measured, how, and how long it took."""
    if _value(row, "file", str) not in MODEL_FILES or row.get("program", PADDLE) not in PROGRAMS:
        raise _Unsound("proof measures a file or a program that is not known")
    if row.get("precision", FP32) not in PRECISIONS:
        raise _Unsound("proof measures a precision that is not known")
    for how, timings in _value(row, "latency_ms", dict).items():
        if not isinstance(timings, list) or not timings or any(type(time) not in (int, float) for time in timings):
            raise _Unsound(f"proof has no time for {how[:40]!r}")
    if not all(any(how.startswith(f"batch {size},") for how in row["latency_ms"]) for size in (1, 32)):
        raise _Unsound("proof lacks the times of batches of 1 and 32")
    if type(row.get("open_ms", 0)) not in (int, float):
        raise _Unsound("proof has no time for opening the model")
