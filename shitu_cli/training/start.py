"""What a new run does before its first step: initialise the head, and evaluate trained weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shitu_cli.config.parts.heads import Sampled
from shitu_cli.config.schema import Config
from shitu_cli.errors import ConfigError
from shitu_cli.processes.sharing import Processes
from shitu_cli.training.build import Training
from shitu_cli.training.online import OnlineEvaluation
from shitu_cli.training.per_process import evaluating
from shitu_cli.training.start_checks import named_start


def starts_trained(config: Config, init_from: Path | None) -> bool:
    """Return whether a new run starts from trained weights, which are evaluated before the first step."""
    return bool(init_from or named_start(config) or config.Arch.backbone.pretrained)


class Start:
    """The preparation of a new run.

    `is_trained` says whether it starts from trained weights, `sets_head` whether the class centres of the head are
    initialised with the mean features of their classes; without trained weights, features say nothing about classes.
    """

    def __init__(self, training: Training, online: OnlineEvaluation, *, is_trained: bool) -> None:
        part = training.config.Arch.head
        self.is_trained = is_trained
        self.sets_head = is_trained and isinstance(part, Sampled) and part.start == "class_means"
        self._training, self._online = training, online
        if self.sets_head and training.shards.names:
            raise ConfigError(
                "Arch.Head.start: class_means does not work with class centres that are divided over several processes",
                hint="-o Arch.Head.start=random, or -o Arch.Head.shard=False",
            )

    def class_means(self, processes: Processes) -> np.ndarray | None:
        """Return the mean feature [C, D] of each class; None on all processes but the first."""
        with evaluating(self._training.model, self._training.ranks):
            return self._online.class_means(self._training.model, processes)
