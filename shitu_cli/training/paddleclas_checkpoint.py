"""Continue a run of PaddleClas from its checkpoint: weights, the optimisers' state, and the epoch.

Its three files are pickles: `.pdparams` the weights, `.pdopt` the state of each optimiser, `.pdstates` epoch and best
metric. It stores neither random generators nor the order of images, so the run goes on, but not to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shitu_cli.errors import Command, DataError
from shitu_cli.inputs import whole_number
from shitu_cli.training.build import Training
from shitu_cli.training.checkpoint import Checkpoint, read_header
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.own_state import LOSS
from shitu_cli.weights.files import read_state
from shitu_cli.weights.paddle_files import read_paddle, read_paddle_tables, read_parameter_names

_RATES = "LR_Scheduler"


def is_of_paddleclas(prefix: Path) -> bool:
    """Return whether the files of this prefix are a checkpoint, but none of this program."""
    files = [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".pdparams", ".pdopt", ".pdstates")]
    if not all(file.is_file() for file in files) or read_header(prefix) is not None:
        return False
    with files[2].open("rb") as stream:
        return stream.read(1) == b"\x80"  # a pickle; ours is JSON


def read_checkpoint(prefix: Path, training: Training) -> Checkpoint:
    """Return PaddleClas's checkpoint as this run continues it; DataError for files that are not of its network."""
    if training.config.Distillation is not None:
        raise DataError(
            f"{prefix}: a checkpoint of PaddleClas of several networks cannot be continued",
            hint=["to start a new run from its student: ", Command("train", "--init-from", prefix)],
        )
    weights, states = f"{prefix}.pdparams", read_paddle(f"{prefix}.pdstates")
    epoch = whole_number(str(states.get("epoch")))
    if epoch is None:
        raise DataError(
            f"{prefix}.pdstates does not say which epoch was done",
            hint=["to start a new run from its weights: ", Command("train", "--init-from", prefix)],
        )
    updates = -(-training.steps_per_epoch // max(1, training.config.Global.update_freq))
    own = {name: parameter.name for name, parameter in training.optimizer.parameters}
    accumulators = _translated(read_paddle_tables(f"{prefix}.pdopt"), read_parameter_names(weights), own)
    return Checkpoint(
        weights=read_state(weights),
        optimizer=accumulators,
        state=LoopState(epoch=epoch, global_step=epoch * updates),
        run={},
        training={f"{LOSS}{name}": tensor.numpy() for name, tensor in training.loss.state_dict().items()},
        notes=[
            f"{prefix} is a checkpoint of PaddleClas: {epoch} epochs are done, and the optimiser goes on as it was",
            *([] if accumulators else ["its optimiser has no state for these parameters, and begins anew"]),
        ],
    )


def _translated(
    tables: Iterable[Mapping[Any, Any]], theirs: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, Any]:
    """Return accumulators under our names of parameters; `theirs` and `own` map names in the network to Paddle's."""
    names = {theirs[name]: mine for name, mine in own.items() if name in theirs}
    state: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            # An accumulator is called after its parameter, whose name may begin with that of another one.
            owner = max((name for name in names if str(key).startswith(f"{name}_")), key=len, default=None)
            if owner is not None and key != _RATES:
                state[names[owner] + str(key)[len(owner) :]] = value
    return state
