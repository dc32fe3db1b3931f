"""Say why weights do not fit a network, for somebody who chose them by name, and what to do about it.

Nothing here needs Paddle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.parts import KINDS
from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.errors import Command, DataError, Message
from shitu_cli.reporting import shortened
from shitu_cli.weights.caches import published_as

MAX_PROBLEMS = 10  # listed in a message

# The templates that were made for networks with published weights.
TEMPLATES = {
    "tf_efficientnet_lite0": "tuned",
    "vit_small_patch14_dinov2": "tuned_vit",
    "PPLCNet_x2_5": "general_v1",
    "PPLCNetV2_base_ShiTu": "general_v2",
}


@dataclass(frozen=True)
class Misfit:
    """Why weights do not fit a network: `cause` says it, `advice` is the way out where nothing better is known.

    `network` is the one that the weights are of, "" if nothing tells it. `parts` (head, neck) are those that differ, if
    only these do.
    """

    cause: str
    advice: Message
    network: str = ""
    parts: tuple[str, ...] = ()


class UnfitWeights(DataError):
    """Weights of the file `source` whose names or shapes differ from those of the network; `misfit` says why."""

    def __init__(self, source: str, problems: Sequence[str], misfit: Misfit) -> None:
        super().__init__(
            f"the weights in {source} do not fit the network: {misfit.cause}",
            details=shortened(problems, MAX_PROBLEMS),
            hint=misfit.advice,
        )
        self.source, self.misfit = source, misfit


def misfit_of(
    file: Path,
    own_network: str,
    parameters: Mapping[str, Any],
    state: Mapping[str, np.ndarray],
    different: Collection[str],
) -> Misfit:
    """Return why the weights of a file do not fit, as far as their names show; `different` are the names that do not.

    `own_network` is the name of the network in the config, "" if it is not known.
    """
    parts = tuple(sorted({name.partition(".")[0] for name in different}))
    if {*parts} <= {"head", "neck"}:
        verb = "differs" if len(parts) == 1 else "differ"
        return Misfit(f"the backbone fits, the {' and the '.join(parts)} {verb}", _SETTINGS, parts=parts)
    published = published_as(file)
    if published is not None and own_network not in ("", published.network):
        theirs = published.network
        return Misfit(f"they belong to {theirs}, the network is {own_network}", _network(theirs), network=theirs)
    common = parameters.keys() & state.keys()
    if len(common) < len(parameters) / 2:
        return Misfit(
            f"they belong to another network: only {len(common)} of {len(parameters)} arrays have the same name "
            f"(the file begins with {', '.join(list(state)[:2])})",
            _network(),
        )
    resized = sum(list(state[name].shape) != list(parameters[name].shape) for name in common)
    if resized and len(common) == len(parameters) == len(state):
        return Misfit(
            f"the layers are the same, but {resized} of {len(parameters)} arrays have another size: the file may be of "
            "another width of this network",
            _network(),
        )
    count = f"{len(parameters.keys() - different)} of its {len(parameters)} arrays"
    return Misfit(f"{count} are in the file with the same size and kind of numbers", _SETTINGS)


_SETTINGS = (
    "the block Arch of the config must be the one that the weights were trained with: weights of this program have it "
    "in the config.yaml beside them"
)


def _network(name: str = "") -> Message:
    if name:
        return f"choose that network: -o Arch.Backbone.name={name}"
    return [
        "choose the network of the weights: -o Arch.Backbone.name=NAME, with a name that ",
        Command("models"),
        " lists",
    ]


def is_of_other_family(network: str, part: Backbone) -> bool:
    """Return whether weights of `network` cannot fit a config's backbone: neither is a variant of the other.

    False if one of them comes from an installed package, which may take weights of any network.
    """
    families = KINDS["backbone"].parts
    theirs, own = families.get(network), families.get(part.name)
    return theirs is not None and own is not None and not (issubclass(theirs, own) or issubclass(own, theirs))


def way_to_train(network: str) -> Message:
    """Return how training can start from weights of a network other than that of the config."""
    change = Command("train", "-o", f"Arch.Backbone.name={network}")
    if network not in TEMPLATES:
        return ["train the network that they belong to: ", change]
    prepare = Command("prepare", "./data", "--template", TEMPLATES[network])
    return ["let prepare write the config made for them (move shitu.yaml away first): ", prepare,
            "   (or only change the network: ", change, ")"]  # fmt: skip
