"""Parts as a config would name them, for tests of what is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shitu_cli.config.reader import make_part
from shitu_cli.data.samplers import Feed, Sampler, build_sampler


def loss_item(name: str, weight: float = 1.0, args: Mapping[str, Any] | None = None) -> Any:
    """One loss of a weighted sum."""
    return make_part("loss", name, weight=weight, **(args or {}))


def operation(name: str, args: Mapping[str, Any] | None = None) -> Any:
    """One transform."""
    return make_part("transform", name, **(args or {}))


def sampler_of(
    labels: np.ndarray,
    name: str = "DistributedBatchSampler",
    *,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    **args: Any,
) -> Sampler:
    """The sampler of a config over images with these labels."""
    return build_sampler(make_part("sampler", name, **args), Feed(labels, None, seed, rank, world))
