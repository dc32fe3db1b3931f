"""Load weights into networks, strictly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.model.backbones.base import Backbone
from shitu_cli.model.misfit import UnfitWeights, misfit_of
from shitu_cli.reporting import counted, short_list
from shitu_cli.weights.arrays import widen
from shitu_cli.weights.files import WeightsFile, read_weights
from shitu_cli.weights.names import from_torch, renamed

_BACKBONE = "backbone."
_NEW = "starting from random values"


def load_weights(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load a file into `model`; if a name or shape does not match, UnfitWeights lists the differences.

    Parameters under `allow_missing_prefixes` (such as "head.") may be absent or of another shape; they keep their
    values. Returns the names of those that kept them.
    """
    file = read_weights(path)
    return set_state(model, file.arrays, file.file, allow_missing_prefixes=allow_missing_prefixes)


def load_backbone(backbone: Backbone, path: str | Path) -> list[str]:
    """Load published weights into a backbone; weights after its stop layer (the classifier) are ignored.

    The file may hold a backbone or a whole recognition model (then its `backbone.` part is used), with the
    names of this program, PaddleClas, timm, torchvision or OpenCLIP. Position embeddings are resampled to the
    backbone's image size. `left_new` of the backbone then names the parameters that are not in the file: those that it
    says `may_stay_new`, and a last layer for another number of classes. Returns remarks for the user. Raises
    UnfitWeights if anything else does not fit.
    """
    remarks = _set_backbone(backbone, read_weights(path))
    if new := backbone.left_new:
        lacking = f"{counted(len(new), 'array')} of the backbone, such as {new[0]}"
        remarks.append(f"{_NEW}, as the weights lack them: {lacking}")
    return remarks


def load_start(model: nn.Layer, path: str | Path, *, allow_missing_prefixes: Sequence[str] = ()) -> list[str]:
    """Load what a run starts from: a whole model like load_weights, or a bare backbone; return remarks for the user."""
    file = read_weights(path)
    name, remarks = file.file.name, list(file.remarks)
    if _is_bare(model.backbone, file):
        remarks = _set_backbone(model.backbone, file)
        new = [part for part in ("neck", "head") if getattr(model, part) is not None]
        if lacking := model.backbone.left_new:
            new.append(f"{counted(len(lacking), 'array')} of the backbone, such as {lacking[0]}")
        if new:
            remarks.append(f"only the backbone is taken from {name}; {_NEW}: {', '.join(new)}")
        return remarks
    new = _parts(set_state(model, file.arrays, file.file, allow_missing_prefixes=allow_missing_prefixes))
    left = [part for part in _parts(file.arrays.keys() - model.state_dict().keys()) if part not in new]
    if new:
        remarks.append(f"{_NEW}: {', '.join(new)} ({name} has none of this size)")
    if model.head is not None and "head" not in new:
        remarks.append(f"the head of {name} is kept: its classes must be those of the training list, in the same order")
    if left:
        remarks.append(f"left out of {name}: {', '.join(left)}")
    return remarks


def _parts(names: Iterable[str]) -> list[str]:
    """Return the parts of a network (backbone, neck, head) that these parameters are of."""
    return sorted({name.partition(".")[0] for name in names})


def _is_bare(backbone: Backbone, file: WeightsFile) -> bool:
    """Return whether a file holds nothing but a backbone that can be used: networks of PyTorch have no neck of ours."""
    inner, _ = _backbone_of(file)
    if from_torch(inner):
        return True
    own = backbone.state_dict().keys()
    return not any(name.startswith(_BACKBONE) for name in file.arrays) and len(own & inner.keys()) > len(own) / 2


def _backbone_of(file: WeightsFile) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of the backbone in a file, which may hold a whole model, and remarks that say so."""
    inner = {name.removeprefix(_BACKBONE): array for name, array in file.arrays.items() if name.startswith(_BACKBONE)}
    if not inner:
        return file.arrays, []
    others = _parts(name for name in file.arrays if not name.startswith(_BACKBONE))
    left = f", leaving out {short_list(others)}" if others else ""
    return inner, [f"took the names under {_BACKBONE!r} of {file.file.name}{left}"]


def _set_backbone(backbone: Backbone, file: WeightsFile) -> list[str]:
    """Set a backbone to the weights of a file like load_backbone; return how they were taken from it."""
    state, remarks = _backbone_of(file)
    if from_torch(state):
        state = _from_torch(backbone, state)
    ignored_prefixes = (*backbone.dropped, *backbone.classifiers)
    parameters = backbone.state_dict()
    state = {
        name: _in_float32(value)
        for name, value in state.items()
        if name in parameters or not name.startswith(ignored_prefixes or ("\0",))
    }
    resized = [name for name, p in parameters.items() if name in state and list(state[name].shape) != list(p.shape)]
    last = (prefix for prefix in backbone.classifiers if any(name.startswith(prefix) for name in resized))
    new = (*backbone.may_stay_new, *last)
    backbone.left_new = set_state(backbone, backbone.adapted(state), file.file, allow_missing_prefixes=new)
    return [*file.remarks, *remarks]


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
    model: nn.Layer, state: dict[str, np.ndarray], source: str | Path, *, allow_missing_prefixes: Sequence[str] = ()
) -> list[str]:
    """Set `model` to `state` like load_weights; `source` is the file of `state`."""
    prefixes = tuple(allow_missing_prefixes)
    parameters = model.state_dict()
    unset, problems, fitting = [], dict[str, str](), {}
    for name, parameter in parameters.items():
        optional = bool(prefixes) and name.startswith(prefixes)
        shape = list(parameter.shape)
        value = _in_float32(state[name]) if name in state else None
        if value is not None and list(value.shape) == shape and _is_of_kind(value, parameter):
            fitting[name] = value
        elif optional:
            unset.append(name)
        elif value is None:
            problems[name] = f"missing in the file: {name} {shape}"
        elif list(value.shape) != shape:
            problems[name] = f"shape of {name}: file {list(value.shape)}, network {shape}"
        else:
            problems[name] = f"type of {name}: file {value.dtype}, network {_type_of(parameter)}"
    extra = [n for n in state if n not in parameters and not (prefixes and n.startswith(prefixes))]
    problems |= {name: f"not in the network: {name} {list(state[name].shape)}" for name in extra}
    if problems:
        network = getattr(getattr(model, "backbone", model), "network", "")
        misfit = misfit_of(Path(source), network, parameters, state, problems.keys())
        raise UnfitWeights(str(source), list(problems.values()), misfit)
    for name, value in fitting.items():
        parameters[name].set_value(value.astype(_type_of(parameters[name]), copy=False))
    return unset


def _in_float32(array: np.ndarray) -> np.ndarray:
    """Return floating-point numbers as float32; bfloat16, which numpy lacks, comes from Paddle as uint16."""
    if array.dtype == np.uint16:
        return widen(array)
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _type_of(parameter: object) -> str:
    """Return numpy's name of a parameter's type."""
    return str(parameter.dtype).removeprefix("paddle.")  # type: ignore[attr-defined]


def _is_of_kind(array: np.ndarray, parameter: object) -> bool:
    """Return whether both hold floating-point numbers, or both integers: quantised weights need their scales."""
    return (array.dtype.kind == "f") == ("float" in _type_of(parameter))
