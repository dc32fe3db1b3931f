"""Put a projection into a network as its neck: in its config, and in its checkpoint."""

from __future__ import annotations

import dataclasses

import numpy as np

from shitu_cli.config.dump import arch_block
from shitu_cli.config.parts.necks import FC
from shitu_cli.config.schema import ArchConfig, Config
from shitu_cli.training.checkpoint import Checkpoint
from shitu_cli.training.projection import Projection


def projected_arch(arch: ArchConfig, projection: Projection | None) -> ArchConfig:
    """Return the network without head, with a linear neck of the projection's size, or without one."""
    neck = None
    if projection is not None:
        embedding_size, size = projection.weight.shape
        neck = FC(embedding_size=embedding_size, class_num=size)
    return dataclasses.replace(arch, neck=neck, head=None)


def projected(checkpoint: Checkpoint, config: Config, projection: Projection) -> Checkpoint:
    """Return a checkpoint of the same backbone followed by the projection; training cannot continue from it."""
    arch = projected_arch(config.Arch, projection)
    backbone = {name: value for name, value in checkpoint.weights.items() if name.startswith("backbone.")}
    return dataclasses.replace(
        checkpoint,
        weights={**backbone, **neck_weights(projection)},
        optimizer={},
        training={},
        run={**checkpoint.run, "arch": arch_block(arch), "frozen": True},
    )


def neck_weights(projection: Projection) -> dict[str, np.ndarray]:
    """Return the projection as the weights of the network's neck, by their names in its state."""
    return {"neck.fc.weight": projection.weight, "neck.fc.bias": projection.bias}
