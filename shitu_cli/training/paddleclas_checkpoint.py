"""Continue a run of PaddleClas from its checkpoint: weights, the optimisers' state, and the epoch.

Its files are pickles: `.pdparams` holds the weights and what losses have learned, `.pdopt` the state of each optimiser,
`.pdstates` the epoch and the best metric. If the weights were averaged (EMA), `.pdparams` holds only the average, and
`.pdema` everything else: the weights themselves under the names that the optimisers know, and what losses have learned.
In a distillation, names of weights begin with their network (`Student.…`). Neither random generators nor the order of
images are stored, so the run continues, but not to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import Command, DataError, Message
from shitu_cli.inputs import whole_number
from shitu_cli.training.build import Training
from shitu_cli.training.checkpoint import Checkpoint, read_header
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.per_process import LOSS, MODEL
from shitu_cli.weights.files import INNER, LOSSES, read_part, read_state
from shitu_cli.weights.paddle_files import read_paddle, read_paddle_tables, read_parameter_names

_RATES = "LR_Scheduler"
# Of weights that are trained at half precision (AMP O2), the optimiser keeps float32 copies, and calls its accumulators
# after these.
_MASTERS, _MASTER = "master_weights", "_fp32_master_0"
_PEERS = f"{LOSS}peers.networks."


def is_of_paddleclas(prefix: Path) -> bool:
    """Return whether the files of this prefix are a checkpoint that this program did not write."""
    files = [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".pdparams", ".pdopt", ".pdstates")]
    if not all(file.is_file() for file in files) or read_header(prefix) is not None:
        return False
    with files[2].open("rb") as stream:
        return stream.read(1) == b"\x80"  # a pickle; ours is JSON


def read_checkpoint(prefix: Path, training: Training) -> Checkpoint:
    """Return PaddleClas's checkpoint as this run continues it; DataError for files that are not of its networks."""
    weights, raw, optimizers, states = (
        prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".pdparams", ".pdema", ".pdopt", ".pdstates")
    )
    epoch = whole_number(str(read_paddle(states).get("epoch")))
    if epoch is None:
        raise DataError(f"{states} does not say which epoch was done", hint=new_run_from(prefix))
    source = raw if raw.is_file() else weights  # training continues from these; `weights` may be only an average
    network, beside = _networks(source, prefix, training), _beside(source)
    kept = network if source == weights else _networks(weights, prefix, training)
    extra = {f"{LOSS}{name}": tensor.numpy() for name, tensor in training.loss.state_dict().items()}
    learned = {name for name in extra if not name.startswith(_PEERS)}
    extra |= {name: array for name, array in (*network.items(), *beside.items()) if name.startswith(LOSS)}
    if source != weights:
        extra |= {f"{MODEL}{name}": array for name, array in network.items() if not name.startswith(LOSS)}
    updates = -(-training.steps_per_epoch // max(1, training.config.Global.update_freq))
    own = {name: parameter.name for name, parameter in training.optimizer.parameters}
    names = {_ours(name, training): paddles for name, paddles in read_parameter_names(source).items()}
    tables = read_paddle_tables(optimizers)
    network |= _at_full_precision(tables, names)
    accumulators = _translated(tables, names, own)
    return Checkpoint(
        weights={name: array for name, array in kept.items() if not name.startswith(LOSS)},
        optimizer=accumulators,
        state=LoopState(
            epoch=epoch, global_step=epoch * updates, ema_updates=0 if source == weights else epoch * updates
        ),
        run={},
        training=extra,
        notes=[
            f"{prefix} is a checkpoint of PaddleClas: {epoch} epochs are done, and the optimiser keeps its state",
            *([] if accumulators else ["its optimiser has no state for these parameters and starts afresh"]),
            *(["it lacks the parameters of the losses, which start afresh"] if learned and not beside else []),
        ],
    )


def _networks(file: Path, prefix: Path, training: Training) -> dict[str, np.ndarray]:
    """Return the arrays of all networks in a file under our names; those of peers belong to the losses."""
    distillation = training.config.Distillation
    if distillation is None:
        return read_state(file)
    names = [distillation.student, *(peer.name for peer in distillation.peers)]
    parts = {name: read_part(file, name) for name in names}
    missing = [name for name, arrays in parts.items() if not arrays]
    if missing:
        raise DataError(
            f"{file} holds no weights of {' and '.join(missing)}: it was not saved by a run of the networks "
            f"{', '.join(names)}, as the names of their weights would begin with these",
            hint=new_run_from(prefix),
        )
    return {_ours(f"{part}.{name}", training): array for part in names for name, array in parts[part].items()}


def _beside(file: Path) -> dict[str, np.ndarray]:
    """Return what the losses have learned, under our names."""
    return {f"{LOSS}parts.{name}": array for name, array in read_part(file, LOSSES).items()}


def _ours(name: str, training: Training) -> str:
    """Return our name of a parameter, as the optimiser and a checkpoint have it."""
    first, _, rest = name.replace(INNER, ".").partition(".")
    if first == LOSSES:
        return f"{LOSS}parts.{rest}"
    distillation = training.config.Distillation
    if distillation is None:
        return f"{first}.{rest}"
    return rest if first == distillation.student else f"{_PEERS}{first}.{rest}"


def new_run_from(prefix: Path) -> Message:
    """Return the way out for a checkpoint of PaddleClas whose weights alone can be used."""
    words = ("-o", "Global.checkpoints=null", "-o", f"Global.pretrained_model={prefix}")
    return ["to start a new run from its weights: ", Command("train", *words, without=("--resume",))]


def _at_full_precision(tables: Iterable[Mapping[Any, Any]], theirs: Mapping[str, str]) -> dict[str, Any]:
    """Return the weights that were trained at half precision as the optimiser has them, under our names."""
    blocks = [block for table in tables if isinstance(block := table.get(_MASTERS), Mapping)]
    return {name: block[paddles] for block in blocks for name, paddles in theirs.items() if paddles in block}


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
                state[names[owner] + str(key)[len(owner) :].removeprefix(_MASTER)] = value
    return state
