"""Loading weights into networks, strictly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.errors import DataError
from shitu_cli.model.backbones.base import Backbone
from shitu_cli.weights.files import read_state
from shitu_cli.weights.names import from_torch, renamed


def load_weights(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load a file into `model`; every name and shape has to match, or DataError lists what does not.

    Parameters under `allow_missing_prefixes` (such as "head.") may be absent or of another shape; they keep their
    values. Returns the names left as they were.
    """
    return set_state(model, read_state(path), str(path), allow_missing_prefixes=allow_missing_prefixes)


def load_backbone(backbone: Backbone, path: str | Path) -> None:
    """Load published weights into a backbone; what follows its stop layer (the classifier) is left out.

    The file may be a backbone's alone or a whole recognition model's (then its `backbone.` part is used), with the
    names of this program, PaddleClas, timm, torchvision or OpenCLIP. Position embeddings are resampled to the
    backbone's image size. Raises DataError when anything else does not fit.
    """
    state = read_state(path)
    inner = {name[len("backbone.") :]: value for name, value in state.items() if name.startswith("backbone.")}
    state = inner or state
    if from_torch(state):
        state = _from_torch(backbone, state)
    unused = (*backbone.dropped, *backbone.classifiers)
    own = backbone.state_dict()
    state = {name: value for name, value in state.items() if name in own or not name.startswith(unused or ("\0",))}
    set_state(backbone, backbone.adapted(state), str(path))


def _from_torch(backbone: Backbone, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under our names, linear weights as [in, out], tokens as [1, n, width]."""
    arrays, _ = renamed(state, backbone.state_dict())
    linear = {f"{name}.weight" for name, layer in backbone.named_sublayers() if isinstance(layer, nn.Linear)}
    for name, own in backbone.state_dict().items():
        if name in arrays and name in linear and arrays[name].ndim == 2:
            arrays[name] = np.ascontiguousarray(arrays[name].T)
        elif name in arrays and arrays[name].ndim < len(own.shape) == 3:  # OpenCLIP keeps tokens as [n, width]
            arrays[name] = arrays[name].reshape([1, -1, arrays[name].shape[-1]])
    return arrays


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
