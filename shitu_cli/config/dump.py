"""A typed `Config` back to YAML in PaddleClas's schema, for the snapshot beside the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from shitu_cli.config.places import relative
from shitu_cli.config.schema import ArchConfig, Component, Config, DatasetConfig, OptimizerConfig, SplitConfig


def dump_config(config: Config) -> str:
    """Return YAML that `load_config` reads back to an equal Config (apart from origins) from the same root."""
    config = relative(config)
    made = {
        name: dataclasses.replace(getattr(config.DataLoader, name), dataset=d) for name, d in config.written.items()
    }
    loaders = dataclasses.replace(config.DataLoader, **made)
    evaluation = {name: _split(part) for name, part in (("Query", loaders.query), ("Gallery", loaders.gallery)) if part}
    values: dict[str, Any] = {
        "Global": _plain(dataclasses.asdict(config.Global)),
        "Arch": arch_block(config.Arch),
        "Loss": {"Train": [{item.name: {"weight": item.weight, **item.args}} for item in config.Loss]},
        "Optimizer": _optimizers(config),
        "DataLoader": {
            **({"Train": _split(loaders.train)} if loaders.train else {}),
            **({"Eval": evaluation} if evaluation else {}),
        },
        "Metric": {"Eval": [{part.name: part.args} for part in config.Metric]},
    }
    for name, block in (("AMP", config.AMP), ("EMA", config.EMA)):
        if block is not None:
            values[name] = _plain(dataclasses.asdict(block))
    if not config.Loss:
        del values["Loss"]
    if not config.Metric:
        del values["Metric"]
    return yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True)


def arch_block(arch: ArchConfig) -> dict[str, Any]:
    """The Arch block as plain values, as `build_rec_model` and a config take it."""
    block: dict[str, Any] = {"name": "RecModel", "Backbone": _named(arch.backbone)}
    if arch.stop_layer is not None:
        block["BackboneStopLayer"] = {"name": arch.stop_layer}
    if arch.neck is not None:
        block["Neck"] = _named(arch.neck)
    if arch.head is not None:
        block["Head"] = _named(arch.head)
    for field in ("head_feature_from", "infer_output_key", "infer_add_softmax", "use_sync_bn"):
        block[field] = getattr(arch, field)
    return _plain(block)


def _named(part: Component) -> dict[str, Any]:
    return {"name": part.name, **part.args}


def _optimizers(config: Config) -> Any:
    if not config.loss_optimizers:
        return _optimizer(config.Optimizer)
    blocks = []
    for part in (config.Optimizer, *config.loss_optimizers):
        block = _optimizer(part)
        blocks.append({block.pop("name"): {"scope": part.scope or "RecModel", **block}})
    return blocks


def _optimizer(part: OptimizerConfig) -> dict[str, Any]:
    block: dict[str, Any] = {"name": part.name, **part.args, "lr": _named(part.lr)}
    if part.regularizer is not None:
        block["regularizer"] = dataclasses.asdict(part.regularizer)
    if part.clip_norm is not None:
        block["clip_norm"] = part.clip_norm
    if part.no_weight_decay_name:
        block["no_weight_decay_name"] = list(part.no_weight_decay_name)
    if part.one_dim_param_no_weight_decay:
        block["one_dim_param_no_weight_decay"] = True
    return block


def _split(part: SplitConfig) -> dict[str, Any]:
    sampler = dataclasses.asdict(part.sampler)
    sampler |= sampler.pop("args")
    return {"dataset": _dataset(part.dataset), "sampler": sampler, "loader": dataclasses.asdict(part.loader)}


def _dataset(part: DatasetConfig) -> dict[str, Any]:
    block = dataclasses.asdict(part)
    block["transform_ops"] = [{op.name: op.args} for op in part.transform_ops]
    return block


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down: YAML's safe writer knows no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
