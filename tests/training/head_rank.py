"""One process of tests/training/test_sharded_head.py: heads and their losses trained on rows of shared batches.

    python -m tests.training.head_rank FOLDER JOBS_AS_JSON

Rank 0 writes what `train` returns for each job {name: its arguments} to FOLDER/name.npz.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

STEPS = (7, 4, 6)  # images per batch, over all processes


def train(ranks: Any, **job: Any) -> dict[str, np.ndarray]:
    """Return the whole centres, their velocity, the losses and the gradients of the features."""
    import paddle

    with paddle.utils.unique_name.guard():  # names as in a process that has trained nothing before
        return _train(ranks, **job)


def _train(ranks: Any, *, shard: bool = False, epsilon: float = 0.0, **head: Any) -> dict[str, np.ndarray]:
    import paddle

    from shitu_cli.config.parts.losses import CELoss
    from shitu_cli.config.parts.optimizers import Momentum
    from shitu_cli.config.parts.schedules import Constant
    from shitu_cli.config.reader import make_part
    from shitu_cli.training.optimizer import OptimizerStep, build_scope, trainable_parameters
    from shitu_cli.training.sharded_head import shard_head

    arguments = {"embedding_size": 6, "class_num": 11, "margin": 0.2, "scale": 16, **head}
    paddle.seed(3)
    model = paddle.nn.Layer()
    model.head = make_part("head", "ArcMargin", shard=shard, **arguments).build()
    shards = shard_head(model, None, ranks, "cpu")
    assert bool(shards.names) == (shard and ranks.world > 1)
    parameters = trainable_parameters(("", model))
    momentum = Momentum(lr=Constant(0.5), clip_norm=0.4)
    scope = build_scope(momentum, parameters, epochs=1, steps_per_epoch=len(STEPS), ranks=ranks)
    optimizer = OptimizerStep([scope])
    loss, random, values = CELoss(epsilon=epsilon).build(), np.random.default_rng(5), {}
    for step, count in enumerate(STEPS):
        x, labels = random.standard_normal((count, model.head.in_size)), random.integers(0, model.head.class_num, count)
        bounds = np.linspace(0, count, ranks.world + 1).astype(int)
        mine = slice(bounds[ranks.rank], bounds[ranks.rank + 1])
        features = paddle.to_tensor(x[mine].astype("float32"), stop_gradient=False)
        own = paddle.to_tensor(labels[mine])
        value = loss({"softmax": model.head.softmax(features, own)}, own) * (len(own) / count)
        value.backward()
        values[f"loss {step}"] = ranks.sum_tensor(value).numpy()
        gradients = ranks.gather_rows(features.grad, ranks.row_counts(len(own)))
        values[f"features {step}"] = gradients.numpy()
        ranks.sum_gradients([parameter for _, parameter in parameters])
        optimizer.step(step)
    return {**values, **shards.whole({**model.state_dict(), **optimizer.tensors()})}


def main(folder: str, jobs: dict[str, dict[str, Any]]) -> None:
    from shitu_cli.processes.collectives import join
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu", threads=1)
    ranks = join()
    for name, arguments in jobs.items():
        values = train(ranks, **arguments)
        if ranks.is_main:
            np.savez(f"{folder}/{name}.npz", **values)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
