"""The state of the training loop: everything that a run needs to continue, except the tensors.

Whatever the loop carries from one step to the next is a field of `LoopState`, and a checkpoint stores the whole object
as JSON (no pickle). Random generators are JSON too, because Paddle cannot load NumPy's 32-bit states back.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import paddle

from shitu_cli.errors import DataError


class Step(NamedTuple):
    """The `losses` of one batch, and its number of samples, over all processes; and the seconds that it took."""

    losses: dict[str, float]
    samples: int
    seconds: float


@dataclass
class Progress:
    """Running sums over the epoch, so that a resumed epoch logs the same averages as an uninterrupted one."""

    samples: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, step: Step) -> None:
        self.samples += step.samples
        self.seconds += step.seconds
        for name, value in step.losses.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value * step.samples

    def averages(self) -> dict[str, float]:
        return {name: total / max(1, self.samples) for name, total in self.loss_sums.items()}


@dataclass
class LoopState:
    """The position of the loop: `epoch` and `step_in_epoch` are the next ones to run, both counted from 0."""

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
        """Return the state written by `to_json`; for anything else, raise ValueError that names the field."""
        values = _checked(cls, data)
        values["progress"] = Progress(**_checked(Progress, values.get("progress", {})))
        return cls(**values)


def _checked(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    """Return `data` as arguments of a dataclass; ValueError names unknown fields and wrong types."""
    kinds = get_type_hints(cls)
    for name, value in data.items():
        if name not in kinds:
            raise ValueError(f"unknown field {name}, perhaps from a newer version")
        if not _fits(value, kinds[name]):
            raise ValueError(f"the field {name} has the invalid value {value!r:.40}")
    return dict(data)


def _fits(value: object, kind: Any) -> bool:
    """Return whether a JSON value has the type of a field, including its items."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, alternative) for alternative in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, inner[1]) for item in value.values())
    if kind is Any:
        return True
    if kind is Progress:
        return isinstance(value, dict)
    return isinstance(value, (int, float) if kind is float else kind)


def capture_rng() -> dict[str, Any]:
    """Return the state of this process's Python, NumPy and Paddle generators as JSON-able values."""
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


def restore_rng(state: Any) -> None:
    """Set this process's three generators to a state made by `capture_rng`; DataError for anything else."""
    try:
        _restore_rng(state)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        raise DataError(f"its random generators cannot be restored: {problem}") from None


def _restore_rng(state: dict[str, Any]) -> None:
    python_version, python_words, python_gauss = state["python"]
    random.setstate((python_version, tuple(python_words), python_gauss))
    name, words, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.asarray(words, dtype=np.uint32), position, has_gauss, gauss))
    restored = []
    for current, saved in zip(paddle.get_rng_state(), state["paddle"], strict=True):
        engine = list(saved["engine"].encode("ascii"))
        # A new object, as unpickling would create: Paddle ignores a new state for one that already has a state.
        generator = type(current).__new__(type(current))
        generator.__setstate__((saved["device"], saved["seed"], saved["offset"], engine))
        restored.append(generator)
    paddle.set_rng_state(restored)


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed the three generators; other ranks get streams of their own, as their dropout must differ."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    paddle.seed(seed + rank)
