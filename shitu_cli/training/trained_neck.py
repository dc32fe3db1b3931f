"""A linear neck trained on features that were computed once: `train --frozen --neck trained`.

It starts from a projection in closed form (training/projection.py) and is trained with a head of class centres, as a
whole network would be, but an epoch over the stored features takes a moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.features.unit_length import normalized
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.runtime.memory import available_memory
from shitu_cli.training.projection import Projection, class_directions

# The head of templates/quick.yaml: a softmax over cosines, with label smoothing.
SCALE, SMOOTHING = 16.0, 0.1
EPOCHS, BATCH, MOST_STEPS = 30, 256, 20_000
RATE = 0.03  # of the typical size of the values that are trained, as trunks give features of very different sizes
DROPOUT = 0.3


def require_feature_memory(images: int, size: int, views: int) -> None:
    """Raise EnvironmentProblem if features of so many images and views would take more than half of the free memory."""
    need, free = images * size * views * 4, available_memory()
    if free is not None and need > free // 2:
        raise EnvironmentProblem(
            f"--neck trained holds {need / 1e9:.1f} GB of features in memory, more than half of the "
            f"{free / 1e9:.1f} GB that are free",
            hint="fewer --views, or leave out --neck: the projection in closed form only needs sums",
        )


def gathered(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the features [n, D] and labels int [n] of all blocks as one."""
    features, labels = zip(*blocks, strict=True)
    return np.concatenate(features), np.concatenate(labels)


def train_neck(
    features: np.ndarray, labels: np.ndarray, start: Projection, *, seed: int, reporter: Reporter | None = None
) -> Projection:
    """Train a projection of features float32 [n, D] of images with labels int [n]; return it.

    The head is a centre for each class, which starts as the mean of the class in the features that `start` projects.
    The same seed gives the same projection. `reporter` receives progress: it takes minutes with thousands of classes.
    """
    present, targets = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(seed)
    neck, head = nn.Linear(*start.weight.shape), nn.Linear(start.weight.shape[1], len(present), bias_attr=False)
    neck.weight.set_value(start.weight)
    neck.bias.set_value(start.bias)
    projected = start(features)
    head.weight.set_value(class_directions([(normalized(projected), targets)], projected.shape[1], len(present)).T)
    steps = min(MOST_STEPS, EPOCHS * -(-len(features) // BATCH))
    sizes = [(neck.weight, start.weight), (neck.bias, projected), (head.weight, head.weight.numpy())]
    groups: Any = [{"params": [part], "learning_rate": _typical(values)} for part, values in sizes]
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(RATE, steps)
    optimizer = paddle.optimizer.Adam(schedule, parameters=groups)
    with (reporter or SilentReporter()).progress("training the projection", steps, "steps") as bar:
        for _ in range(steps):
            rows = rng.integers(0, len(features), BATCH)
            kept = (rng.random((BATCH, features.shape[1])) >= DROPOUT) / (1 - DROPOUT)
            x = paddle.to_tensor((features[rows] * kept).astype(np.float32))
            cosines = F.normalize(neck(x), axis=1) @ F.normalize(head.weight, axis=0)
            wanted = F.label_smooth(F.one_hot(paddle.to_tensor(targets[rows]), len(present)), epsilon=SMOOTHING)
            F.cross_entropy(SCALE * cosines, wanted, soft_label=True).backward()
            optimizer.step()
            optimizer.clear_grad()
            schedule.step()
            bar.advance()
    return Projection(neck.weight.numpy(), neck.bias.numpy())


def _typical(values: np.ndarray) -> float:
    """Return the root of the mean square of values."""
    return float(np.sqrt(np.square(values).mean()))
