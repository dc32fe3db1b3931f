"""Scopes of optimisers, and which weights decay."""

from __future__ import annotations

from shitu_cli.training.optimizer import is_in_scope


def test_scopes_are_losses_or_patterns_of_whole_layer_names() -> None:
    losses = ["CELoss", "CenterLoss"]
    assert is_in_scope("CenterLoss", "loss.parts.1.centers", losses)
    assert not is_in_scope("CenterLoss", "loss.parts.0.centers", losses)
    name = "backbone.blocks.0.conv1.conv.weight"
    assert all(is_in_scope(scope, name, losses) for scope in ("backbone", "backbone.blocks.0", ".*(conv|bn)"))
    assert not any(is_in_scope(scope, name, losses) for scope in ("back", "head", "conv1", "weight"))


def test_norms_decay_where_paddleclas_decays_them() -> None:
    """In its ResNets and MobileNetV1 they do like all other weights, in its other networks they do not."""
    from shitu_cli.model.backbones import build_backbone

    for network, decays in (
        ("ResNet18", True),
        ("MobileNetV1_x0_25", True),
        ("PPLCNet_x0_25", False),
        ("resnet18", False),
    ):
        norms = [p for name, p in build_backbone(network).named_parameters() if ".bn." in name and not p.stop_gradient]
        assert norms and all((p.regularizer is None) == decays for p in norms), network
