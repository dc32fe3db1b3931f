"""The numbers that a config may hold: one table of ranges for the plain blocks and for the arguments of components.

What lies outside cannot work or undoes training (a momentum of 9 diverges, a chance of 2 is none); what is merely
unusual is allowed. Names of choices stand in `reader.CHOICES`, the arguments themselves in `components.SPECS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; `form` is one number, a pair (the smaller first), or one or a list."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    form: str = "one"  # one | pair | some

    def holds(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)) and self.form != "one":
            fits = bool(value) and all(self._within(item) for item in value)
            return fits and (self.form == "some" or (len(value) == 2 and value[0] <= value[1]))
        return self.form != "pair" and self._within(value)

    def _within(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        if self.whole and value != int(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        kind = "whole number" if self.whole else "number"
        low = "" if self.low == -math.inf else f"above {self.low:g}" if self.low_open else f"at least {self.low:g}"
        high = "" if self.high == math.inf else f"below {self.high:g}" if self.high_open else f"at most {self.high:g}"
        if low and high and not (self.low_open or self.high_open):
            bounds = f" from {self.low:g} to {self.high:g}"
        else:
            text = " and ".join(part for part in (low, high) if part)
            bounds = f" {'' if self.low_open else 'of '}{text}" if text else ""
        if self.form == "pair":
            return f"two {kind}s{bounds}, the smaller first"
        return f"a {kind}{bounds}{', or a list of such' if self.form == 'some' else ''}"


def pair(of: Range) -> Range:
    return replace(of, form="pair")


def some(of: Range) -> Range:
    return replace(of, form="some")


ANY = Range()
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, low_open=True)
COUNT = Range(1, whole=True)
NATURAL = Range(0, whole=True)
SHARE = Range(0, 1)
PART = Range(0, 1, low_open=True)
BELOW_ONE = Range(0, 1, high_open=True)


def _table(entries: dict[str, Range]) -> dict[str, Range]:
    """{"a b": range} → {"a": range, "b": range}."""
    return {name: bounds for names, bounds in entries.items() for name in names.split()}


# Block of schema.py, or kind of component → argument, or Component.argument where its name means different things.
RANGES: dict[str, dict[str, Range]] = {
    "GlobalConfig": _table(
        {
            "epochs save_interval eval_interval print_batch_step update_freq iter_per_epoch": COUNT,
            "start_eval_epoch seed": NATURAL,
        }
    ),
    "OptimizerConfig": {"clip_norm": NOT_NEGATIVE},
    "RegularizerConfig": {"coeff": SHARE},
    "LossItem": {"weight": NOT_NEGATIVE},
    "SamplerConfig": {"batch_size": COUNT},
    "LoaderConfig": {"num_workers": NATURAL},
    "AmpConfig": {"scale_loss": POSITIVE},
    "EmaConfig": {"decay": BELOW_ONE},
    "backbone": _table(
        {"class_num": COUNT, "class_expand": NATURAL, "dropout_prob": BELOW_ONE, "scale": POSITIVE}
        | {"lr_mult_list": some(NOT_NEGATIVE)}
    ),
    "neck": _table({"embedding_size class_num num_features in_channels out_channels channels": COUNT}),
    "head": _table(
        {
            "embedding_size class_num sub_centers": COUNT,
            "margin m h": NOT_NEGATIVE,
            "scale s": POSITIVE,
            "sample_ratio": PART,
            "t_alpha margin_warmup": SHARE,
        }
    ),
    "loss": _table(
        {
            "num_classes feat_dim embedding_size xbm_size views batch_size samples_each_class": COUNT,
            "start_iter": NATURAL,
            "margin xbm_weight absolute_loss_weight reg_lambda epsilon": NOT_NEGATIVE,
            "temperature base_temperature alpha beta gamma": POSITIVE,
            "CELoss.epsilon": BELOW_ONE,
        }
    ),
    "optimizer": _table({"momentum beta1 beta2 rho": BELOW_ONE, "epsilon": POSITIVE, "weight_decay": SHARE}),
    "schedule": _table(
        {
            "learning_rate eta_min end_lr min_lr warmup_epoch warmup_start_lr threshold epsilon": NOT_NEGATIVE,
            "step_size power": POSITIVE,
            "gamma factor": PART,
            "patience cooldown": NATURAL,
            "milestones decay_epochs values": some(NOT_NEGATIVE),
        }
    ),
    "sampler": _table({"sample_per_id": COUNT, "power": Range(0, 10), "ratio": some(Range(0, 1e6))}),
    "transform": _table(
        {
            "size": some(COUNT),
            "resize_short attempt num_layers mixture_width": COUNT,
            "prob EPSILON": SHARE,
            "sl sh r1": PART,
            "RandCropImage.scale": pair(PART),
            "RandCropImage.ratio": pair(POSITIVE),
            "degrees": some(ANY),
            "padding": some(NATURAL),
            "brightness contrast saturation": NOT_NEGATIVE,
            "hue": Range(0, 0.5),
            "magnitude aug_severity": Range(0, 10),
            "aug_prob_coeff": POSITIVE,
        }
    ),
    "metric": {"topk": some(COUNT)},
}


def range_of(kind: str, argument: str, component: str = "") -> Range | None:
    """The range of a block's or a component's argument; None where any value is taken."""
    known = RANGES.get(kind, {})
    return known.get(f"{component}.{argument}", known.get(argument))
