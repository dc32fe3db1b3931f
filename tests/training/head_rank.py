"""One process of tests/training/test_sharded_head.py: a head and its loss trained on rows of shared batches.

    python -m tests.training.head_rank SHARD OUTPUT ARGUMENTS_OF_THE_HEAD_AS_JSON LOSS_EPSILON

Rank 0 writes the whole centres, their velocity, the losses and the gradients of the features to OUTPUT (.npz).
"""

from __future__ import annotations

import json
import sys

import numpy as np

STEPS = (7, 4, 6)  # pictures per batch, over all processes


def main(shard: bool, output: str, arguments: dict[str, object], epsilon: float) -> None:
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu", threads=1)
    import paddle

    from shitu_cli.config.parts.losses import CELoss
    from shitu_cli.config.parts.optimizers import Momentum
    from shitu_cli.config.parts.schedules import Constant
    from shitu_cli.config.reader import make_part
    from shitu_cli.processes.collectives import join
    from shitu_cli.training.optimizer import OptimizerStep, build_scope, trainable_parameters
    from shitu_cli.training.sharded_head import shard_head

    ranks = join()
    paddle.seed(3)
    model = paddle.nn.Layer()
    model.head = make_part("head", "ArcMargin", shard=shard, **arguments).build()
    shards = shard_head(model, None, ranks, "cpu")
    assert bool(shards.names) == (shard and ranks.world > 1)
    momentum = Momentum(lr=Constant(0.5), clip_norm=0.4)
    parameters = trainable_parameters(("", model))
    scope = build_scope(momentum, parameters, epochs=1, steps_per_epoch=len(STEPS), ranks=ranks)
    optimizer = OptimizerStep([scope])
    loss, random, told = CELoss(epsilon=epsilon).build(), np.random.default_rng(5), {}
    for step, count in enumerate(STEPS):
        x, labels = random.standard_normal((count, model.head.in_size)), random.integers(0, model.head.class_num, count)
        bounds = np.linspace(0, count, ranks.world + 1).astype(int)
        mine = slice(bounds[ranks.rank], bounds[ranks.rank + 1])
        features = paddle.to_tensor(x[mine].astype("float32"), stop_gradient=False)
        own = paddle.to_tensor(labels[mine])
        value = loss({"softmax": model.head.softmax(features, own)}, own) * (len(own) / count)
        value.backward()
        told[f"loss {step}"] = ranks.sum_tensor(value).numpy()
        gradients = ranks.gather_rows(features.grad, ranks.row_counts(len(own)))
        told[f"features {step}"] = gradients.numpy()
        ranks.sum_gradients([parameter for _, parameter in parameters])
        optimizer.step(step)
    told |= shards.whole({**model.state_dict(), **optimizer.tensors()})
    if ranks.is_main:
        np.savez(output, **told)


if __name__ == "__main__":
    main(sys.argv[1] == "shard", sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4]))
