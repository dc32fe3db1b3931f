"""Read weights from any common file into arrays by name, without running anything and without other frameworks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.places import WEIGHTS
from shitu_cli.errors import DataError
from shitu_cli.inputs import is_input, open_input
from shitu_cli.reporting import counted
from shitu_cli.weights.caches import way_out
from shitu_cli.weights.numpy_files import read_npz
from shitu_cli.weights.paddle_files import read_paddle
from shitu_cli.weights.safetensors_files import read_safetensors
from shitu_cli.weights.torch_files import read_torch

_TORCH_STREAM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that PyTorch's older files begin with
# Keys under which training programs keep the weights of a checkpoint, the preferred first.
_TABLES = ("state_dict", "model_state_dict", "model", "net", "params", "state_dict_ema", "model_ema", "ema", "net_dict")
# Prefixes that wrappers of networks add to every name.
_WRAPPERS = ("module.", "_layers.", "_orig_mod.")
INNER = ".origin_layer."  # where PaddleClas wraps a layer to put another one behind it
LOSSES = "loss_func"  # under which PaddleClas saves what losses have learned, beside the network
# The networks of a distillation, the trained one first.
_ROLES = ("Student.", "Teacher.")


@dataclass(frozen=True)
class WeightsFile:
    """The arrays of a file by name; `remarks` tell the user how they were taken from it."""

    file: Path
    arrays: dict[str, np.ndarray]
    remarks: tuple[str, ...] = ()


def find_weights(path: str | Path) -> Path:
    """Return the weights file at `path`, which may omit its ending; raise DataError if there is none."""
    path = Path(path)
    candidates = [path, *(Path(f"{path}{suffix}") for suffix in WEIGHTS)]
    for candidate in candidates:
        if is_input(candidate):
            return candidate
    if path.is_dir():
        inside = next((file.with_suffix("") for file in sorted(path.glob("*.pdparams"))), Path("output/best_model"))
        raise DataError(f"{path} is a folder, not a file of weights", hint=f"name a checkpoint, such as {inside}")
    if path.exists():
        open_input(path)  # its error says what it is
    raise DataError(f"no weights file {path} (nor {candidates[1].name})")


def read_weights(path: str | Path) -> WeightsFile:
    """Read .pdparams, .pth, .pt, .safetensors or .npz; the path may omit the ending.

    The weights may be part of a checkpoint (`state_dict`). Prefixes that wrappers add to all names (`module.`,
    `_layers.`) are removed; of a distillation, the student is taken. `remarks` says so. Raises DataError if the file
    is missing, damaged, holds no weights or tries to run anything.
    """
    file = find_weights(path)
    arrays, remarks = _content(file, file.suffix)
    arrays, more = without_prefixes(arrays)
    return WeightsFile(file, arrays, (*remarks, *more))


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file by name, as `read_weights` does."""
    return read_weights(path).arrays


def check_weights(path: Path, name: str) -> None:
    """Raise DataError unless a file holds weights that can be read once it is called `name`."""
    _content(path, Path(name).suffix)


def read_part(path: str | Path, network: str) -> dict[str, np.ndarray]:
    """Return the arrays of one of several networks that a file holds (`NETWORK.…`), {} if it holds no such.

    With LOSSES as the name, it is what the losses have learned, by their number: `2.centers`.
    """
    file = find_weights(path)
    arrays, prefix = _content(file, file.suffix)[0], f"{network}."
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def without_prefixes(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of the network without the prefixes of wrappers, and remarks that say so."""
    remarks = []
    names = {name.replace(INNER, "."): array for name, array in arrays.items() if not name.startswith(f"{LOSSES}.")}
    if len(names) < len(arrays):
        left = counted(len(arrays) - len(names), "array")
        remarks.append(f"left out what losses have learned: {left} under {LOSSES!r}")
    for _ in range(4):  # wrappers of wrappers
        prefix = next((p for p in _WRAPPERS if names and all(name.startswith(p) for name in names)), None)
        if prefix is None and all(name.startswith(_ROLES) for name in names):
            prefix = next((p for p in _ROLES if any(name.startswith(p) for name in names)), None)
        if prefix is None:
            break
        others = sum(not name.startswith(prefix) for name in names)
        left = f", leaving out {others} weights of the other network" if others else ""
        remarks.append(f"took the names without their prefix {prefix!r}{left}")
        names = {name.removeprefix(prefix): array for name, array in names.items() if name.startswith(prefix)}
    return names, remarks


def _content(file: Path, suffix: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a file and remarks; what is wrong with one in a cache comes with the way to another one."""
    try:
        return _table(_read(file, suffix), file)
    except DataError as error:
        if (way := way_out(file)) is None:
            raise
        raise DataError(error.message, details=error.details, hint=way) from None


def _read(file: Path, suffix: str) -> dict[Any, Any]:
    if suffix == ".safetensors":
        return dict(read_safetensors(file))
    if suffix == ".npz":
        return dict(read_npz(file))
    with open_input(file) as stream:
        start = stream.read(len(_TORCH_STREAM))
    if start == _TORCH_STREAM or start.startswith(b"PK\x03\x04"):
        return read_torch(file)
    return read_paddle(file)


def _table(values: dict[Any, Any], file: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a file, which may be one level deeper, and remarks that say so."""
    arrays = _arrays(values)
    if arrays:
        return arrays, []
    tables = {str(key): table for key, value in values.items() if isinstance(value, dict) and (table := _arrays(value))}
    names = [name for name in _TABLES if name in tables] or list(tables)
    if names and (len(tables) == 1 or names[0] in _TABLES):
        return tables[names[0]], [f"took the weights under {names[0]!r} of {file.name}"]
    if tables:
        raise DataError(
            f"{file} holds several tables of weights: {', '.join(names)[:200]}",
            hint="save one of them to a separate file",
        )
    raise DataError(f"{file} holds no weights", hint="name a file with the arrays of a network by their names")


def _arrays(values: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Return the entries that are arrays, in this machine's byte order."""
    return {
        str(name): value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
        for name, value in values.items()
        if isinstance(value, np.ndarray)
    }
