"""Mixed precision: networks compute in half precision, losses in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import paddle

from shitu_cli.config.schema import Config
from shitu_cli.errors import Command, ConfigError

_HALF = (paddle.float16, paddle.bfloat16)


def in_float32(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of networks in float32, as sums and constants of the losses overflow float16."""
    return {name: _widened(value) for name, value in outputs.items()}


def _widened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return in_float32(value)
    return value.astype("float32") if isinstance(value, paddle.Tensor) and value.dtype in _HALF else value


def mixed_precision(config: Config, device: str) -> tuple[Callable[[], Any], Any]:
    """Return the context for forward passes, and the loss scaler if float16 needs one.

    Level O2 runs as O1 (`run_training` says so): parameters stay float32, which is what checkpoints, averages and
    sums over processes hold to the bit.
    """
    amp = config.AMP
    if amp is None or not amp.use_amp or device == "cpu":
        return nullcontext, None
    scaler = None
    if amp.dtype == "float16":
        if config.loss_optimizers:  # Paddle's scaler follows the overflows of the last optimiser only
            raise ConfigError(
                "AMP.dtype: float16 does not work with several optimisers",
                hint=["use bfloat16: ", Command("train", "-o", "AMP.dtype=bfloat16")],
            )
        scaler = paddle.amp.GradScaler(
            init_loss_scaling=amp.scale_loss, use_dynamic_loss_scaling=amp.use_dynamic_loss_scaling
        )
    return (lambda: paddle.amp.auto_cast(level="O1", dtype=amp.dtype)), scaler


def precision_remarks(config: Config, device: str) -> list[str]:
    """Return remarks on how mixed precision runs differently from what the config says."""
    if config.AMP is None or not config.AMP.use_amp:
        return []
    if device == "cpu":
        return ["AMP is for GPUs: on the CPU training runs in float32"]
    if config.AMP.level == "O2":
        return ["AMP.level: O2 runs as O1: the weights stay float32, the network computes in half precision"]
    return []
