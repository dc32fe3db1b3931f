"""Turn a typed `Config` back into YAML in PaddleClas's schema, for the snapshot beside the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from shitu_cli.config.parts import Part, plain
from shitu_cli.config.places import relative
from shitu_cli.reporting import HIDDEN

if TYPE_CHECKING:
    from shitu_cli.config.schema import ArchConfig, Config, SplitConfig


def dump_config(config: Config) -> str:
    """Return YAML that `load_config` reads back to an equal Config (apart from origins) from the same root."""
    values = config_values(config)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return yaml.safe_dump(values, sort_keys=False) if HIDDEN.search(text) else text  # the latter escapes all but ASCII


def config_values(config: Config) -> dict[str, Any]:
    """Return all values of a config by the keys of a file; paths below its root are relative to it."""
    config = relative(config)
    written = {
        name: dataclasses.replace(getattr(config.DataLoader, name), dataset=d) for name, d in config.written.items()
    }
    loaders = dataclasses.replace(config.DataLoader, **written)
    evaluation = {name: _split(part) for name, part in (("Query", loaders.query), ("Gallery", loaders.gallery)) if part}
    optimizers = [config.Optimizer, *config.loss_optimizers]
    values: dict[str, Any] = {
        "Global": plain(config.Global),
        "Arch": _networks(config),
        "Loss": {"Train": listed(config.Loss)},
        "Optimizer": plain(config.Optimizer),
        "DataLoader": {
            **({"Train": _split(loaders.train)} if loaders.train else {}),
            **({"Eval": evaluation} if evaluation else {}),
        },
        "Metric": {
            **({"Train": listed(config.train_metrics)} if config.train_metrics else {}),
            "Eval": listed(config.Metric),
        },
    }
    if config.loss_optimizers or config.Optimizer.scope is not None:
        values["Optimizer"] = [
            {part.name: {"scope": part.scope or "RecModel", **item[part.name]}}
            for part, item in zip(optimizers, listed(optimizers), strict=True)
        ]
    for name, block in (("AMP", config.AMP), ("EMA", config.EMA)):
        if block is not None:
            values[name] = plain(block)
    return {name: block for name, block in values.items() if block not in ({"Train": []}, {"Eval": []})}


def _networks(config: Config) -> dict[str, Any]:
    part = config.Distillation
    if part is None:
        return arch_block(config.Arch)
    return {
        "name": "DistillationModel",
        "infer_model_name": part.student,
        "models": [
            *({peer.name: arch_block(peer.arch)} for peer in part.peers),
            {part.student: arch_block(config.Arch)},
        ],
        "freeze_params_list": [*(peer.frozen for peer in part.peers), False],
        "pretrained_list": [*(peer.weights for peer in part.peers), part.weights],
    }


def arch_block(arch: ArchConfig) -> dict[str, Any]:
    """Return the Arch block as plain values, as `build_rec_model` and configs take it."""
    block: dict[str, Any] = {"name": "RecModel", "Backbone": plain(arch.backbone)}
    if arch.stop_layer is not None:
        block["BackboneStopLayer"] = {"name": arch.stop_layer}
    if arch.neck is not None:
        block["Neck"] = plain(arch.neck)
    if arch.head is not None:
        block["Head"] = plain(arch.head)
    return block | plain(arch)


def listed(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return parts as a config has them: a list of `{Name: {arguments}}`."""
    blocks = [plain(part) for part in parts]
    return [{block.pop("name"): block} for block in blocks]


def _split(part: SplitConfig) -> dict[str, Any]:
    dataset = plain(part.dataset) | {"transform_ops": listed(part.dataset.transform_ops)}
    return {"dataset": dataset, "sampler": plain(part.sampler), "loader": plain(part.loader)}
