"""Loading weights into networks, strictly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.errors import DataError
from shitu_cli.model.backbones.base import Backbone
from shitu_cli.weights.files import read_state
from shitu_cli.weights.names import from_torch, renamed

MAX_PROBLEMS = 10  # that a message lists


def load_weights(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load a file into `model`; every name and shape has to match, or DataError lists what does not.

    Parameters under `allow_missing_prefixes` (such as "head.") may be absent or of another shape; they keep their
    values. Returns the names left as they were.
    """
    return set_state(model, read_state(path), str(path), allow_missing_prefixes=allow_missing_prefixes)


def load_backbone(backbone: Backbone, path: str | Path) -> list[str]:
    """Load published weights into a backbone; what follows its stop layer (the classifier) is left out.

    The file may be a backbone's alone or a whole recognition model's (then its `backbone.` part is used), with the
    names of this program, PaddleClas, timm, torchvision or OpenCLIP. Position embeddings are resampled to the
    backbone's image size. Returns the names of what stays new, which only `may_stay_new` of the backbone allows.
    Raises DataError when anything else does not fit.
    """
    state = read_state(path)
    inner = {name[len("backbone.") :]: value for name, value in state.items() if name.startswith("backbone.")}
    state = inner or state
    if from_torch(state):
        state = _from_torch(backbone, state)
    unused = (*backbone.dropped, *backbone.classifiers)
    own = backbone.state_dict()
    state = {name: value for name, value in state.items() if name in own or not name.startswith(unused or ("\0",))}
    return set_state(backbone, backbone.adapted(state), str(path), allow_missing_prefixes=backbone.may_stay_new)


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
        cause, hint = _likely_cause(own, state, fitting)
        shown = problems[:MAX_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        raise DataError(f"the weights in {source} do not fit the network: {cause}", details=shown, hint=hint)
    for name, value in fitting.items():
        own[name].set_value(value.astype("float32") if value.dtype == np.float64 else value)
    return kept


def _likely_cause(
    own: Mapping[str, object], state: Mapping[str, np.ndarray], fitting: Collection[str]
) -> tuple[str, str]:
    """Why weights do not fit, as far as the names tell, and what to do."""
    common = own.keys() & state.keys()
    parts = {name.partition(".")[0] for name in (own.keys() | state.keys()) - set(fitting)}
    if len(common) < len(own) / 2:
        return (
            f"it is of another network, {len(common)} of {len(own)} layers have the same name "
            f"(the file begins with {', '.join(list(state)[:2])})",
            "name the network that the file is of: -o Arch.Backbone.name=NETWORK; `shitu models` lists them",
        )
    if parts <= {"head", "neck"} and fitting:
        return (
            f"the backbone fits, the {' and the '.join(sorted(parts))} are others",
            "to start from the backbone alone: --init-from FILE",
        )
    if len(common) == len(own) == len(state):
        return (
            f"the layers are the same, {len(own) - len(fitting)} of {len(own)} have another size",
            "the file is of another width of this network: set Arch.Backbone.name to that one",
        )
    return (
        f"{len(fitting)} of its {len(own)} layers are in the file and have the same size",
        "the Arch block must be the one that the weights were trained with",
    )
