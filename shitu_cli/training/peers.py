"""Prepare the other networks of a distillation, which teach or are trained too (`Arch.name: DistillationModel`)."""

from __future__ import annotations

import dataclasses

from paddle import nn

from shitu_cli.config.parts.losses import NetworkLoss
from shitu_cli.config.schema import Config, DistillationConfig, Peer
from shitu_cli.errors import ConfigError
from shitu_cli.model.heads import MarginHead
from shitu_cli.model.losses import CombinedLoss
from shitu_cli.model.tracing import without_pretrained
from shitu_cli.model.weights import set_state
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter
from shitu_cli.training.layer_rates import set_layer_rates
from shitu_cli.training.sync_norm import synchronize_norms
from shitu_cli.weights.files import read_part, read_weights
from shitu_cli.weights.store import obtain


def networks_beside(config: Config, *, empty: bool) -> DistillationConfig | None:
    """Return the other networks to build, without the weights that their entries name if they stay `empty`."""
    part = config.Distillation
    if part is None or not empty:
        return part
    peers = (dataclasses.replace(peer, arch=without_pretrained(peer.arch)) for peer in part.peers)
    return dataclasses.replace(part, peers=tuple(peers))


def prepare_peers(
    config: Config,
    model: nn.Layer,
    loss: CombinedLoss,
    ranks: Ranks,
    device: str,
    reporter: Reporter,
    *,
    empty: bool,
) -> list[str]:
    """Load the peers' weights, unless they stay `empty`, and let heads return all logits if losses compare them.

    Returns remarks on the weights; `reporter` shows downloads. Raises ConfigError for a frozen network without trained
    weights, DataError for weights that do not fit.
    """
    if config.Distillation is None or loss.peers is None:
        return []
    networks, remarks = loss.peers.networks, list[str]()
    for peer in config.Distillation.peers:
        set_layer_rates(networks[peer.name].backbone, peer.arch.backbone)
        if not empty:
            texts = [*networks[peer.name].backbone.start_remarks, *_load(networks[peer.name], peer, config, reporter)]
            remarks += [f"{peer.name}: {text}" for text in texts]
        if peer.arch.use_sync_bn and not peer.frozen:
            networks[peer.name] = synchronize_norms(networks[peer.name], ranks, device)
    if any(isinstance(part, NetworkLoss) and part.compares_logits for part in config.Loss):
        for network in (model, *networks.values()):
            if isinstance(network.head, MarginHead):
                network.head.needs_all_logits = True
    return remarks


def _load(network: nn.Layer, peer: Peer, config: Config, reporter: Reporter) -> list[str]:
    """Load the whole network from its own file, or its part of a file with those of all networks; return remarks."""
    for source in (peer.weights, config.Global.pretrained_model):
        if not source:
            continue
        path = obtain(source, reporter).path
        if part := read_part(path, peer.name):
            set_state(network, part, path)
            return []
        if source == peer.weights:
            file = read_weights(path)
            set_state(network, file.arrays, file.file)
            return list(file.remarks)
    if peer.frozen and not peer.arch.backbone.pretrained:
        raise ConfigError(
            f"Arch.freeze_params_list: {peer.name} is frozen, but has no trained weights to teach",
            hint="name its file in Arch.pretrained_list, or train it too: set its entry in this list to False",
        )
    return []
