"""Optimisers by PaddleClas's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from shitu_cli.config.kinds import NO_KEY, BelowOne, Keys, Positive, Share
from shitu_cli.config.parts.base import Part
from shitu_cli.config.parts.schedules import Schedule

_MAKERS = "shitu_cli.training.optimizer"


@dataclass(frozen=True)
class Regularizer(Keys):
    """Weight decay as a term of the loss."""

    name: Annotated[Literal["L1", "L2"], "sum of absolute values, or of squares"]
    coeff: Annotated[Share, "factor on it"]


@dataclass(frozen=True, kw_only=True)
class Optimizer(Part):
    """How gradients change the weights.

    `scope` is None for what trains the network and all that no other optimiser does; else the loss whose parameters
    it trains, or a pattern of the names of the layers that it trains: `backbone`, `head`, `backbone.blocks.*`.
    """

    ignored: ClassVar[tuple[str, ...]] = ("multi_precision", "use_multi_tensor")  # weights are float32 here

    lr: Annotated[Schedule, "the learning rate over training"]
    regularizer: Annotated[Regularizer | None, "weight decay as a term of the loss"] = None
    weight_decay: Annotated[Share | None, "factor of weight decay; AdamW's does not go through the gradients"] = None
    clip_norm: Annotated[Positive | None, "largest length of the gradient of each parameter"] = None
    clip_global_norm: Annotated[Positive | None, "largest length of all gradients together"] = None
    no_weight_decay_name: Annotated[
        tuple[str, ...] | str, "parameters with such a text in their names do not decay"
    ] = ()
    one_dim_param_no_weight_decay: Annotated[bool, "whether biases and norms do not decay"] = False
    scope: str | None = field(default=None, metadata=NO_KEY)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.clip_norm and self.clip_global_norm:
            yield "clip_norm", "there is clip_global_norm too: choose one of them"


@dataclass(frozen=True)
class Momentum(Optimizer, built_by=f"{_MAKERS}:plain_optimizer"):
    """Gradient descent with momentum."""

    momentum: Annotated[BelowOne, "share of the last step that is added to the next"] = 0.9
    use_nesterov: Annotated[bool, "whether the gradient is taken where the momentum leads"] = False


@dataclass(frozen=True)
class SGD(Optimizer, built_by=f"{_MAKERS}:plain_optimizer"):
    """Plain gradient descent."""


@dataclass(frozen=True)
class Moments(Optimizer):
    """Steps by running means of the gradients and of their squares."""

    beta1: Annotated[BelowOne, "how long the mean of gradients remembers"] = 0.9
    beta2: Annotated[BelowOne, "how long the mean of squared gradients remembers"] = 0.999
    epsilon: Annotated[Positive, "number added to the divisor"] = 1e-8


@dataclass(frozen=True)
class Adam(Moments, built_by=f"{_MAKERS}:plain_optimizer"):
    """Adam (arXiv:1412.6980)."""

    lazy_mode: Annotated[bool, "whether sparse gradients change their own rows only"] = False


@dataclass(frozen=True)
class AdamW(Moments, built_by=f"{_MAKERS}:adamw"):
    """Adam with a weight decay that does not go through the gradients (arXiv:1711.05101)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from Moments.problems(self)
        if self.regularizer is not None and self.regularizer.name == "L1":
            yield "regularizer", "got L1, but AdamW's decay is that of squares: set weight_decay"


@dataclass(frozen=True)
class RMSProp(Optimizer, built_by=f"{_MAKERS}:plain_optimizer"):
    """Steps divided by the running size of the gradients."""

    rho: Annotated[BelowOne, "how long the mean of squared gradients remembers"] = 0.95
    momentum: Annotated[BelowOne, "share of the last step that is added to the next"] = 0.0
    epsilon: Annotated[Positive, "number added to the divisor"] = 1e-6
    centered: Annotated[bool, "whether the mean gradient is taken off"] = False
