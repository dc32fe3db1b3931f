"""Which weights a run starts from, and whether they are here and of its network. Nothing here needs Paddle."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.places import is_address
from shitu_cli.config.schema import Config, Peer
from shitu_cli.errors import Command, ConfigError, DataError
from shitu_cli.model.misfit import is_of_other_family, way_to_train
from shitu_cli.weights.catalogue import find_published
from shitu_cli.weights.files import find_weights
from shitu_cli.weights.store import find_here, find_start, looks_like_a_file


def named_start(config: Config) -> str | None:
    """Return what a config names as the start of the whole network; None if the backbone's entry decides."""
    own = None if config.Distillation is None else config.Distillation.weights
    return config.Global.pretrained_model or own


def check_start(config: Config, init_from: Path | None) -> None:
    """Check that the weights to start from exist, or that the catalogue has them for such a network.

    What is not on this machine is downloaded when the network is built. Raises DataError for a file that is missing,
    UsageError for an unknown name, ConfigError for weights of another kind of network.
    """
    for part in _backbones_that_decide(config, init_from):
        _check_weights(find_start(part), part)
    if init_from is not None:
        find_weights(init_from)
    elif config.Global.pretrained_model:
        try:
            _check_weights(config.Global.pretrained_model, config.Arch.backbone)
        except DataError as error:
            raise DataError(
                f"Global.pretrained_model: {error.message}",
                hint=["start without them: ", Command("train", "-o", "Global.pretrained_model=null")],
            ) from None


def _check_weights(start: str | None, part: Backbone) -> None:
    """Check that a file exists, or that published weights are not of a different kind of network."""
    if start is None or is_address(start):
        return
    if looks_like_a_file(start):
        find_weights(start)
        return
    network = find_published(start).network
    if is_of_other_family(network, part):
        raise ConfigError(
            f"the weights {start} belong to {network}, the network of the config is {part.name}",
            hint=way_to_train(network),
        )


def are_here(config: Config, init_from: Path | None) -> bool:
    """Return whether all weights that a run starts from are on this machine; raise as `find_here` does."""
    sources = [find_start(part) for part in _backbones_that_decide(config, init_from)]
    sources += [peer.weights for peer in _peers(config)]
    if init_from is None:
        sources.append(named_start(config))
    return all(find_here(source) is not None for source in sources if source)


def _backbones_that_decide(config: Config, init_from: Path | None) -> list[Backbone]:
    """Return the backbones whose entries say what they start from: not one that is part of a file of the whole."""
    others = [peer.arch.backbone for peer in _peers(config)]
    return others if init_from is not None or named_start(config) else [*others, config.Arch.backbone]


def _peers(config: Config) -> tuple[Peer, ...]:
    return () if config.Distillation is None else config.Distillation.peers
