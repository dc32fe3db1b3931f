"""YAML to the typed `Config`: every problem at once, each with its line, what was got and what is expected."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from shitu_cli.config import components
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
from shitu_cli.errors import ConfigError

POSITIVE = {"epochs", "batch_size", "class_num", "save_interval", "eval_interval", "update_freq", "embedding_size"}
POSITIVE |= {"sample_per_id", "num_features", "iter_per_epoch"}
CHOICES: dict[str, tuple[str, ...]] = {
    "Global.eval_mode": ("retrieval",),
    "Global.retrieval_feature_from": ("features", "backbone"),
    "Global.feature_binarize": ("round", "sign"),
    "Arch.head_feature_from": ("neck", "backbone"),
    "AMP.level": ("O1", "O2"),
    "AMP.dtype": ("float16", "bfloat16"),
}


class Reader:
    """Walks plain values, collects problems, and returns typed blocks (or None where they are beyond use)."""

    def __init__(self, origins: Mapping[str, str], file: str) -> None:
        self.origins, self.file = origins, file
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        where, at = key, self.origins.get(key)
        if at is None or not at.startswith("-"):  # a part of it may have been given on the command line
            given = (o for k, o in self.origins.items() if k.startswith(f"{key}.") and o.startswith("-"))
            at = next(given, at)
        while at is None and "." in where:
            where = where.rpartition(".")[0]
            at = self.origins.get(where)
        at = at or self.file
        # An override is named by its flag, which holds the key already.
        self.problems.append(f"{at}: {text}" if at.startswith("-") and key in at else f"{at}: {key}: {text}")

    def mapping(self, key: str, value: Any, *, missing_ok: bool = False) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if value is None and missing_ok:
            return {}
        self.problem(key, "missing" if value is None else f"got {_show(value)}, expected a block of keys")
        return {}

    def unknown(self, key: str, names: Sequence[str], known: Collection[str], elsewhere: Sequence[str] = ()) -> None:
        """Report names that are not known; those of PaddleClas that have no counterpart are called so."""
        for name in names:
            if name in known:
                continue
            dotted = f"{key}.{name}" if key else name
            if name in elsewhere:
                self.problem(dotted, "PaddleClas has this, it is not supported here: take it out")
            else:
                close = difflib.get_close_matches(name, list(known), n=1)
                self.problem(dotted, "unknown key" + (f" (did you mean {close[0]}?)" if close else ""))

    def scalar(self, key: str, value: Any, kind: Any) -> Any:
        """`value` checked against a dataclass field's type; None where it does not fit."""
        allowed = _members(kind)
        name = key.rpartition(".")[2]
        if value is None and type(None) in allowed:
            return None
        if allowed == [bool] and isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if isinstance(value, bool) and bool not in allowed:
            if str in allowed and value is False and type(None) in allowed:
                return None  # `pretrained_model: False` is how some files say none
            self.problem(key, f"got {_show(value)}, expected {_expected(allowed)}")
            return None
        if float in allowed and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        elif tuple in allowed and isinstance(value, list):
            return tuple(value)
        elif not isinstance(value, tuple(allowed)):
            self.problem(key, f"got {_show(value)}, expected {_expected(allowed)}")
            return None
        if name in POSITIVE and isinstance(value, (int, float)) and value < 1:
            self.problem(key, f"got {value}, expected a number of at least 1")
        if key in CHOICES and value not in CHOICES[key]:
            close = difflib.get_close_matches(str(value), CHOICES[key], n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            self.problem(key, f"got {_show(value)}, expected one of {', '.join(CHOICES[key])}{guess}")
        return value

    def fields(self, key: str, values: dict[str, Any], cls: type, skip: Sequence[str] = ()) -> dict[str, Any]:
        """Arguments for the dataclass `cls` from the keys that are its fields."""
        hints = typing.get_type_hints(cls)
        found = {}
        for field in dataclasses.fields(cls):
            if field.name in values and field.name not in skip:
                value = self.scalar(f"{key}.{field.name}", values[field.name], hints[field.name])
                if value is not None or type(None) in _members(hints[field.name]):
                    found[field.name] = value
        return found

    def component(self, key: str, kind: str, name: Any, args: dict[str, Any]) -> Component | None:
        """A component of `kind` (see components.SPECS) with its argument names checked."""
        table = components.SPECS[kind]
        if not isinstance(name, str) or name not in table:
            elsewhere = components.NOT_SUPPORTED.get(kind, ())
            if name is None:
                self.problem(key, "name: missing")
            elif name in elsewhere:
                self.problem(key, f"{name}: PaddleClas has this {kind}, it is not supported here")
            else:
                close = difflib.get_close_matches(str(name), list(table), n=1)
                guess = f" (did you mean {close[0]}?)" if close else ""
                self.problem(key, f"got {_show(name)}, expected one of the {len(table)} {kind}s known{guess}")
            return None
        known = table[name]
        self.unknown(key, list(args), known)
        for argument, required in known.items():
            if required and argument not in args:
                self.problem(key, f"{name} needs {argument}")
        for argument, value in args.items():
            if argument in POSITIVE and argument in known:
                self.scalar(f"{key}.{argument}", value, int)
        return Component(name, dict(args))

    def named(self, key: str, kind: str, value: Any) -> Component | None:
        """A `{name: X, argument: ...}` block."""
        block = dict(self.mapping(key, value))
        if not block:
            return None
        return self.component(key, kind, block.pop("name", None), block)

    def listed(self, key: str, kind: str, value: Any) -> list[Component]:
        """A list of `- Name: {arguments}` entries."""
        if not isinstance(value, list):
            self.problem(key, f"got {_show(value)}, expected a list of - Name: {{arguments}}")
            return []
        found = []
        for number, item in enumerate(value):
            if isinstance(item, str):
                item = {item: None}
            if not isinstance(item, dict) or len(item) != 1:
                self.problem(f"{key}.{number}", f"got {_show(item)}, expected one entry - Name: {{arguments}}")
                continue
            ((name, args),) = item.items()
            made = self.component(
                f"{key}.{number}.{name}", kind, name, self.mapping(f"{key}.{number}.{name}", args, missing_ok=True)
            )
            if made is not None:
                found.append(made)
        return found

    # ------------------------------------------------------------------------------------------- blocks

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
        return GlobalConfig(**made)

    def arch(self, value: Any) -> ArchConfig | None:
        block = self.mapping("Arch", value)
        if not block:
            return None
        known = ["name", "Backbone", "BackboneStopLayer", "Neck", "Head", *_field_names(ArchConfig)]
        self.unknown("Arch", list(block), known, components.ARCH_NOT_SUPPORTED)
        if block.get("name", "RecModel") != "RecModel":
            self.problem("Arch.name", f"got {_show(block['name'])}, expected RecModel")
        backbone = self.named("Arch.Backbone", "backbone", block.get("Backbone"))
        neck = self.named("Arch.Neck", "neck", block["Neck"]) if block.get("Neck") else None
        head = self.named("Arch.Head", "head", block["Head"]) if block.get("Head") else None
        stop = self.mapping("Arch.BackboneStopLayer", block.get("BackboneStopLayer"), missing_ok=True)
        made = self.fields("Arch", block, ArchConfig, skip=("backbone", "neck", "head", "stop_layer"))
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
            weight = self.scalar(f"Loss.Train.{len(items)}.{part.name}.weight", args.pop("weight", 1.0), float)
            items.append(LossItem(part.name, 1.0 if weight is None else weight, args))
        return tuple(items)

    def optimizer(self, value: Any) -> OptimizerConfig | None:
        if isinstance(value, list):
            self.problem(
                "Optimizer",
                "PaddleClas's list of optimisers by scope is not supported here: write the network's one as a block; "
                "it trains the losses' centres too",
            )
            return None
        block = dict(self.mapping("Optimizer", value))
        if not block:
            return None
        # How Paddle's schedulers log and restart: nothing that a config decides here.
        block["lr"] = _without(block.get("lr"), "verbose", "last_epoch")
        regularizer = None
        if block.get("regularizer"):
            got = self.mapping("Optimizer.regularizer", block["regularizer"])
            coeff = self.scalar("Optimizer.regularizer.coeff", got.get("coeff"), float)
            if got.get("name") not in ("L1", "L2"):
                self.problem("Optimizer.regularizer.name", f"got {_show(got.get('name'))}, expected L1 or L2")
            regularizer = RegularizerConfig(str(got.get("name")), coeff or 0.0)
        rate = self.named("Optimizer.lr", "schedule", block.get("lr"))
        plain = self.fields("Optimizer", block, OptimizerConfig, skip=("name", "lr", "args", "regularizer"))
        names = plain.get("no_weight_decay_name", ())
        if isinstance(names, str):
            plain["no_weight_decay_name"] = tuple(names.split())
        used = {"name", "lr", "regularizer", *plain}
        args = {key: item for key, item in block.items() if key not in used}
        made = self.component("Optimizer", "optimizer", block.get("name"), args)
        if made is None or rate is None:
            return None
        return OptimizerConfig(made.name, rate, made.args, regularizer, **plain)

    def split(self, key: str, value: Any) -> SplitConfig | None:
        block = self.mapping(key, value)
        self.unknown(key, list(block), ["dataset", "sampler", "loader"])
        got = self.mapping(f"{key}.dataset", block.get("dataset"))
        known = [*_field_names(DatasetConfig), *components.DATASET_IGNORED]
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
            both = self.split("DataLoader.Eval", evaluation)
            return DataLoaderConfig(train, both, both)
        self.unknown("DataLoader.Eval", list(evaluation), ["Query", "Gallery"])
        query, gallery = (
            self.split(f"DataLoader.Eval.{name}", evaluation[name]) if evaluation.get(name) else None
            for name in ("Query", "Gallery")
        )
        return DataLoaderConfig(train, query, gallery)

    def metrics(self, value: Any) -> tuple[Component, ...]:
        block = self.mapping("Metric", value, missing_ok=True)
        self.unknown("Metric", list(block), ["Train", "Eval"])
        return tuple(self.listed("Metric.Eval", "metric", block["Eval"])) if block.get("Eval") else ()


def _without(block: Any, *names: str) -> Any:
    return {key: value for key, value in block.items() if key not in names} if isinstance(block, dict) else block


def _members(kind: Any) -> list[type]:
    """The plain types of an annotation such as `int | None` or `tuple[str, ...]`."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return [member for argument in typing.get_args(kind) for member in _members(argument)]
    origin = typing.get_origin(kind)
    if origin is tuple:
        return [tuple, str] if str in typing.get_args(kind) else [tuple]
    return [origin or kind]


def _expected(allowed: Sequence[type]) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "a list"}
    return " or ".join(words[kind] for kind in allowed if kind in words) or "null"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _field_names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def load_config(path: Path, overrides: Sequence[str] = (), *, flags: Mapping[str, object] | None = None) -> Config:
    """Read a config file; `overrides` are `Key.path=value` texts, `flags` dotted keys with values (strongest).

    Raises ConfigError with all problems in `details`.
    """
    path = Path(path)
    source = Source(path)
    for override in overrides:
        source.override(override)
    for key, value in (flags or {}).items():
        source.set(key, value, f"--{key.rpartition('.')[2].replace('_', '-').replace('learning-rate', 'lr')}")
    reader = Reader(source.origins, str(path))
    values = source.values
    reader.unknown("", list(values), [*BLOCKS, *components.BLOCKS_IGNORED], components.BLOCKS_NOT_SUPPORTED)
    amp = reader.mapping("AMP", values.get("AMP"), missing_ok=True)
    ema = reader.mapping("EMA", values.get("EMA"), missing_ok=True)
    reader.unknown("AMP", list(amp), [*_field_names(AmpConfig), "use_promote", "use_fp16_test"])
    reader.unknown("EMA", list(ema), _field_names(EmaConfig))
    arch = reader.arch(values.get("Arch"))
    optimizer = reader.optimizer(values.get("Optimizer"))
    blocks = (reader.globals(values.get("Global")), reader.losses(values.get("Loss")))
    loaders, metrics = reader.loaders(values.get("DataLoader")), reader.metrics(values.get("Metric"))
    made_amp = AmpConfig(**reader.fields("AMP", amp, AmpConfig)) if amp else None
    made_ema = EmaConfig(**reader.fields("EMA", ema, EmaConfig)) if ema else None
    problems = source.problems + reader.problems
    if problems or arch is None or optimizer is None:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise ConfigError(f"{path}: {count} in the config", details=problems, hint="shitu config shows every value")
    return Config(blocks[0], arch, blocks[1], optimizer, loaders, metrics, made_amp, made_ema, dict(source.origins))


def parse_arch(block: Mapping[str, Any]) -> ArchConfig:
    """The Arch block of a config as plain values, typed; raises ConfigError with all problems."""
    reader = Reader({}, "Arch")
    arch = reader.arch(dict(block))
    if reader.problems or arch is None:
        raise ConfigError("Arch: the network is not described well", details=reader.problems)
    return arch


def resolve_path(base_dir: Path, value: str) -> Path:
    """A path of the config: relative ones count from the workspace, wherever the command is given."""
    path = Path(value).expanduser()
    return path if path.is_absolute() else Path(base_dir) / path
