"""Read YAML into a typed `Config`; report all problems at once, each with its line, its value and what is expected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shitu_cli.config.arguments import several
from shitu_cli.config.distillation import MODEL, check_networks, read_networks
from shitu_cli.config.kinds import fields_of
from shitu_cli.config.other_schemas import refuse_other_schemas
from shitu_cli.config.paddleclas import NOT_READ, as_intended
from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.parts.losses import Loss
from shitu_cli.config.parts.metrics import Metric, TopkAcc
from shitu_cli.config.parts.optimizers import Optimizer
from shitu_cli.config.parts.schedules import Schedule
from shitu_cli.config.places import absolute
from shitu_cli.config.reader import Reader, T, show
from shitu_cli.config.schema import (
    AmpConfig,
    ArchConfig,
    Config,
    DataLoaderConfig,
    DatasetConfig,
    DistillationConfig,
    EmaConfig,
    GlobalConfig,
    LoaderConfig,
    SplitConfig,
)
from shitu_cli.config.scopes import read_optimizers
from shitu_cli.config.source import BLOCKS, ConfigSource
from shitu_cli.config.unsupported import READERS_ELSEWHERE, left_out
from shitu_cli.errors import ARGUMENTS, Command, ConfigError, Message
from shitu_cli.inputs import StrPath
from shitu_cli.reporting import counted

# PaddleClas's reader of CIFAR-10 as files with a list: it prepares the images itself.
CIFAR = "CustomizedCifar10"
CIFAR_OPS = [{"Resize": {"size": [224, 224]}}, {"ToTensor": {}}, {"Normalize": {}}]


class InvalidConfig(ConfigError):
    """A config with problems. `config` holds what could be read; its blocks named in `lacking` are only defaults."""

    def __init__(
        self, path: Path, problems: Sequence[str], removable: Sequence[str], config: Config, lacking: Sequence[str]
    ) -> None:
        text = f"{path}: {counted(len(problems), 'problem')} in the config"
        super().__init__(text, details=problems, hint=_way_out(path, problems, removable))
        self.config, self.lacking = config, tuple(lacking)


class ConfigReader(Reader):
    """Reads the blocks of a config; returns None for those with problems."""

    def plain_block(self, key: str, value: Any, cls: type[T]) -> T | None:
        """Return a block without parts."""
        return self.block(key, self.mapping(key, value, missing_ok=True), cls)

    def networks(self, value: Any, class_num: Any = None) -> tuple[ArchConfig | None, DistillationConfig | None]:
        """Return the network of an Arch block without problems, and the others that it is trained with.

        `class_num` is that of the Global block, for a head without one.
        """
        block = self.mapping("Arch", value)
        before = len(self.problems)
        if block.get("name") == MODEL:
            arch, distillation = read_networks(self, self.network, block)
        else:
            arch, distillation = self.network("Arch", value, class_num), None
        return (arch, distillation) if len(self.problems) == before else (None, None)

    def network(self, key: str, value: Any, class_num: Any = None) -> ArchConfig | None:
        """Return one network: a whole Arch block, or an entry of the models of several."""
        block = dict(self.mapping(key, value))
        if not block:
            return None
        keys = ("name", "Backbone", "BackboneStopLayer", "Neck", "Head", *fields_of(ArchConfig), *ArchConfig.ignored)
        self.unknown(key, block, keys)
        if block.pop("name", "RecModel") != "RecModel":
            if self.explained(f"{key}.name", value["name"]):
                return None
            self.problem(f"{key}.name", f"got {show(value['name'])}, expected RecModel (or {MODEL} for several)")
        backbone = self.named(f"{key}.Backbone", "backbone", block.pop("Backbone", None))
        head = block.get("Head")
        if isinstance(head, dict) and head and class_num is not None:
            block["Head"] = {"class_num": block.get("class_num", class_num), **head}
        parts = {
            name.lower(): self.named(f"{key}.{name}", name.lower(), block[name])
            for name in ("Neck", "Head")
            if block.get(name)
        }
        stopping = self.mapping(f"{key}.BackboneStopLayer", block.get("BackboneStopLayer"), missing_ok=True)
        self.unknown(f"{key}.BackboneStopLayer", stopping, ("name", "output_dim"))
        stop = stopping.get("name")
        if not isinstance(stop, (str, type(None))):
            self.problem(f"{key}.BackboneStopLayer.name", f"got {show(stop)}, expected the name of a layer")
        rest = {name: item for name, item in block.items() if name in fields_of(ArchConfig)}
        return self.block(key, rest, ArchConfig, backbone=backbone, stop_layer=stop, **parts)

    def losses(self, value: Any) -> tuple[Loss, ...]:
        block = self.mapping("Loss", value, missing_ok=True)
        self.unknown("Loss", block, ["Train", "Eval"])
        self.names("Loss.Eval", "loss", block.get("Eval") or [])
        return tuple(self.listed("Loss.Train", "loss", block["Train"])) if "Train" in block else ()

    def split(self, key: str, value: Any) -> SplitConfig | None:
        block = self.mapping(key, value)
        self.unknown(key, block, ["dataset", "sampler", "loader"])
        listed = dict(self.mapping(f"{key}.dataset", block.get("dataset")))
        reader = str(listed.get("name"))
        if reader == CIFAR and {"image_root", "cls_label_path"} <= listed.keys():
            listed = {"transform_ops": CIFAR_OPS, **listed, "name": "ImageNetDataset"}
            listed.pop("mode", None)
        elif reader in READERS_ELSEWHERE:
            advice = READERS_ELSEWHERE[reader]
            if reader == CIFAR:
                advice += f": -o {key}.dataset.image_root=FOLDER -o {key}.dataset.cls_label_path=LIST"
            self.problem(f"{key}.dataset.name", f"{reader}: this reader exists in PaddleClas, but not here: {advice}")
            listed = {"transform_ops": listed.get("transform_ops")}  # the problems of these are told all the same
        ops = self.listed(f"{key}.dataset.transform_ops", "transform", listed.pop("transform_ops", None) or [])
        named = {"name": "ImageNetDataset", **listed}
        dataset = self.block(f"{key}.dataset", named, DatasetConfig, transform_ops=tuple(ops)) if listed else None
        sampler = {"name": "DistributedBatchSampler", **self.mapping(f"{key}.sampler", block.get("sampler") or {})}
        batches = self.named(f"{key}.sampler", "sampler", sampler)
        loader = self.plain_block(f"{key}.loader", block.get("loader"), LoaderConfig)
        if dataset is None or batches is None or loader is None:
            return None
        return SplitConfig(dataset, batches, loader)

    def loaders(self, value: Any) -> DataLoaderConfig:
        block = self.mapping("DataLoader", value, missing_ok=True)
        self.unknown("DataLoader", block, ["Train", "Eval"])
        train = self.split("DataLoader.Train", block["Train"]) if block.get("Train") else None
        evaluation = self.mapping("DataLoader.Eval", block.get("Eval"), missing_ok=True)
        if "dataset" in evaluation:  # PaddleClas's short form: query and gallery are one list
            split = self.evaluated("DataLoader.Eval", evaluation)
            return DataLoaderConfig(train, split, split)
        self.unknown("DataLoader.Eval", evaluation, ["Query", "Gallery"])
        query, gallery = (
            self.evaluated(f"DataLoader.Eval.{name}", evaluation[name]) if evaluation.get(name) else None
            for name in ("Query", "Gallery")
        )
        # As in PaddleClas, a list that is there alone is both.
        return DataLoaderConfig(train, query or gallery, gallery or query)

    def evaluated(self, key: str, value: Any) -> SplitConfig | None:
        split = self.split(key, value)
        if split is not None and split.dataset.relabel:
            self.problem(
                f"{key}.dataset.relabel",
                "got true, which would number each list on its own, so that query and gallery would not match. "
                "Remove it: labels may have gaps here",
            )
        return split

    def metrics(self, value: Any) -> tuple[tuple[Metric, ...], tuple[TopkAcc, ...]]:
        """Return the metrics of evaluations, and those of training: the accuracy of the head."""
        block = self.mapping("Metric", value, missing_ok=True)
        self.unknown("Metric", block, ["Train", "Eval"])
        of_training = []
        for place, part in self.listed_at("Metric.Train", "metric", block.get("Train") or []):
            if isinstance(part, TopkAcc):
                of_training.append(part)
            else:
                self.problem(place, "training measures only TopkAcc, on its own batches")
        return tuple(self.listed("Metric.Eval", "metric", block.get("Eval") or [])), tuple(of_training)

    def optional(self, key: str, value: Any, cls: type[T]) -> T | None:
        return self.plain_block(key, value, cls) if value is not None else None


def load_config(
    path: StrPath,
    overrides: str | Sequence[str] = (),
    *,
    flags: Mapping[str, object] | None = None,
    root: StrPath | None = None,
) -> Config:
    """Read a config file and return it typed, with absolute paths.

    Args:
        path: A YAML file in PaddleClas's recognition schema, such as a workspace's shitu.yaml.
        overrides: `Key.path=value` texts, stronger than the file.
        flags: Dotted keys with values, stronger than all; None leaves a value as it is. `Loss.Train.+NAME.key` adds
            the entry NAME to that list if it has none.
        root: The folder to which relative paths refer; by default that of the file.

    Raises InvalidConfig with all problems in `details`.
    """
    path = Path(path)
    source = ConfigSource(path)
    given = {source.ensure(key): value for key, value in (flags or {}).items() if value is not None}
    for override in several(overrides):
        source.override(override)
    for key, value in given.items():
        source.set(key, value, f"--{key.rpartition('.')[2].replace('_', '-').replace('learning-rate', 'lr')}")
    values = source.values
    refuse_other_schemas(path, values)
    reader = ConfigReader(source.origins, str(path), source.former)
    reader.unknown("", values, [*BLOCKS, *NOT_READ])
    general = reader.plain_block("Global", values.get("Global"), GlobalConfig)
    whole = values.get("Global")
    class_num = whole.get("class_num") if isinstance(whole, dict) else None
    arch, distillation = reader.networks(values.get("Arch"), class_num)
    losses = reader.losses(values.get("Loss"))
    optimizers = read_optimizers(reader, values.get("Optimizer"), [loss.name for loss in losses])
    loaders, (metrics, train_metrics) = reader.loaders(values.get("DataLoader")), reader.metrics(values.get("Metric"))
    amp = reader.optional("AMP", values.get("AMP") or None, AmpConfig)  # an empty block is off, as in PaddleClas
    ema = reader.optional("EMA", values.get("EMA"), EmaConfig)
    if arch is not None:
        check_networks(reader, losses, arch, distillation)
    config = Config(
        Global=general or GlobalConfig(),
        Arch=arch or ArchConfig(Backbone()),
        Loss=losses,
        Optimizer=optimizers[0] if optimizers else Optimizer(lr=Schedule()),
        DataLoader=loaders,
        Metric=metrics,
        train_metrics=train_metrics,
        AMP=amp,
        EMA=ema,
        Distillation=distillation,
        loss_optimizers=tuple(optimizers[1:]),
        origins=dict(source.origins),
    )
    config = as_intended(absolute(config, Path(root) if root is not None else path.parent), values, reader.ignored)
    config = dataclasses.replace(config, notes=(*source.notes(), *config.notes))
    problems = source.problems + reader.problems
    lacking = [name for name, block in (("Global", general), ("Arch", arch)) if block is None]
    if problems or lacking or not optimizers:
        raise InvalidConfig(path, problems, reader.removable, config, lacking)
    return config


def _way_out(path: Path, problems: Sequence[str], removable: Sequence[str]) -> Message:
    """Return the hint for a config with problems: a command that works although these are not fixed yet."""
    if removable:
        others = "" if len(removable) == len(problems) else ", and correct the other places"
        return ["leave out what this program does not do: ", Command("train", *left_out(removable)), others]
    if all(problem.startswith("-") for problem in problems):  # all of them in options: the file itself is valid
        return [Command("config", without=("--override", ARGUMENTS)), " shows every key with its value"]
    return [
        "correct these places; ",
        Command("templates", "quick"),
        f" shows a valid config to compare {path.name} with",
    ]


def parse_arch(block: Mapping[str, Any]) -> ArchConfig:
    """Return an Arch block of plain values as a typed one; raise ConfigError with all problems."""
    reader = ConfigReader({}, "")
    arch = reader.network("Arch", dict(block))
    if reader.problems or arch is None:
        first, *others = reader.problems or ["Arch.Backbone: missing"]
        raise ConfigError(first, details=others)
    return arch
