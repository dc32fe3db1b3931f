"""The one object that holds everything a training run needs to continue, besides the tensors.

Resume is visible here: whatever the loop reads from one step to the next is a field of `LoopState`, and a
checkpoint stores the whole object as JSON (no pickle). Random generators are JSON too, because Paddle cannot
load NumPy's 32-bit states back.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import paddle


@dataclass
class Progress:
    """Running sums over the epoch, so that a resumed epoch logs the same averages as an uninterrupted one."""

    samples: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, parts: dict[str, float], samples: int) -> None:
        self.samples += samples
        for name, value in parts.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value * samples

    def averages(self) -> dict[str, float]:
        return {name: total / max(1, self.samples) for name, total in self.loss_sums.items()}


@dataclass
class LoopState:
    """Where the loop stands: `epoch` and `step_in_epoch` are the next ones to run, both counted from 0."""

    epoch: int = 0
    step_in_epoch: int = 0
    global_step: int = 0
    samples_seen: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    best_score: float | None = None
    best_epoch: int | None = None
    evaluations: list[dict[str, float]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    schedule: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    ema_updates: int = 0
    evaluation_due: bool = False
    progress: Progress = field(default_factory=Progress)
    rng: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LoopState:
        """The state written by `to_json`; raises KeyError/TypeError on foreign data (the caller words it)."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise KeyError(f"unknown fields {', '.join(unknown)}")
        values = dict(data)
        values["progress"] = Progress(**values.get("progress", {}))
        return cls(**values)


def capture_rng() -> dict[str, Any]:
    """The state of this process's Python, NumPy and Paddle generators as JSON-able values."""
    python_version, python_words, python_gauss = random.getstate()
    numpy_name, numpy_words, numpy_position, numpy_has_gauss, numpy_gauss = np.random.get_state(legacy=True)
    generators = []
    for generator in paddle.get_rng_state():
        device, seed, offset, engine = generator.__getstate__()
        generators.append({"device": device, "seed": seed, "offset": offset, "engine": bytes(engine).decode("ascii")})
    return {
        "python": [python_version, list(python_words), python_gauss],
        "numpy": [str(numpy_name), np.asarray(numpy_words).tolist(), numpy_position, numpy_has_gauss, numpy_gauss],
        "paddle": generators,
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Set this process's three generators to a state made by `capture_rng`."""
    python_version, python_words, python_gauss = state["python"]
    random.setstate((python_version, tuple(python_words), python_gauss))
    name, words, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.asarray(words, dtype=np.uint32), position, has_gauss, gauss))
    restored = []
    for current, saved in zip(paddle.get_rng_state(), state["paddle"], strict=True):
        engine = list(saved["engine"].encode("ascii"))
        # A fresh object, as unpickling makes it: setting the state of one that has a state is ignored.
        generator = type(current).__new__(type(current))
        generator.__setstate__((saved["device"], saved["seed"], saved["offset"], engine))
        restored.append(generator)
    paddle.set_rng_state(restored)


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed the three generators; ranks other than 0 get their own stream (dropout must differ between them)."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    paddle.seed(seed + rank)
