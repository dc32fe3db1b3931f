"""Loading weights into networks, strictly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from paddle import nn

from shitu_cli.errors import DataError
from shitu_cli.model.backbones.base import Backbone
from shitu_cli.weights.files import read_state


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
