"""Optimisers by PaddleClas's names, built on Paddle's fused update kernels.

A parameter keeps the settings of its layer (`learning_rate` multiplier, regulariser); `no decay` is written into the
regulariser of the parameter because Paddle's parameter groups would overwrite the multipliers.
One update of 5 million parameters in 150 tensors takes 5 ms on 2 cores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn.clip import ClipGradBase
from paddle.regularizer import L1Decay, L2Decay

from shitu_cli.config.kinds import fields_of
from shitu_cli.config.parts import optimizers as parts
from shitu_cli.config.schema import Config
from shitu_cli.errors import ConfigError, DataError
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import shortened
from shitu_cli.training.gradient_clip import GlobalNormClip, NormClip
from shitu_cli.training.schedules import PlateauSchedule, Schedule, build_schedule

NamedParameters = list[tuple[str, paddle.Tensor]]


def trainable_parameters(*layers: tuple[str, nn.Layer]) -> NamedParameters:
    """Return (prefixed name, parameter) of every trainable parameter of the (prefix, layer) pairs, each once."""
    parameters: NamedParameters = []
    seen: set[int] = set()
    for prefix, layer in layers:
        for name, parameter in layer.named_parameters():
            if not parameter.stop_gradient and id(parameter) not in seen:
                seen.add(id(parameter))
                parameters.append((prefix + name, parameter))
    return parameters


@dataclass
class Scope:
    """A Paddle optimiser, its schedule, and the parameters that it trains."""

    optimizer: paddle.optimizer.Optimizer
    schedule: Schedule
    parameters: NamedParameters


@dataclass
class OptimizerStep:
    """The optimisers of a run, that of the network first, behind one `step` for the loop."""

    scopes: list[Scope]

    @property
    def schedule(self) -> Schedule:
        """The schedule of the network."""
        return self.scopes[0].schedule

    @property
    def parameters(self) -> NamedParameters:
        """All parameters that are trained."""
        return [named for scope in self.scopes for named in scope.parameters]

    def lr(self, step: int) -> float:
        return self.schedule.lr(step)

    def step(self, step: int, scaler: Any = None) -> None:
        """Apply the accumulated gradients with the rates of optimiser step `step`, then clear them."""
        for scope in self.scopes:
            scope.optimizer.set_lr(scope.schedule.lr(step))
            # The first step creates the accumulators, whose names count from zero like those of the parameters.
            with paddle.utils.unique_name.guard():
                if scaler is None:
                    scope.optimizer.step()
                else:
                    scaler.step(scope.optimizer)
                    scaler.update()
            scope.optimizer.clear_grad(set_to_zero=False)

    def tensors(self) -> dict[str, paddle.Tensor]:
        """Return the accumulators by Paddle's names."""
        states = [scope.optimizer.state_dict() for scope in self.scopes]
        return {name: value for state in states for name, value in state.items() if isinstance(value, paddle.Tensor)}

    def scheduler_state(self, step: int) -> dict[str, float]:
        """Return what PaddleClas stores beside them as `LR_Scheduler`."""
        return {"last_epoch": step, "last_lr": self.schedule.lr(step)}

    def load_state_dict(self, state: Mapping[str, Any], memory: Mapping[str, float]) -> None:
        """Restore the accumulators; DataError if they are of other parameters. `memory` is that of ReduceOnPlateau."""
        wanted = {name for name in state if name != "LR_Scheduler"}
        names = [parameter.name for _, parameter in self.parameters]
        foreign = sorted(name for name in wanted if not name.startswith(tuple(names)))
        if foreign:
            raise DataError(
                "the state of its optimiser belongs to another network",
                details=shortened([f"{name}: no such parameter here" for name in foreign], 20),
            )
        # An accumulator is named after its parameter, whose name may begin with that of another parameter.
        owners = {name: max(filter(name.startswith, names), key=len) for name in wanted}
        shapes = {parameter.name: parameter.shape for _, parameter in self.parameters}
        wrong = [
            f"{name}: {_form_of(state[name])}, expected {list(shapes[owners[name]])}"
            for name in sorted(wanted)
            if not _fits(name, state[name], list(shapes[owners[name]]))
        ]
        if wrong:
            raise DataError("the state of its optimiser does not fit the network", details=shortened(wrong, 20))
        for scope in self.scopes:
            own = {parameter.name for _, parameter in scope.parameters}
            scope.optimizer.set_state_dict(
                {name: paddle.to_tensor(np.asarray(state[name])) for name in wanted if owners[name] in own}
            )
        if isinstance(self.schedule, PlateauSchedule):
            self.schedule.restore(dict(memory))


def _fits(name: str, value: object, shape: list[int]) -> bool:
    """Return whether an accumulator has the form that Paddle gives it; Paddle only warns of others, or crashes."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fu":  # bfloat16 is stored as uint16
        return False
    # Adam keeps the powers of beta as one number for a parameter.
    return list(value.shape) == shape or ("_pow_acc" in name and value.size == 1)


def _form_of(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return str(list(value.shape)) if value.dtype.kind in "fu" else f"{list(value.shape)} of {value.dtype}"


def build_optimizers(
    config: Config, parameters: NamedParameters, *, steps_per_epoch: int, ranks: Ranks
) -> OptimizerStep:
    """Build the configured optimisers over `parameters`; `steps_per_epoch` counts updates, not micro-batches.

    Raises ConfigError for an optimiser that has nothing to train.
    """
    epochs = config.Global.epochs
    scopes = _divided(parameters, config)
    return OptimizerStep(
        [build_scope(part, own, epochs=epochs, steps_per_epoch=steps_per_epoch, ranks=ranks) for part, own in scopes]
    )


def _divided(parameters: NamedParameters, config: Config) -> list[tuple[parts.Optimizer, NamedParameters]]:
    """Return each optimiser with the parameters of its scope, that of the network first, with all that others leave.

    A parameter belongs to the first scope that has it.
    """
    losses = [loss.name for loss in config.Loss]
    main, others = config.Optimizer, config.loss_optimizers
    scopes, left = [], parameters
    for part in others if main.scope is None else (main, *others):
        own = [named for named in left if is_in_scope(part.scope, named[0], losses)]
        if not own:
            kind = "loss" if part.scope in losses else "scope"
            raise ConfigError(
                f"Optimizer: the {kind} {part.scope} has no parameters to train",
                hint="remove this optimiser from the config, or correct its scope",
            )
        if part.lr.name == "ReduceOnPlateau" and part is not main:
            raise ConfigError(
                f"Optimizer: ReduceOnPlateau works only for the optimiser of the network, not of {part.scope}"
            )
        of_scope = {id(parameter) for _, parameter in own}
        left = [named for named in left if id(named[1]) not in of_scope]
        scopes.append((part, own))
    if main.scope is None:
        if not left:
            raise ConfigError(
                "Optimizer: the scope RecModel has no parameters to train",
                hint="leave it out: the other scopes already train everything",
            )
        scopes.insert(0, (main, left))
    elif left:
        raise ConfigError(
            f"Optimizer: no scope covers {len(left)} parameters, such as {left[0][0]}",
            hint="add an optimiser with the scope RecModel, which trains all that the others leave",
        )
    return scopes


def is_in_scope(scope: str | None, name: str, losses: Sequence[str]) -> bool:
    """Return whether a parameter belongs to a loss, or to a layer whose whole name the pattern `scope` matches."""
    if scope in losses:
        return name.startswith(tuple(f"loss.parts.{n}." for n, loss in enumerate(losses) if loss == scope))
    layers = name.split(".")[:-1]
    return any(re.fullmatch(scope or "", ".".join(layers[: n + 1])) for n in range(len(layers)))


def build_scope(
    part: parts.Optimizer, parameters: NamedParameters, *, epochs: int, steps_per_epoch: int, ranks: Ranks
) -> Scope:
    """Build one optimiser of a config over the parameters that it trains."""
    schedule = build_schedule(part.lr, epochs=epochs, steps_per_epoch=steps_per_epoch)
    undecayed = _undecayed(part, parameters)
    clip: ClipGradBase | None = NormClip(part.clip_norm, ranks) if part.clip_norm else None
    if part.clip_global_norm:
        clip = GlobalNormClip(part.clip_global_norm, ranks)
    common = {
        "learning_rate": schedule.lr(0),
        "parameters": [parameter for _, parameter in parameters],
        "grad_clip": clip,
    }
    optimizer = part.build(common, undecayed)
    return Scope(optimizer, schedule, parameters)


def _undecayed(part: parts.Optimizer, parameters: NamedParameters) -> set[str]:
    """Return Paddle's names of the parameters without weight decay, after setting their regulariser to zero."""
    names: set[str] = set()
    fragments = part.no_weight_decay_name
    for name, parameter in parameters:
        by_name = any(text in name for text in (fragments.split() if isinstance(fragments, str) else fragments))
        by_shape = part.one_dim_param_no_weight_decay and (len(parameter.shape) == 1 or name.endswith(".bias"))
        if by_name or by_shape:
            names.add(parameter.name)
            parameter.regularizer = L2Decay(0.0)
    return names


def plain_optimizer(
    part: parts.Optimizer, common: Mapping[str, Any], undecayed: set[str]
) -> paddle.optimizer.Optimizer:
    """Build Paddle's optimiser of the part's name; `common` are arguments that each takes, as parameters and rate."""
    own = {name: getattr(part, name) for name in fields_of(type(part)).keys() - fields_of(parts.Optimizer).keys()}
    optimizer: paddle.optimizer.Optimizer = getattr(paddle.optimizer, part.name)(
        weight_decay=_decay(part), **own, **common
    )
    return optimizer


def _decay(part: parts.Optimizer) -> L1Decay | L2Decay | None:
    if part.regularizer is not None:
        kind = L1Decay if part.regularizer.name == "L1" else L2Decay
        return kind(part.regularizer.coeff)
    return L2Decay(part.weight_decay) if part.weight_decay else None


def adamw(part: parts.AdamW, common: Mapping[str, Any], undecayed: set[str]) -> paddle.optimizer.Optimizer:
    """Build AdamW: its decay is decoupled, so a function of the parameter name decides, not the regularisers."""
    coefficient = 0.01 if part.weight_decay is None else part.weight_decay
    if part.regularizer is not None:  # it replaces weight_decay, as for all optimisers
        coefficient = part.regularizer.coeff
    return paddle.optimizer.AdamW(
        beta1=part.beta1,
        beta2=part.beta2,
        epsilon=part.epsilon,
        weight_decay=coefficient,
        apply_decay_param_fun=lambda name: name not in undecayed,
        **common,
    )
