"""YAML to the typed `Config`: every problem at once, each with its line, what was got and what is expected."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shitu_cli.config.kinds import fields_of
from shitu_cli.config.parts.losses import Loss
from shitu_cli.config.parts.metrics import Metric
from shitu_cli.config.parts.optimizers import Optimizer
from shitu_cli.config.places import absolute
from shitu_cli.config.reader import Reader, T, show
from shitu_cli.config.schema import (
    AmpConfig,
    ArchConfig,
    Config,
    DataLoaderConfig,
    DatasetConfig,
    EmaConfig,
    GlobalConfig,
    LoaderConfig,
    SplitConfig,
)
from shitu_cli.config.source import BLOCKS, Source
from shitu_cli.errors import Command, ConfigError
from shitu_cli.reporting import counted

BLOCKS_NOT_SUPPORTED = ("Slim", "DistillationModel")
BLOCKS_IGNORED = ("Infer", "PostProcess", "profiler_options")


class ConfigReader(Reader):
    """The blocks of a config, typed; None for those that are beyond use."""

    def plain_block(self, key: str, value: Any, cls: type[T]) -> T | None:
        """A block without parts in it; what PaddleClas has and is not supported here does no harm while it is off."""
        block = self.mapping(key, value, missing_ok=True)
        return self.block(key, {k: v for k, v in block.items() if v or k not in cls.not_supported}, cls)

    def arch(self, value: Any) -> ArchConfig | None:
        block = dict(self.mapping("Arch", value))
        if not block:
            return None
        known = ("name", "Backbone", "BackboneStopLayer", "Neck", "Head", *fields_of(ArchConfig))
        self.unknown("Arch", list(block), known, ArchConfig.not_supported)
        if block.pop("name", "RecModel") != "RecModel":
            self.problem("Arch.name", f"got {show(value['name'])}, expected RecModel")
        backbone = self.named("Arch.Backbone", "backbone", block.pop("Backbone", None))
        parts = {
            name.lower(): self.named(f"Arch.{name}", name.lower(), block[name])
            for name in ("Neck", "Head")
            if block.get(name)
        }
        stop = self.mapping("Arch.BackboneStopLayer", block.get("BackboneStopLayer"), missing_ok=True).get("name")
        if not isinstance(stop, (str, type(None))):
            self.problem("Arch.BackboneStopLayer.name", f"got {show(stop)}, expected the name of a layer")
        rest = {key: item for key, item in block.items() if key in fields_of(ArchConfig)}
        return self.block("Arch", rest, ArchConfig, backbone=backbone, stop_layer=stop, **parts)

    def losses(self, value: Any) -> tuple[Loss, ...]:
        block = self.mapping("Loss", value, missing_ok=True)
        self.unknown("Loss", list(block), ["Train", "Eval"])
        return tuple(self.listed("Loss.Train", "loss", block["Train"])) if "Train" in block else ()

    def optimizers(self, value: Any, losses: Sequence[str]) -> list[Optimizer]:
        """The network's optimiser, then those of `losses`: one block, or PaddleClas's list with scopes."""
        if not isinstance(value, list):
            made = self.named("Optimizer", "optimizer", value)
            return [] if made is None else [made]
        found: list[Optimizer] = []
        for number, item in enumerate(value):
            if not isinstance(item, dict) or len(item) != 1:
                self.problem(f"Optimizer.{number}", f"got {show(item)}, expected one entry - Name: {{arguments}}")
                continue
            ((name, args),) = item.items()
            key = f"Optimizer.{number}.{name}"
            block = dict(self.mapping(key, args))
            scope = block.pop("scope", None)
            if scope not in ("RecModel", *losses):
                expected = ", ".join(sorted(("RecModel", *losses)))
                self.problem(f"{key}.scope", f"got {show(scope)}, expected one of {expected}")
            scope = None if scope == "RecModel" else scope
            made = self.named(key, "optimizer", {"name": name, **block}, scope=scope)
            if made is not None:
                found.append(made)
        scopes = [made.scope for made in found]
        if len(set(scopes)) < len(scopes):
            self.problem("Optimizer", "two optimisers have the same scope")
        if found and None not in scopes:
            self.problem("Optimizer", "none of the optimisers has the scope RecModel, which is the network")
        return sorted(found, key=lambda made: made.scope is not None)

    def split(self, key: str, value: Any) -> SplitConfig | None:
        block = self.mapping(key, value)
        self.unknown(key, list(block), ["dataset", "sampler", "loader"])
        listed = dict(self.mapping(f"{key}.dataset", block.get("dataset")))
        ops = self.listed(f"{key}.dataset.transform_ops", "transform", listed.pop("transform_ops", None) or [])
        named = {"name": "ImageNetDataset", **listed}
        dataset = self.block(f"{key}.dataset", named, DatasetConfig, transform_ops=tuple(ops)) if listed else None
        sampler = {"name": "DistributedBatchSampler", **self.mapping(f"{key}.sampler", block.get("sampler") or {})}
        made = self.named(f"{key}.sampler", "sampler", sampler)
        loader = self.plain_block(f"{key}.loader", block.get("loader"), LoaderConfig)
        if dataset is None or made is None or loader is None:
            return None
        return SplitConfig(dataset, made, loader)

    def loaders(self, value: Any) -> DataLoaderConfig:
        block = self.mapping("DataLoader", value, missing_ok=True)
        self.unknown("DataLoader", list(block), ["Train", "Eval"])
        train = self.split("DataLoader.Train", block["Train"]) if block.get("Train") else None
        evaluation = self.mapping("DataLoader.Eval", block.get("Eval"), missing_ok=True)
        if "dataset" in evaluation:  # PaddleClas's short form: query and gallery are one list
            both = self.evaluated("DataLoader.Eval", evaluation)
            return DataLoaderConfig(train, both, both)
        self.unknown("DataLoader.Eval", list(evaluation), ["Query", "Gallery"])
        query, gallery = (
            self.evaluated(f"DataLoader.Eval.{name}", evaluation[name]) if evaluation.get(name) else None
            for name in ("Query", "Gallery")
        )
        return DataLoaderConfig(train, query, gallery)

    def evaluated(self, key: str, value: Any) -> SplitConfig | None:
        made = self.split(key, value)
        if made is not None and made.dataset.relabel:
            self.problem(
                f"{key}.dataset.relabel",
                "got true, which would number the labels of each list by itself: query and gallery would not match. "
                "Take it out: labels need not be dense here",
            )
        return made

    def metrics(self, value: Any) -> tuple[Metric, ...]:
        block = self.mapping("Metric", value, missing_ok=True)
        self.unknown("Metric", list(block), ["Train", "Eval"])
        return tuple(self.listed("Metric.Eval", "metric", block["Eval"])) if block.get("Eval") else ()

    def optional(self, key: str, value: Any, cls: type[T]) -> T | None:
        return self.plain_block(key, value, cls) if value is not None and value != {} else None


def load_config(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    flags: Mapping[str, object] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Config:
    """Read a config file; its paths come back absolute.

    Args:
        path: A YAML file in PaddleClas's recognition schema, such as a workspace's shitu.yaml.
        overrides: `Key.path=value` texts, stronger than the file.
        flags: Dotted keys with values, stronger than all; None leaves a value as it is.
        root: Where relative paths count from; by default the directory of the file.

    Raises ConfigError with all problems in `details`.
    """
    path = Path(path)
    source = Source(path)
    for override in overrides:
        source.override(override)
    for key, value in (flags or {}).items():
        if value is not None:
            source.set(key, value, f"--{key.rpartition('.')[2].replace('_', '-').replace('learning-rate', 'lr')}")
    reader = ConfigReader(source.origins, str(path))
    values = source.values
    reader.unknown("", list(values), [*BLOCKS, *BLOCKS_IGNORED], BLOCKS_NOT_SUPPORTED)
    general = reader.plain_block("Global", values.get("Global"), GlobalConfig)
    arch = reader.arch(values.get("Arch"))
    losses = reader.losses(values.get("Loss"))
    optimizers = reader.optimizers(values.get("Optimizer"), [loss.name for loss in losses])
    loaders, metrics = reader.loaders(values.get("DataLoader")), reader.metrics(values.get("Metric"))
    amp = reader.optional("AMP", values.get("AMP"), AmpConfig)
    ema = reader.optional("EMA", values.get("EMA"), EmaConfig)
    problems = source.problems + reader.problems
    if problems or general is None or arch is None or not optimizers:
        raise ConfigError(
            f"{path}: {counted(len(problems), 'problem')} in the config",
            details=problems,
            hint=[Command("config"), " shows every value"],
        )
    config = Config(general, arch, losses, optimizers[0], loaders, metrics, amp, ema, tuple(optimizers[1:]))
    config = dataclasses.replace(config, origins=dict(source.origins))
    return absolute(config, Path(root) if root is not None else path.parent)


def parse_arch(block: Mapping[str, Any]) -> ArchConfig:
    """The Arch block of a config as plain values, typed; raises ConfigError with all problems."""
    reader = ConfigReader({}, "")
    arch = reader.arch(dict(block))
    if reader.problems or arch is None:
        first, *others = reader.problems or ["Arch.Backbone: missing"]
        raise ConfigError(first, details=others)
    return arch
