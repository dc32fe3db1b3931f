"""Prepare the other networks of a distillation, which teach or are trained too (`Arch.name: DistillationModel`)."""

from __future__ import annotations

from paddle import nn

from shitu_cli.config.parts.losses import NetworkLoss
from shitu_cli.config.schema import Config, Peer
from shitu_cli.errors import ConfigError
from shitu_cli.model.heads import MarginHead
from shitu_cli.model.losses import CombinedLoss
from shitu_cli.model.weights import load_weights, set_state
from shitu_cli.processes.collectives import Ranks
from shitu_cli.training.layer_rates import set_layer_rates
from shitu_cli.training.sync_norm import synchronize_norms
from shitu_cli.weights.files import read_part
from shitu_cli.weights.store import obtain


def prepare_peers(
    config: Config, model: nn.Layer, loss: CombinedLoss, ranks: Ranks, device: str, *, resuming: bool
) -> None:
    """Load the peers' weights, freeze what is not trained, and let heads return all logits if losses compare them.

    Raises ConfigError for a frozen network without trained weights, DataError for weights that do not fit.
    """
    if config.Distillation is None or loss.peers is None:
        return
    networks = loss.peers.networks
    for peer in config.Distillation.peers:
        set_layer_rates(networks[peer.name].backbone, peer.arch.backbone)
        if not resuming:
            _load(networks[peer.name], peer, config)
        if peer.arch.use_sync_bn and not peer.frozen:
            networks[peer.name] = synchronize_norms(networks[peer.name], ranks, device)
    if any(isinstance(part, NetworkLoss) and part.compares_logits for part in config.Loss):
        for network in (model, *networks.values()):
            if isinstance(network.head, MarginHead):
                network.head.needs_all_logits = True


def _load(network: nn.Layer, peer: Peer, config: Config) -> None:
    """Load the whole network from its own file, or its part of a file with the weights of all networks."""
    for source in (peer.weights, config.Global.pretrained_model):
        if not source:
            continue
        path = obtain(source).path
        if part := read_part(path, peer.name):
            set_state(network, part, str(path))
            return
        if source == peer.weights:
            load_weights(network, path)
            return
    if peer.frozen and not peer.arch.backbone.pretrained:
        raise ConfigError(
            f"Arch.freeze_params_list: {peer.name} is frozen, but has no trained weights to teach",
            hint="name its file in Arch.pretrained_list, or train it too: set its entry in this list to False",
        )
