"""End a training whose losses or weights are no longer finite, with what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from shitu_cli.errors import Command, TrainingError
from shitu_cli.reporting import short_list

_CLIP = ", or -o Optimizer.clip_global_norm=5"


def require_finite_losses(parts: Mapping[str, float], *, epoch: int, step: int, rate: float) -> None:
    """Raise TrainingError if a loss (name → value) is not finite at this epoch and step, counted from 1."""
    bad = [name for name, value in parts.items() if not math.isfinite(value)]
    if not bad:
        return
    named = [name for name in bad if name != "loss"] or bad
    lower = Command("train", "--lr", f"{min(rate / 10, 0.1):.2g}")
    raise TrainingError(
        f"the loss is {parts[bad[0]]} at epoch {epoch}, step {step} ({', '.join(named)}; learning rate {rate:.4g})",
        hint=["earlier saves are unchanged; try a lower learning rate: ", lower, _CLIP],
    )


def require_finite_weights(tensors: Mapping[str, np.ndarray], *, epoch: int, step: int) -> None:
    """Raise TrainingError instead of saving tensors that are not finite, which the loss shows only one step later."""
    # A sum is finite unless a value is not, or values are near the limit of float32: only then look at each value.
    lost = [name for name, value in tensors.items() if not np.isfinite(np.sum(value)) and not np.isfinite(value).all()]
    if lost:
        raise TrainingError(
            f"{len(lost)} of {len(tensors)} tensors are no longer finite after epoch {epoch}, step {step} "
            f"({short_list(lost)})",
            hint=f"they were not saved and earlier saves are unchanged; try a lower learning rate with --lr{_CLIP}",
        )
