"""Which weights a run starts from, and whether they are here and of its network. Nothing here needs Paddle."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.places import is_address
from shitu_cli.config.schema import Config
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

    What is not on this machine is downloaded when the network is built.
    """
    named = named_start(config)
    for peer in () if config.Distillation is None else config.Distillation.peers:
        _check_weights(find_start(peer.arch.backbone), peer.arch.backbone)
    if init_from is None and not named:
        _check_weights(find_start(config.Arch.backbone), config.Arch.backbone)
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
    """Return whether all weights that a run starts from are on this machine."""
    peers = () if config.Distillation is None else config.Distillation.peers
    backbones, files = [peer.arch.backbone for peer in peers], [peer.weights for peer in peers]
    if init_from is None:
        files.append(named_start(config))
        if not named_start(config):
            backbones.append(config.Arch.backbone)
    files += [find_start(part) for part in backbones]
    return all(find_here(file) is not None for file in files if file)
