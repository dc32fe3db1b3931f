"""End a training whose losses are no numbers any more, with what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shitu_cli.errors import Command, TrainingError


def require_finite(parts: Mapping[str, float], *, epoch: int, step: int, rate: float) -> None:
    """Raise TrainingError if a loss (name → value) is not finite at this epoch and step, counted from 1."""
    bad = [name for name, value in parts.items() if not math.isfinite(value)]
    if not bad:
        return
    named = [name for name in bad if name != "loss"] or bad
    raise TrainingError(
        f"the loss is {parts[bad[0]]} at epoch {epoch}, step {step} ({', '.join(named)}; learning rate {rate:.4g})",
        hint=[
            "earlier saves are unchanged; try a lower learning rate: ",
            Command("train", "--lr", f"{min(rate / 10, 0.1):.2g}"),
            ", or -o Optimizer.clip_global_norm=5",
        ],
    )
