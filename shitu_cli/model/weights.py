"""Load weights into networks, strictly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.errors import DataError
from shitu_cli.model.backbones.base import Backbone
from shitu_cli.reporting import shortened
from shitu_cli.weights.files import read_state, read_weights
from shitu_cli.weights.names import from_torch, renamed

MAX_PROBLEMS = 10  # listed in a message


def load_weights(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load a file into `model`; if a name or shape does not match, DataError lists the differences.

    Parameters under `allow_missing_prefixes` (such as "head.") may be absent or of another shape; they keep their
    values. Returns the names of those that kept them.
    """
    return set_state(model, read_state(path), str(path), allow_missing_prefixes=allow_missing_prefixes)


def load_backbone(backbone: Backbone, path: str | Path) -> list[str]:
    """Load published weights into a backbone; weights after its stop layer (the classifier) are ignored.

    The file may hold a backbone or a whole recognition model (then its `backbone.` part is used), with the
    names of this program, PaddleClas, timm, torchvision or OpenCLIP. Position embeddings are resampled to the
    backbone's image size. Returns the names of layers that are not in the file: those that `may_stay_new` of the
    backbone allows, and a last layer for another number of classes. Raises DataError if anything else does not fit.
    """
    state = read_state(path)
    inner = {name[len("backbone.") :]: value for name, value in state.items() if name.startswith("backbone.")}
    state = inner or state
    if from_torch(state):
        state = _from_torch(backbone, state)
    ignored_prefixes = (*backbone.dropped, *backbone.classifiers)
    parameters = backbone.state_dict()
    state = {
        name: value
        for name, value in state.items()
        if name in parameters or not name.startswith(ignored_prefixes or ("\0",))
    }
    resized = [name for name, p in parameters.items() if name in state and list(state[name].shape) != list(p.shape)]
    last = (prefix for prefix in backbone.classifiers if any(name.startswith(prefix) for name in resized))
    new = (*backbone.may_stay_new, *last)
    return set_state(backbone, backbone.adapted(state), str(path), allow_missing_prefixes=new)


def load_start(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load what a run starts from: a whole model like load_weights, or a bare backbone; return remarks for the user."""
    file = read_weights(path)
    own = model.backbone.state_dict().keys()
    is_bare = not any(name.startswith("backbone.") for name in file.arrays)
    if is_bare and (from_torch(file.arrays) or len(own & file.arrays.keys()) > len(own) / 2):
        new = load_backbone(model.backbone, path)
        others = [part for part in ("neck", "head") if getattr(model, part) is not None]
        text = f"{file.file.name} holds a backbone alone"
        if others or new:
            text += f"; new at the start: {', '.join([*others, *new[:1]])}"
        return [*file.remarks, text]
    set_state(model, file.arrays, str(path), allow_missing_prefixes=allow_missing_prefixes)
    return list(file.remarks)


def _from_torch(backbone: Backbone, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays under our names, linear weights as [in, out], tokens as [1, n, width]."""
    arrays, _ = renamed(state, backbone.state_dict())
    linear = {f"{name}.weight" for name, layer in backbone.named_sublayers() if isinstance(layer, nn.Linear)}
    for name, parameter in backbone.state_dict().items():
        if name in arrays and name in linear and arrays[name].ndim == 2:
            arrays[name] = np.ascontiguousarray(arrays[name].T)
        elif name in arrays and arrays[name].ndim < len(parameter.shape) == 3:  # OpenCLIP stores tokens as [n, width]
            arrays[name] = arrays[name].reshape([1, -1, arrays[name].shape[-1]])
    return arrays


def set_state(
    model: nn.Layer, state: dict[str, np.ndarray], source: str, *, allow_missing_prefixes: Sequence[str] = ()
) -> list[str]:
    """Set `model` to `state` like load_weights; `source` names the origin of `state` in messages."""
    prefixes = tuple(allow_missing_prefixes)
    parameters = model.state_dict()
    unset, problems, fitting = [], [], {}
    for name, parameter in parameters.items():
        optional = bool(prefixes) and name.startswith(prefixes)
        shape = list(parameter.shape)
        if name in state and list(state[name].shape) == shape:
            fitting[name] = state[name]
        elif optional:
            unset.append(name)
        elif name not in state:
            problems.append(f"missing in the file: {name} {shape}")
        else:
            problems.append(f"shape of {name}: file {list(state[name].shape)}, network {shape}")
    extra = [n for n in state if n not in parameters and not (prefixes and n.startswith(prefixes))]
    problems += [f"not in the network: {name} {list(state[name].shape)}" for name in extra]
    if problems:
        cause, hint = _likely_cause(parameters, state, fitting)
        raise DataError(
            f"the weights in {source} do not fit the network: {cause}",
            details=shortened(problems, MAX_PROBLEMS),
            hint=hint,
        )
    for name, value in fitting.items():
        parameters[name].set_value(value.astype("float32") if value.dtype == np.float64 else value)
    return unset


def _likely_cause(
    parameters: Mapping[str, object], state: Mapping[str, np.ndarray], fitting: Collection[str]
) -> tuple[str, str]:
    """Return why weights do not fit, as far as their names show, and what to do."""
    common = parameters.keys() & state.keys()
    parts = {name.partition(".")[0] for name in (parameters.keys() | state.keys()) - set(fitting)}
    if len(common) < len(parameters) / 2:
        return (
            f"they belong to another network: only {len(common)} of {len(parameters)} layers have the same name "
            f"(the file begins with {', '.join(list(state)[:2])})",
            "name the network that the file belongs to: -o Arch.Backbone.name=NETWORK; `shitu models` lists them",
        )
    if parts <= {"head", "neck"} and fitting:
        return (
            f"the backbone fits, the {' and the '.join(sorted(parts))} differ",
            "to start from the backbone alone: --init-from FILE",
        )
    if len(common) == len(parameters) == len(state):
        return (
            f"the layers are the same, but {len(parameters) - len(fitting)} of {len(parameters)} have another size",
            "the file belongs to another width of this network: set Arch.Backbone.name to that width",
        )
    return (
        f"{len(fitting)} of its {len(parameters)} layers are in the file with the same size",
        "the Arch block must be the one that the weights were trained with",
    )
