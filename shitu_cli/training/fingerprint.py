"""Describe a run (data, config, code) in its checkpoints, and judge changes to it on resume.

A change is one of three: it makes resuming wrong (refused), it leads to other bits (listed), or it does not matter
(ignored).
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import shitu_cli
from shitu_cli.config.dump import arch_block, config_values
from shitu_cli.config.schema import Config
from shitu_cli.errors import Command, UsageError
from shitu_cli.files import sha256_of
from shitu_cli.processes.collectives import Ranks

# Prefixes of dotted keys that do not change the resulting weights.
_HARMLESS = (
    "Global.checkpoints",
    "Global.pretrained_model",
    "Global.output_dir",
    "Global.save_interval",
    "Global.print_batch_step",
    "Global.use_visualdl",
    "Global.save_inference_dir",
    "Global.device",
    "Global.eval_",
    "Global.start_eval_epoch",
    "Global.retrieval_feature_from",
    "Global.feature_",
    "Global.re_ranking",
    "DataLoader.Train.loader",
    "DataLoader.Eval",
    "Metric",
    "Arch.infer_",
    "Arch.Backbone.pretrained",
    "Arch.pretrained_list",
)
# Keys that invalidate the saved tensors when they change.
_FATAL = ("Arch.", "Optimizer.name", "Loss", "EMA")
_OTHERS = re.compile(r"Optimizer\.\d+\.\w+\.scope")  # in a list of optimisers; the key contains the class, too
_NETWORK = re.compile(r"Arch\.models\.\d+\.\w+\.")  # of several networks: what holds for one holds for each
_ROUNDING = ("Arch.Head.shard",)  # an exception: the same tensors, only divided differently during training


@dataclass
class Comparison:
    """The changes to a run: `refused` ones make resuming wrong, `listed` ones lead to other bits."""

    refused: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)


def describe_run(
    config: Config, *, train_list: Path, label_map: Path | None, samples: int, class_num: int, world: int, threads: int
) -> dict[str, Any]:
    """Return the fingerprint of a run as JSON-able values."""
    import paddle

    return {
        "version": shitu_cli.__version__,
        "code": code_hash(),
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": threads,
        "world": world,
        "samples": samples,
        "class_num": class_num,
        "train_list": sha256_of(train_list),
        "label_map": sha256_of(label_map) if label_map is not None and label_map.is_file() else None,
        "arch": arch_block(config.Arch),
        "config": flatten(config_values(config)),
    }


def compare_runs(
    saved: Mapping[str, Any], now: Mapping[str, Any], *, mid_epoch: bool, defaults: Collection[str] = ()
) -> Comparison:
    """Return the changes from the run of a checkpoint to this one.

    Keys that the checkpoint lacks do not count if they are among `defaults`: those options were added later.
    """
    result = Comparison()
    if saved.get("label_map") != now.get("label_map") and saved.get("label_map") is not None:
        result.refused.append("lists/label_map.txt changed: the outputs of the head would mean other classes")
    if saved.get("class_num") != now.get("class_num"):
        result.refused.append(
            f"classes in the training list: {saved.get('class_num')} then, {now.get('class_num')} now"
        )
    if saved.get("train_list") != now.get("train_list"):
        text = f"the training list changed ({saved.get('samples')} images then, {now.get('samples')} now)"
        if mid_epoch:
            result.refused.append(f"{text}, and the checkpoint is in the middle of an epoch over the old one")
        else:
            result.listed.append(text)
    for key, label in (("world", "processes"), ("threads", "threads"), ("machine", "machine")):
        if saved.get(key) != now.get(key):
            result.listed.append(f"{label}: {saved.get(key)} then, {now.get(key)} now")
    for key in ("version", "paddle", "numpy", "python"):
        if saved.get(key) != now.get(key):
            result.listed.append(f"{key}: {saved.get(key)} then, {now.get(key)} now")
    if saved.get("teacher") != now.get("teacher") and saved.get("teacher") is not None:
        result.listed.append("the teacher changed: its weights or its preprocessing differ")
    if saved.get("unlabelled") != now.get("unlabelled"):
        result.listed.append("the images without labels changed")
    if saved.get("code") != now.get("code") and saved.get("version") == now.get("version"):
        result.listed.append("the program's source code changed")
    _compare_config(saved.get("config", {}), now.get("config", {}), defaults, result)
    return result


def require_same_everywhere(run: Mapping[str, Any], ranks: Ranks) -> None:
    """Raise UsageError on all processes if one of them, perhaps on another machine, has other data or options."""
    keys = ("version", "class_num", "samples", "train_list", "label_map", "unlabelled", "config")
    first, *others = ranks.gather({key: run.get(key) for key in keys})
    for rank, other in enumerate(others, 1):
        differences = [f"{key}: {first[key]} and {other[key]}" for key in keys[:-1] if first[key] != other[key]]
        mine, theirs = first["config"], other["config"]
        differences += [
            f"{key}: {mine.get(key)!r} and {theirs.get(key)!r}"
            for key in sorted({*mine, *theirs})
            if mine.get(key) != theirs.get(key) and not key.startswith(_HARMLESS)
        ]
        if differences:
            raise UsageError(
                f"processes 0 and {rank} of the run were started with different data or options",
                details=differences,
                hint="every machine needs the same lists, shitu.yaml and options",
            )


def refuse(comparison: Comparison, prefix: Path) -> None:
    """Raise UsageError if a change makes resuming wrong."""
    if comparison.refused:
        raise UsageError(
            f"training cannot continue from {prefix} after these changes",
            details=comparison.refused,
            hint=["undo them, or start a new run from its weights: ", Command("train", "--init-from", prefix)],
        )


def keys_at_default(config: Config) -> set[str]:
    """Return the dotted keys of network, losses, optimiser and run whose values are the defaults, in lower case."""
    keys: set[str] = set()

    def walk(part: Any, prefix: str) -> None:
        for entry in dataclasses.fields(part):
            value, key = getattr(part, entry.name), f"{prefix}.{entry.name}"
            if dataclasses.is_dataclass(value):
                walk(value, key)
            elif entry.default is not dataclasses.MISSING and entry.default == value:
                keys.add(key.lower())

    for number, loss in enumerate(config.Loss):
        walk(loss, f"Loss.Train.{number}.{loss.name}")
    for name in ("Global", "Arch", "Optimizer", "AMP", "EMA"):
        if dataclasses.is_dataclass(part := getattr(config, name)):
            walk(part, name)
    return keys


def _compare_config(
    saved: Mapping[str, Any], now: Mapping[str, Any], defaults: Collection[str], result: Comparison
) -> None:
    for key in sorted(set(saved) | set(now)):
        before, after, kind = saved.get(key), now.get(key), _NETWORK.sub("Arch.", key)
        if before == after or kind.startswith(_HARMLESS) or (key not in saved and kind.lower() in defaults):
            continue
        text = f"{key}: {before!r} then, {after!r} now"
        fatal = (kind.startswith(_FATAL) or bool(_OTHERS.fullmatch(key))) and kind not in _ROUNDING
        (result.refused if fatal else result.listed).append(text)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts and lists as one dict from dotted keys to plain values."""
    if isinstance(value, Mapping) and value:
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        leaf = list(value) if isinstance(value, tuple) else value
        return {prefix: leaf if isinstance(leaf, (str, int, float, bool, list, type(None))) else str(leaf)}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat.update(flatten(item, f"{prefix}.{key}" if prefix else key))
    return flat


def code_hash() -> str:
    """Return one hash over the source files of this program."""
    root = Path(shitu_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
