"""The networks that train beside the one that is kept (`Arch.name: DistillationModel`), for the losses between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from shitu_cli.config.schema import DistillationConfig
from shitu_cli.model.rec_model import RecModel
from shitu_cli.reporting import Reporter


class Peers(nn.Layer):
    """`peers(outputs, images, labels)` → outputs by the name of each network, those of the student included.

    It is a part of the losses, not of the network: like the centres of a loss, peers are trained, saved, resumed and
    kept per process with it, and nothing of them reaches evaluation or export.

    A frozen peer is a fixed function: its norms use the statistics that they have, and no gradient passes through it.
    Its head still gives the scaled logits of training, as the student's do, which are compared with them.
    """

    def __init__(self, part: DistillationConfig, reporter: Reporter | None = None) -> None:
        super().__init__()
        self.student, self.frozen = part.student, {peer.name for peer in part.peers if peer.frozen}
        self.networks = nn.LayerDict()
        for peer in part.peers:
            # Distinct names: they are the keys of the optimiser state.
            with paddle.utils.unique_name.guard(f"peer_{peer.name}_"):
                self.networks[peer.name] = RecModel(peer.arch, reporter)
        for name in self.frozen:
            for parameter in self.networks[name].parameters():
                parameter.stop_gradient = True

    def fix(self) -> None:
        """Set frozen networks to evaluation, after training has set all layers to training."""
        for name in self.frozen:
            network = self.networks[name]
            network.eval()
            if network.head is not None:
                network.training = network.head.training = True

    def forward(self, outputs: Mapping[str, Any], images: paddle.Tensor, labels: paddle.Tensor) -> dict[str, Any]:
        every: dict[str, Any] = {self.student: outputs}
        for name, network in self.networks.items():
            with paddle.no_grad() if name in self.frozen else paddle.enable_grad():
                every[name] = network(images, labels)
        return every
