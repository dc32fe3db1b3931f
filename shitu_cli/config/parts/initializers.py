"""The first values of the parameters of a layer, and how fast they learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from shitu_cli.config.kinds import Count, Keys, Positive, Rate, Share
from shitu_cli.config.parts.base import Part

_MAKER = "shitu_cli.model.layers:make_initializer"


@dataclass(frozen=True)
class Initializer(Part):
    """First values of a parameter, by the names and arguments of paddle.nn.initializer."""


@dataclass(frozen=True)
class Constant(Initializer, built_by=_MAKER):
    """The same value everywhere."""

    value: Annotated[float, "the value"] = 0.0


@dataclass(frozen=True)
class Normal(Initializer, built_by=_MAKER, variants={"Normal": {}, "TruncatedNormal": {}}):
    """Normally distributed values; truncated: within two standard deviations."""

    mean: Annotated[float, "their mean"] = 0.0
    std: Annotated[Rate, "their standard deviation"] = 1.0


@dataclass(frozen=True)
class Uniform(Initializer, built_by=_MAKER):
    """Evenly distributed values."""

    low: Annotated[float, "the smallest value"] = -1.0
    high: Annotated[float, "the largest value"] = 1.0


@dataclass(frozen=True)
class Kaiming(Initializer, built_by=_MAKER, variants={"KaimingNormal": {}, "KaimingUniform": {}}):
    """Values whose spread keeps that of activations after rectifiers (arXiv:1502.01852)."""

    fan_in: Annotated[Count | None, "inputs of each output of the layer; null: counted"] = None
    negative_slope: Annotated[Rate, "slope of the rectifier below 0"] = 0.0
    nonlinearity: Annotated[
        Literal["relu", "leaky_relu", "linear", "tanh", "sigmoid", "selu"], "activation after the layer"
    ] = "relu"


@dataclass(frozen=True)
class Xavier(Initializer, built_by=_MAKER, variants={"XavierNormal": {}, "XavierUniform": {}}):
    """Values whose spread keeps that of activations and gradients (Glorot and Bengio 2010)."""

    fan_in: Annotated[Count | None, "inputs of each output of the layer; null: counted"] = None
    fan_out: Annotated[Count | None, "outputs that each input of the layer has; null: counted"] = None
    gain: Annotated[Positive, "factor on the spread"] = 1.0


@dataclass(frozen=True)
class ParameterDecay(Keys):
    """Weight decay of one parameter in place of the optimiser's, as a term of the loss."""

    name: Annotated[Literal["L1Decay", "L2Decay"], "sum of absolute values, or of squares"]
    coeff: Annotated[Share, "factor on it; 0: none"] = 0.0


@dataclass(frozen=True)
class ParameterAttribute(Keys):
    """First values, learning rate and weight decay of a parameter."""

    initializer: Annotated[Initializer | None, "first values; null: those of the layer"] = None
    learning_rate: Annotated[Rate, "factor on the learning rate"] = 1.0
    regularizer: Annotated[ParameterDecay | None, "weight decay; null: that of the optimiser"] = None


Attribute = bool | ParameterAttribute | None
