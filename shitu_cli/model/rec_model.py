"""The recognition network: backbone → neck → head, built from the Arch block of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from shitu_cli.config.load import parse_arch
from shitu_cli.config.schema import ArchConfig
from shitu_cli.model.backbones import Backbone
from shitu_cli.model.necks import FPN, check_size
from shitu_cli.model.weights import load_backbone
from shitu_cli.reporting import Reporter
from shitu_cli.weights.store import find_start, obtain


class RecModel(nn.Layer):
    """`model(images, labels=None)` → {"backbone", "features", "logits"}.

    images are float32 [N, 3, H, W], normalised; labels int64 [N] (used only by the margin heads, in training
    mode). "features" [N, feature_size] is the output of the neck (without one, of the backbone), not normalised;
    "logits" [N, class_num] is None without a head. A head that samples classes returns logits of the sampled ones
    only, and the positions of the labels among them as "logit_labels" [N, 1]. In training, a head of very many
    classes returns "softmax" (SoftmaxSums) instead of logits. Images beyond the labels have none: their logits follow
    without a margin, where the head gives those of all classes.
    """

    def __init__(self, arch: ArchConfig, reporter: Reporter | None = None) -> None:
        super().__init__()
        self.backbone = _build_backbone(arch, reporter)
        size = self.backbone.feature_size
        self.neck: nn.Layer | None = None
        if arch.neck is not None:
            self.neck = arch.neck.build()
            _check_input("Arch.Neck", self.neck, size)
            if isinstance(self.neck, FPN):
                self.neck.connect(self.backbone)
            size = getattr(self.neck, "feature_size", size)
        self.feature_size: int = size
        self.head_feature_from = arch.head_feature_from
        self.head: nn.Layer | None = None
        self.class_num: int | None = None
        if arch.head is not None:
            self.head = arch.head.build()
            got = self.backbone.feature_size if arch.head_feature_from == "backbone" else size
            _check_input("Arch.Head", self.head, got)
            self.class_num = getattr(self.head, "class_num", None)

    def forward(self, images: paddle.Tensor, labels: paddle.Tensor | None = None) -> dict[str, Any]:
        raw, features = embed(self.backbone, self.neck, images)
        outputs = {"backbone": raw, "features": features, "logits": None}
        if self.head is None:
            return outputs
        x, others = raw if self.head_feature_from == "backbone" else features, None
        if labels is not None and labels.shape[0] < x.shape[0]:
            x, others = x[: labels.shape[0]], x[labels.shape[0] :]
        if self.training and labels is not None and getattr(self.head, "fused", False):
            outputs["softmax"] = self.head.softmax(x, labels)
            return outputs
        logits = outputs["logits"] = self.head(x, labels)
        sampled = getattr(self.head, "sampled_labels", None)
        if sampled is not None:
            outputs["logit_labels"] = sampled
        elif others is not None:
            without_margin = self.head(others) * getattr(self.head, "scale", 1.0)
            outputs["logits"] = paddle.concat([logits, without_margin])
        return outputs

    def reparameterize(self) -> None:
        """Merge parallel training branches into one convolution, if the backbone has them; for export only."""
        merge = getattr(self.backbone, "reparameterize", None)
        if merge is not None:
            merge()


def embed(backbone: Backbone, neck: nn.Layer | None, images: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Return the output of the backbone and that of the neck (the same without one)."""
    if isinstance(neck, FPN):
        raw, maps = backbone.forward_maps(images, [level.layer for level in neck.levels])
        return raw, neck(raw, maps)
    raw = backbone(images)
    return raw, raw if neck is None else neck(raw)


def build_rec_model(arch: ArchConfig | Mapping[str, Any], reporter: Reporter | None = None) -> RecModel:
    """Build the network of an Arch block (typed, or a plain mapping as in YAML).

    Parameter names are counted from zero, so that optimiser state fits a network built in another process. `reporter`
    shows the download of weights that the block names.
    Raises ConfigError for unknown names or arguments and mismatched sizes, DataError for weights that do not fit.
    """
    if not isinstance(arch, ArchConfig):
        arch = parse_arch(arch)
    with paddle.utils.unique_name.guard():
        return RecModel(arch, reporter)


def _build_backbone(arch: ArchConfig, reporter: Reporter | None) -> Backbone:
    start = find_start(arch.backbone)
    backbone: Backbone = arch.backbone.build()
    backbone.network = arch.backbone.name
    if arch.stop_layer is not None:
        backbone.stop_after(arch.stop_layer)
    if start is not None:
        backbone.start_remarks = load_backbone(backbone, obtain(start, reporter).path)
    return backbone


def _check_input(key: str, layer: nn.Layer, got: int) -> None:
    if hasattr(layer, "in_size"):
        check_size(f"{key}.{getattr(layer, 'size_key', 'embedding_size')}", layer.in_size, got)
