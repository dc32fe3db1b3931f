"""Reading weights files without running what is in them, and loading them strictly."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from shitu_cli.errors import DataError
from shitu_cli.model.backbones.base import Backbone

# All that arrays in .pdparams and .pdopt files refer to; anything else in a pickle could run code.
_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no weights file needs")


def read_pickle(file: str | Path) -> Any:
    """Unpickle arrays, numbers, strings and containers.

    Raises DataError when the file is damaged or holds anything else, before any of it runs.
    """
    try:
        with Path(file).open("rb") as stream:
            return _ArrayUnpickler(stream, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{file} is no plain weights file: {error}") from error
    except Exception as error:  # a damaged pickle can fail in any way while it is read
        raise DataError(f"{file} cannot be read as weights: {error}", hint="is the file complete?") from error


def find_weights(path: str | Path) -> Path:
    """The weights file that `path` means, which may omit its .pdparams; raises DataError when there is none."""
    path = Path(path)
    candidates = [path, path.with_name(path.name + ".pdparams"), path.with_name(path.name + ".safetensors")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DataError(f"no weights file {path} (nor {candidates[1].name})")


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Parameter name → array from a .pdparams or .safetensors file; the path may omit .pdparams.

    Raises DataError when the file is missing, damaged, or a pickle that would run code.
    """
    file = find_weights(path)
    state = _read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    if not isinstance(state, dict):
        raise DataError(f"{file} holds a {type(state).__name__}, not a table of weights")
    arrays = {str(k): v for k, v in state.items() if isinstance(v, np.ndarray)}
    if not arrays:
        raise DataError(f"{file} holds no weights")
    return arrays


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(str(file)))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} cannot be read as weights: {error}", hint="is the file complete?") from error


def load_weights(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load a file into `model`; every name and shape has to match, or DataError lists what does not.

    Parameters under `allow_missing_prefixes` (such as "head.") may be absent or of another shape; they keep their
    values. Returns the names left as they were.
    """
    return set_state(model, read_state(path), str(path), allow_missing_prefixes=allow_missing_prefixes)


def load_backbone(backbone: Backbone, path: str | Path) -> None:
    """Load published weights into a backbone; what follows its stop layer (the classifier) is left out.

    The file may be a backbone's alone or a whole recognition model's (then its `backbone.` part is used).
    """
    state = read_state(path)
    inner = {name[len("backbone.") :]: value for name, value in state.items() if name.startswith("backbone.")}
    state = inner or state
    state = {name: value for name, value in state.items() if not name.startswith(backbone.dropped or ("\0",))}
    set_state(backbone, state, str(path))


def set_state(
    model: nn.Layer, state: dict[str, np.ndarray], source: str, *, allow_missing_prefixes: Sequence[str] = ()
) -> list[str]:
    """Set `model` to `state`, as load_weights; `source` names where it came from."""
    allowed = tuple(allow_missing_prefixes)
    own = model.state_dict()
    kept, problems, fitting = [], [], {}
    for name, parameter in own.items():
        optional = bool(allowed) and name.startswith(allowed)
        shape = list(parameter.shape)
        if name in state and list(state[name].shape) == shape:
            fitting[name] = state[name]
        elif optional:
            kept.append(name)
        elif name not in state:
            problems.append(f"missing in the file: {name} {shape}")
        else:
            problems.append(f"shape of {name}: file {list(state[name].shape)}, network {shape}")
    extra = [n for n in state if n not in own and not (allowed and n.startswith(allowed))]
    problems += [f"not in the network: {name} {list(state[name].shape)}" for name in extra]
    if problems:
        raise DataError(
            f"the weights in {source} do not fit the network: {len(problems)} of {len(own)} differ",
            details=problems,
            hint="the Arch block must be the one they were trained with; to leave out the head: --init-from",
        )
    for name, value in fitting.items():
        own[name].set_value(value.astype("float32") if value.dtype == np.float64 else value)
    return kept
