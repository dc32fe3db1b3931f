"""Heads: the classifier that training puts on the feature; deployment leaves it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from shitu_cli.config.kinds import Count, Portion, Positive, Rate, Share
from shitu_cli.config.parts.base import Part
from shitu_cli.config.parts.initializers import Attribute

_HEADS = "shitu_cli.model.heads"
Angle = Annotated[Rate, "by how much nearer a feature must be to its class centre, as an angle in radians"]
Scale = Annotated[Positive, "factor on the cosines"]


@dataclass(frozen=True)
class Head(Part):
    """From a feature to class logits."""

    embedding_size: Annotated[Count, "size of the feature"]
    class_num: Annotated[Count, "number of classes; `shitu prepare` counts and writes it"]


@dataclass(frozen=True)
class FC(Head, built_by=_HEADS):
    """A plain linear classifier."""

    weight_attr: Annotated[Attribute, "first values and learning rate of the weights"] = None
    bias_attr: Annotated[Attribute, "first values and learning rate of the bias; false: no bias"] = True


@dataclass(frozen=True)
class Sampled(Head):
    """A head whose steps may use a part of the classes only."""

    sample_ratio: Annotated[Portion, "share of the classes that each step trains against"] = field(
        default=1.0, kw_only=True
    )
    start: Annotated[
        Literal["random", "class_means"], "first class centres; class_means: the mean feature of each class"
    ] = field(default="random", kw_only=True)


@dataclass(frozen=True)
class TargetMargin(Sampled):
    """A head whose margin changes the logit of the target only, so that very many classes can be divided."""

    margin_warmup: Annotated[Share, "share of training over which the margin grows from 0"] = field(
        default=0.0, kw_only=True
    )
    shard: Annotated[
        bool | Literal["auto"], "whether several processes share the centres among them; auto: if it saves much"
    ] = field(default="auto", kw_only=True)


@dataclass(frozen=True)
class ArcMargin(TargetMargin, built_by=_HEADS):
    """Additive angular margin (arXiv:1801.07698)."""

    margin: Angle = 0.5
    scale: Scale = 80.0
    easy_margin: Annotated[bool, "whether only angles below 90 degrees get a margin"] = False


@dataclass(frozen=True)
class CosMargin(TargetMargin, built_by=_HEADS):
    """Additive cosine margin (arXiv:1801.09414); 0 is the plain cosine softmax."""

    margin: Annotated[Rate, "what is subtracted from the cosine of a feature and its class centre"] = 0.35
    scale: Scale = 64.0


@dataclass(frozen=True)
class CircleMargin(Sampled, built_by=_HEADS):
    """Circle loss with class centres (arXiv:2002.10857): every cosine is weighted by its error."""

    margin: Annotated[Rate, "how near to 1, or to 0 for other classes, a cosine is good enough"]
    scale: Scale


@dataclass(frozen=True)
class SubCenterArcMargin(Head, built_by=_HEADS):
    """ArcMargin with several centres per class, the nearest of which counts: for noisy labels."""

    sub_centers: Annotated[Count, "centres per class"] = 3
    margin: Angle = 0.5
    scale: Scale = 80.0
    easy_margin: Annotated[bool, "whether only angles below 90 degrees get a margin"] = False


@dataclass(frozen=True)
class AdaMargin(Head, built_by=_HEADS):
    """AdaFace (arXiv:2204.00964): margins by image quality, read from the feature's length."""

    embedding_size: Annotated[Count, "size of the feature"] = 512
    class_num: Annotated[Count, "number of classes; `shitu prepare` counts and writes it"] = 70722
    m: Annotated[Rate, "margin"] = 0.4
    h: Annotated[Rate, "how much the quality counts"] = 0.333
    s: Scale = 64.0
    t_alpha: Annotated[Share, "share of the newest batch in the running mean of feature lengths"] = 1.0
