"""YAML to the typed `Config`: every problem at once, each with its line, what was got and what is expected."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shitu_cli.config import components
from shitu_cli.config.places import absolute
from shitu_cli.config.ranges import range_of
from shitu_cli.config.reader import Reader, field_names, show
from shitu_cli.config.schema import (
    AmpConfig,
    ArchConfig,
    Component,
    Config,
    DataLoaderConfig,
    DatasetConfig,
    EmaConfig,
    GlobalConfig,
    LoaderConfig,
    LossItem,
    OptimizerConfig,
    RegularizerConfig,
    SamplerConfig,
    SplitConfig,
)
from shitu_cli.config.source import BLOCKS, Source
from shitu_cli.errors import Command, ConfigError
from shitu_cli.reporting import counted


class ConfigReader(Reader):
    """The blocks of a config, typed."""

    def globals(self, value: Any) -> GlobalConfig:
        block = self.mapping("Global", value, missing_ok=True)
        # What is not supported does no harm while it is off.
        block = {k: v for k, v in block.items() if v or k not in components.GLOBAL_NOT_SUPPORTED}
        known = [field.name for field in dataclasses.fields(GlobalConfig)]
        self.unknown("Global", list(block), [*known, *components.GLOBAL_IGNORED], components.GLOBAL_NOT_SUPPORTED)
        made = self.fields("Global", block, GlobalConfig)
        shape = made.get("image_shape")
        if shape is not None and (len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape)):
            self.problem("Global.image_shape", f"got {list(shape)}, expected [3, height, width]")
            made.pop("image_shape")
        if made.get("feature_binarize") == "round" and made.get("feature_normalize", True):
            self.problem(
                "Global.feature_binarize",
                "round is for features between 0 and 1; at unit length nearly all become 0: use sign, or set "
                "Global.feature_normalize to false",
            )
        return GlobalConfig(**made)

    def arch(self, value: Any) -> ArchConfig | None:
        block = self.mapping("Arch", value)
        if not block:
            return None
        known = ["name", "Backbone", "BackboneStopLayer", "Neck", "Head", *field_names(ArchConfig)]
        self.unknown("Arch", list(block), known, components.ARCH_NOT_SUPPORTED)
        if block.get("name", "RecModel") != "RecModel":
            self.problem("Arch.name", f"got {show(block['name'])}, expected RecModel")
        backbone = self.named("Arch.Backbone", "backbone", block.get("Backbone"))
        neck = self.named("Arch.Neck", "neck", block["Neck"]) if block.get("Neck") else None
        head = self.named("Arch.Head", "head", block["Head"]) if block.get("Head") else None
        stop = self.mapping("Arch.BackboneStopLayer", block.get("BackboneStopLayer"), missing_ok=True)
        made = self.fields("Arch", block, ArchConfig, skip=("backbone", "neck", "head", "stop_layer"))
        if made.get("infer_add_softmax"):
            self.problem("Arch.infer_add_softmax", "got true, but features are exported, not chances: set false")
        if backbone is None:
            return None
        return ArchConfig(backbone=backbone, stop_layer=stop.get("name"), neck=neck, head=head, **made)

    def losses(self, value: Any) -> tuple[LossItem, ...]:
        block = self.mapping("Loss", value, missing_ok=True)
        self.unknown("Loss", list(block), ["Train", "Eval"])
        if "Train" not in block:
            return ()
        items: list[LossItem] = []
        for part in self.listed("Loss.Train", "loss", block["Train"]):
            args = dict(part.args)
            key = f"Loss.Train.{len(items)}.{part.name}.weight"
            weight = self.scalar(key, args.pop("weight", 1.0), float)
            self.within(key, weight, range_of("LossItem", "weight"))
            items.append(LossItem(part.name, 1.0 if weight is None else weight, args))
        return tuple(items)

    def optimizers(self, value: Any, losses: Sequence[LossItem]) -> list[OptimizerConfig]:
        """The network's optimiser, then those of losses: one block, or PaddleClas's list with scopes."""
        if not isinstance(value, list):
            block = dict(self.mapping("Optimizer", value))
            made = self.optimizer("Optimizer", block) if block else None
            return [] if made is None else [made]
        known = {"RecModel", *(item.name for item in losses)}
        found = []
        for number, item in enumerate(value):
            if not isinstance(item, dict) or len(item) != 1:
                self.problem(f"Optimizer.{number}", f"got {show(item)}, expected one entry - Name: {{arguments}}")
                continue
            ((name, args),) = item.items()
            key = f"Optimizer.{number}.{name}"
            block = dict(self.mapping(key, args))
            scope = block.pop("scope", None)
            if scope not in known:
                self.problem(f"{key}.scope", f"got {show(scope)}, expected one of {', '.join(sorted(known))}")
            made = self.optimizer(key, {"name": name, **block})
            if made is not None:
                found.append(dataclasses.replace(made, scope=None if scope == "RecModel" else scope))
        scopes = [made.scope for made in found]
        if len(set(scopes)) < len(scopes):
            self.problem("Optimizer", "two optimisers have the same scope")
        if found and None not in scopes:
            self.problem("Optimizer", "none of the optimisers has the scope RecModel, which is the network")
        return sorted(found, key=lambda made: made.scope is not None)

    def optimizer(self, key: str, block: dict[str, Any]) -> OptimizerConfig | None:
        # How Paddle's schedulers log and restart: nothing that a config decides here.
        block["lr"] = _without(block.get("lr"), "verbose", "last_epoch")
        regularizer = None
        if block.get("regularizer"):
            got = self.mapping(f"{key}.regularizer", block["regularizer"])
            coeff = self.scalar(f"{key}.regularizer.coeff", got.get("coeff"), float)
            self.within(f"{key}.regularizer.coeff", coeff, range_of("RegularizerConfig", "coeff"))
            if got.get("name") not in ("L1", "L2"):
                self.problem(f"{key}.regularizer.name", f"got {show(got.get('name'))}, expected L1 or L2")
            regularizer = RegularizerConfig(str(got.get("name")), coeff or 0.0)
        rate = self.named(f"{key}.lr", "schedule", block.get("lr"))
        if rate is not None and rate.name == "Piecewise" and "learning_rate" in rate.args:
            first = rate.args.pop("learning_rate")
            if first != (rate.args.get("values") or [None])[0]:
                self.problem(f"{key}.lr.learning_rate", f"got {show(first)}, but Piecewise takes its rates from values")
        plain = self.fields(key, block, OptimizerConfig, skip=("name", "lr", "args", "regularizer", "scope"))
        names = plain.get("no_weight_decay_name", ())
        if isinstance(names, str):
            plain["no_weight_decay_name"] = tuple(names.split())
        used = {"name", "lr", "regularizer", *plain}
        args = {name: item for name, item in block.items() if name not in used}
        made = self.component(key, "optimizer", block.get("name"), args)
        if made is None or rate is None:
            return None
        return OptimizerConfig(made.name, rate, made.args, regularizer, **plain)

    def split(self, key: str, value: Any) -> SplitConfig | None:
        block = self.mapping(key, value)
        self.unknown(key, list(block), ["dataset", "sampler", "loader"])
        got = self.mapping(f"{key}.dataset", block.get("dataset"))
        known = [*field_names(DatasetConfig), *components.DATASET_IGNORED]
        self.unknown(f"{key}.dataset", list(got), known, components.DATASET_NOT_SUPPORTED)
        for needed in ("image_root", "cls_label_path"):
            if got and needed not in got:
                self.problem(f"{key}.dataset", f"needs {needed}")
        made = self.fields(f"{key}.dataset", got, DatasetConfig, skip=("transform_ops", "name"))
        made["name"] = str(got.get("name", "ImageNetDataset"))
        if made["name"] not in components.DATASETS:
            self.problem(f"{key}.dataset.name", f"got {made['name']}, expected one of {', '.join(components.DATASETS)}")
        ops = self.listed(f"{key}.dataset.transform_ops", "transform", got.get("transform_ops") or [])
        sampler = dict(self.mapping(f"{key}.sampler", block.get("sampler"), missing_ok=True))
        basics = self.fields(f"{key}.sampler", sampler, SamplerConfig, skip=("args",))
        rest = {name: item for name, item in sampler.items() if name not in basics}
        if "num_instances" in rest:  # the older name
            rest.setdefault("sample_per_id", rest.pop("num_instances"))
        self.component(f"{key}.sampler", "sampler", basics.get("name", "DistributedBatchSampler"), rest)
        loader = self.mapping(f"{key}.loader", block.get("loader"), missing_ok=True)
        self.unknown(f"{key}.loader", list(loader), ["num_workers", *components.LOADER_IGNORED])
        if not {"image_root", "cls_label_path"} <= made.keys():
            return None
        return SplitConfig(
            DatasetConfig(transform_ops=tuple(ops), **made),
            SamplerConfig(**basics, args=rest),
            LoaderConfig(**self.fields(f"{key}.loader", loader, LoaderConfig)),
        )

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

    def metrics(self, value: Any) -> tuple[Component, ...]:
        block = self.mapping("Metric", value, missing_ok=True)
        self.unknown("Metric", list(block), ["Train", "Eval"])
        made = self.listed("Metric.Eval", "metric", block["Eval"]) if block.get("Eval") else []
        for number, part in enumerate(made):
            if part.args.get("descending") not in (None, True):
                self.problem(
                    f"Metric.Eval.{number}.{part.name}.descending",
                    f"got {show(part.args['descending'])}, expected true: similarities are cosines, the largest first",
                )
        return tuple(made)


def _without(block: Any, *names: str) -> Any:
    return {key: value for key, value in block.items() if key not in names} if isinstance(block, dict) else block


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
        flags: Dotted keys with values, stronger than all.
        root: Where relative paths count from; by default the directory of the file.

    Raises ConfigError with all problems in `details`.
    """
    path = Path(path)
    source = Source(path)
    for override in overrides:
        source.override(override)
    for key, value in (flags or {}).items():
        source.set(key, value, f"--{key.rpartition('.')[2].replace('_', '-').replace('learning-rate', 'lr')}")
    reader = ConfigReader(source.origins, str(path))
    values = source.values
    reader.unknown("", list(values), [*BLOCKS, *components.BLOCKS_IGNORED], components.BLOCKS_NOT_SUPPORTED)
    amp = reader.mapping("AMP", values.get("AMP"), missing_ok=True)
    ema = reader.mapping("EMA", values.get("EMA"), missing_ok=True)
    reader.unknown("AMP", list(amp), [*field_names(AmpConfig), "use_promote", "use_fp16_test"])
    reader.unknown("EMA", list(ema), field_names(EmaConfig))
    arch = reader.arch(values.get("Arch"))
    blocks = (reader.globals(values.get("Global")), reader.losses(values.get("Loss")))
    optimizers = reader.optimizers(values.get("Optimizer"), blocks[1])
    loaders, metrics = reader.loaders(values.get("DataLoader")), reader.metrics(values.get("Metric"))
    made_amp = AmpConfig(**reader.fields("AMP", amp, AmpConfig)) if amp else None
    made_ema = EmaConfig(**reader.fields("EMA", ema, EmaConfig)) if ema else None
    problems = source.problems + reader.problems
    if problems or arch is None or not optimizers:
        raise ConfigError(
            f"{path}: {counted(len(problems), 'problem')} in the config",
            details=problems,
            hint=[Command("config"), " shows every value"],
        )
    config = Config(
        blocks[0],
        arch,
        blocks[1],
        optimizers[0],
        loaders,
        metrics,
        made_amp,
        made_ema,
        tuple(optimizers[1:]),
        dict(source.origins),
    )
    return absolute(config, Path(root) if root is not None else path.parent)


def parse_arch(block: Mapping[str, Any]) -> ArchConfig:
    """The Arch block of a config as plain values, typed; raises ConfigError with all problems."""
    reader = ConfigReader({}, "Arch")
    arch = reader.arch(dict(block))
    if reader.problems or arch is None:
        raise ConfigError("Arch: the network is not described well", details=reader.problems)
    return arch
