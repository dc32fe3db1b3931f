"""The first moments of a run that starts from trained weights."""

from __future__ import annotations

import numpy as np

from shitu_cli.config.parts.heads import Sampled
from shitu_cli.errors import ConfigError
from shitu_cli.features.list_features import Processes
from shitu_cli.training.build import Training
from shitu_cli.training.online import OnlineEvaluation
from shitu_cli.training.own_state import evaluating


class Start:
    """What a new run does before its first step; `is_trained` says whether it starts from trained weights."""

    def __init__(self, online: OnlineEvaluation, *, is_trained: bool) -> None:
        self._online, self.is_trained = online, is_trained

    def prepare_head(self, training: Training, processes: Processes) -> None:
        """Put the centres of the head where the features of their classes are, if the config wants that."""
        part = training.config.Arch.head
        if not isinstance(part, Sampled) or part.start != "class_means":
            return
        if training.shards.names:
            raise ConfigError("Arch.Head.start: class_means is not for centres that several processes divide")
        with evaluating(training.model, training.ranks):
            means = self._online.class_means(training.model, processes)
        if means is not None:
            training.model.head.set_centers(np.asarray(means))
        training.ranks.broadcast_state(training.model)
