"""Refuse files that are no training configs, with the commands that do here what they are for there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shitu_cli.errors import Command, ConfigError, Message

_TRAINING = ("Loss", "Optimizer", "DataLoader")  # blocks that training needs
_GIVEN = ("--config", "--override")  # options of the command that was called with such a file
# Keys of a module's Train block in PaddleX, and the options of `shitu train` that say the same.
_TRAIN = {"epochs_iters": "--epochs", "batch_size": "--batch-size", "learning_rate": "--lr"}


def refuse_other_schemas(path: Path, values: Mapping[str, Any]) -> None:
    """Raise ConfigError for a module config or a pipeline of PaddleX, and for those of PaddleClas that do not train."""
    general, gallery = _block(values, "Global"), _block(values, "IndexProcess").get("image_root")
    if "IndexProcess" in values and "Arch" in values and not any(values.get(name) for name in _TRAINING):
        raise ConfigError(
            f"{path} is for PaddleClas's Gallery2FC, which does not train: it makes a classifier of the images of a "
            "gallery",
            hint=_as_search(gallery, None),
        )
    if "Arch" in values:
        return
    if "model" in general and "dataset_dir" in general:
        raise ConfigError(
            f"{path} is a config of PaddleX, which says only what changes in the recipe of {general['model']}",
            hint=_as_commands(general, _block(values, "Train")),
        )
    if "SubModules" in values or "pipeline_name" in values:
        raise ConfigError(f"{path} is a pipeline of PaddleX, not a training config", hint=_as_search(None, None))
    if "RecPreProcess" in values or "rec_inference_model_dir" in general:
        raise ConfigError(
            f"{path} is a config of PaddleClas's deployment, not a training config",
            hint=_as_search(gallery, general.get("rec_inference_model_dir")),
        )


def _block(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    block = values.get(name)
    return block if isinstance(block, dict) else {}


def _as_commands(general: Mapping[str, Any], train: Mapping[str, Any]) -> Message:
    words = [word for key, option in _TRAIN.items() if key in train for word in (option, train[key])]
    return [
        "give its values as options: ",
        Command("prepare", general["dataset_dir"], "--template", "general_v2"),
        ", then ",
        Command("train", *words, without=_GIVEN),
        "; the whole config that PaddleX writes beside its results (config.yaml) is read as it is",
    ]


def _as_search(gallery: Any, model: Any) -> Message:
    index = Command("index build", gallery or "GALLERY", "--model", model or "MODEL", without=_GIVEN)
    return ["give what it says as options: ", index, ", then ", Command("search", "IMAGE", without=_GIVEN)]
