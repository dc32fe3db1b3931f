"""Necks: from the backbone's output to the feature that is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from shitu_cli.config.kinds import Count, Range
from shitu_cli.config.parts.base import Part
from shitu_cli.config.parts.initializers import Attribute

_NECKS = "shitu_cli.model.necks"


@dataclass(frozen=True)
class Neck(Part):
    """The part between backbone and head; its output is the feature."""


@dataclass(frozen=True)
class FC(Neck, built_by=_NECKS):
    """A linear layer."""

    embedding_size: Annotated[Count, "size of the input"]
    class_num: Annotated[Count, "size of the feature"]
    weight_attr: Annotated[Attribute, "first values and learning rate of the weights"] = None
    bias_attr: Annotated[Attribute, "first values and learning rate of the bias; false: no bias"] = True


@dataclass(frozen=True)
class BNNeck(Neck, built_by=_NECKS):
    """Batch norm on the feature (arXiv:1903.07071)."""

    num_features: Annotated[Count, "size of the feature"]
    weight_attr: Annotated[Attribute, "first values and learning rate of the scale"] = None
    bias_attr: Annotated[Attribute, "first values and learning rate of the shift; false: no shift"] = None
    use_global_stats: Annotated[bool | None, "whether training too normalises by the statistics of all batches"] = None


@dataclass(frozen=True)
class VehicleNeck(Neck, built_by=_NECKS):
    """A 1x1 convolution on the pooled map."""

    ignored: ClassVar[tuple[str, ...]] = ("bias_attr",)  # PaddleClas gives the bias weight_attr
    not_supported: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("kernel_size", "stride", "dilation", "groups"), 1),
        **{"padding": 0, "padding_mode": "zeros", "weight_attr": None, "data_format": "NCHW"},
    }
    in_channels: Annotated[Count, "size of the input"]
    out_channels: Annotated[Count, "size of the feature"]


@dataclass(frozen=True)
class FCBN(Neck, built_by=_NECKS):
    """A linear layer without bias, then batch norm: steadier features for small data."""

    embedding_size: Annotated[Count, "size of the input"]
    class_num: Annotated[Count, "size of the feature"]


@dataclass(frozen=True)
class FPN(Neck, built_by=_NECKS):
    """The backbone's feature joined with that of a feature pyramid (arXiv:1612.03144), for small details."""

    embedding_size: Annotated[Count, "size of the input"]
    class_num: Annotated[Count, "size of the feature"]
    levels: Annotated[int, Range(2), "stages of the backbone that the pyramid has"] = 3
    channels: Annotated[Count, "channels of the pyramid's maps"] = 128


@dataclass(frozen=True)
class Identity(Neck, built_by=_NECKS):
    """The feature as the backbone gives it."""


@dataclass(frozen=True)
class Tanh(Neck, built_by=_NECKS):
    """The hyperbolic tangent of each value, which draws features towards -1 and 1: for binary features."""
