"""The values that `prepare` writes into a config: class counts, lists, and what depends on the amount of data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shitu_cli.errors import ConfigError
from shitu_cli.inputs.yaml_files import parse_yaml

# By template: how many images two cores can train on in a quarter of an hour (quick) or ten minutes (tuned), and the
# fewest and most epochs.
BUDGETS = {"quick": (480_000, 8, 180), "tuned": (22_000, 4, 40)}
# Images whose shorter side has at most SMALL pixels gain nothing from the tuned template's sizes; they are trained and
# evaluated at SMALL_SIDES instead.
SMALL, SMALL_SIDES = 160, (128, 160)
# Images LARGE times the network's input are decoded at a quarter of their size or less (see data/transforms.py).
LARGE = 6


@dataclass(frozen=True)
class DataFacts:
    """What decides the values; paths are relative to the workspace or absolute, as they go into the config.

    `short_side` is the median of the images, in pixels. `evaluated_before` is False when an earlier prepare left the
    workspace without evaluation lists.
    """

    class_num: int
    train_images: int
    image_root: str
    short_side: int = 0
    train_list: str = "lists/train_list.txt"
    query_list: str | None = "lists/query_list.txt"
    gallery_list: str | None = "lists/gallery_list.txt"
    evaluated_before: bool = True


def class_num_keys(values: Any) -> Iterator[str]:
    """Yield the dotted keys of a config that hold the number of classes."""
    if not isinstance(values, dict):
        return
    arch, loss = values.get("Arch"), values.get("Loss")
    for key, network in _networks(arch):
        if isinstance(network.get("Head"), dict):
            yield f"{key}.Head.class_num"
    items = loss.get("Train") if isinstance(loss, dict) else None
    for number, item in enumerate(items if isinstance(items, list) else []):
        for name, args in item.items() if isinstance(item, dict) else ():
            for key in ("num_classes", "class_num"):
                if isinstance(args, dict) and key in args:
                    yield f"Loss.Train.{number}.{name}.{key}"


def _networks(arch: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (dotted key, block) of the network of an Arch block, or of each of its models."""
    if not isinstance(arch, dict):
        return
    yield "Arch", arch
    models = arch.get("models")
    for number, item in enumerate(models if isinstance(models, list) else []):
        for name, network in item.items() if isinstance(item, dict) else ():
            if isinstance(network, dict):
                yield f"Arch.models.{number}.{name}", network


def adapt_values(text: str, facts: DataFacts, *, template: str | None) -> dict[str, object]:
    """Return the values to patch into the config `text`, by dotted key; `template` names a config that is new.

    Raises ConfigError when the text is not a config with the blocks that need patching.
    """
    values = parse_yaml(text, "shitu.yaml", error=ConfigError)
    if not isinstance(values, dict):
        raise ConfigError("shitu.yaml: expected a mapping with the blocks Global, Arch, Loss, Optimizer and DataLoader")
    patch: dict[str, object] = dict.fromkeys(class_num_keys(values), facts.class_num)
    splits = {"DataLoader.Train": facts.train_list}
    evaluation = (values.get("DataLoader") or {}).get("Eval") or {}
    if "dataset" in evaluation:
        splits["DataLoader.Eval"] = facts.query_list or ""
    else:
        splits |= {f"DataLoader.Eval.{name}": path or "" for name, path in _eval_lists(facts) if name in evaluation}
    for key, path in splits.items():
        if path:
            patch[f"{key}.dataset.image_root"] = facts.image_root
            patch[f"{key}.dataset.cls_label_path"] = path
    if facts.query_list is None and evaluation:
        patch["Global.eval_during_train"] = False
    elif evaluation and not facts.evaluated_before:
        patch["Global.eval_during_train"] = True  # that prepare has turned it off
    if template in BUDGETS:
        images, low, high = BUDGETS[template]
        patch["Global.epochs"] = max(low, min(high, images // max(1, facts.train_images)))
    if template == "tuned" and 0 < facts.short_side <= SMALL:
        patch["DataLoader.Train.dataset.transform_ops.RandCropImage.size"] = SMALL_SIDES[0]
        for key in set(splits) - {"DataLoader.Train"}:
            patch[f"{key}.dataset.transform_ops.ResizeImage.size"] = SMALL_SIDES[1]
        patch["Global.image_shape"] = [3, SMALL_SIDES[1], SMALL_SIDES[1]]
    if template is not None:
        patch |= _fit_batch(values, facts)
        if facts.short_side >= LARGE * max(values["Global"]["image_shape"][1:]):
            patch |= {f"{key}.dataset.transform_ops.DecodeImage.reduced": True for key, path in splits.items() if path}
    return patch


def _eval_lists(facts: DataFacts) -> list[tuple[str, str | None]]:
    return [("Query", facts.query_list), ("Gallery", facts.gallery_list)]


def _fit_batch(values: Any, facts: DataFacts) -> dict[str, object]:
    """Return a batch size that the data can fill.

    It is at most half the images, so that every epoch has steps even with drop_last; and a sampler that draws several
    images of each class gets no more classes than there are.
    """
    sampler = values["DataLoader"]["Train"].get("sampler") or {}
    size = sampler.get("batch_size")
    if not isinstance(size, int):
        return {}
    per_id = sampler.get("sample_per_id", 1)
    fitting = size
    if size * 2 > facts.train_images:
        fitting = max(2, facts.train_images // 2 // per_id * per_id)
        while fitting & (fitting - 1) and per_id == 1:
            fitting &= fitting - 1
    if per_id > 1:
        fitting = max(per_id, min(fitting, facts.class_num * per_id))
    return {} if fitting == size else {"DataLoader.Train.sampler.batch_size": fitting}
