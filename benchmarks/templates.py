"""The templates beside other values: recall of both from the same random start, small enough for two cores.

    python benchmarks/templates.py DATA [--templates logo,product] [--size 64] [--epochs 32] [--seeds 3]

DATA is anything that `shitu prepare` reads. Each template trains with its own values, and with those of `OTHERS`: the
ones in which `general_v1` and `general_v2` differ from PaddleClas's recipes (docs/paddleclas.md), and what earlier
versions of the recipes of `logo`, `product` and `vehicle_reid` had. Both have the network PPLCNet_x0_5, images of
`--size` pixels, and epochs and milestones in proportion, so that the figures compare the values and say nothing of
what a template reaches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from starts import shitu, train

IDENTITIES = {"name": "DistributedRandomIdentitySampler", "sample_method": None, "drop_last": False}
STEPS = {
    "name": "MultiStepDecay",
    "learning_rate": 0.01,
    "gamma": 0.5,
    "milestones": [30, 60, 70, 80, 90, 100, 120, 140],
}
# template → values to compare with its own, of the blocks that `blocks` names; None takes a key out
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "general_v1": {"sampler": {"batch_size": 256}, "lr": {"learning_rate": 0.04}, "head": {"margin_warmup": 0}},
    "general_v2": {"sampler": {"batch_size": 256, "sample_method": "id_avg_prob"}, "lr": {"learning_rate": 0.06}},
    "logo": {"sampler": IDENTITIES, "lr": {"learning_rate": 0.01}},
    "product": {"sampler": IDENTITIES},
    "vehicle_reid": {"sampler": IDENTITIES, "lr": STEPS},
}
WIDTH, CHANNELS = 512, 256  # values of the feature of PPLCNet_x0_5, channels of its last map


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--templates", default=",".join(OTHERS))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print("template      values  recall@1  lowest  highest   CPU s")
    for template in options.templates.split(","):
        for values in ("own", "other"):
            runs = [
                run(options.data, template, values, options.size, options.epochs, seed) for seed in range(options.seeds)
            ]
            recalls = [recall for recall, _ in runs]
            reached = f"{statistics.mean(recalls):9.3f} {min(recalls):7.3f} {max(recalls):8.3f}"
            print(f"{template:13s} {values:6s} {reached} {statistics.mean(cpu for _, cpu in runs):7.0f}", flush=True)


def run(data: Path, template: str, values: str, size: int, epochs: int, seed: int) -> tuple[float, float]:
    """Train in a workspace of its own; return recall@1 after the last epoch and the seconds of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shitu("prepare", str(data.resolve()), "--template", template, "--quick", "--compare", "0", workspace=workspace)
        path = workspace / "shitu.yaml"
        config = yaml.safe_load(path.read_text())
        for name, block in blocks(config).items() if values == "other" else ():
            changed = block | OTHERS[template].get(name, {})
            block.clear()
            block.update({key: value for key, value in changed.items() if value is not None})
        shrink(config, size, epochs)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        result, cpu, _ = train("--seed", str(seed), workspace=workspace)
        return result["best_score"] or float("nan"), cpu  # of features that hardly differ, no recall is measured


def blocks(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the blocks of a config in which values are compared, by their names in `OTHERS`."""
    train_block = config["DataLoader"]["Train"]
    return {"sampler": train_block["sampler"], "lr": config["Optimizer"]["lr"], "head": config["Arch"]["Head"]}


def shrink(config: dict[str, Any], size: int, epochs: int) -> None:
    """Give a config the small network, small images, and few epochs with one evaluation after the last."""
    share = epochs / config["Global"]["epochs"]
    lr = config["Optimizer"]["lr"]
    if "milestones" in lr:
        lr["milestones"] = sorted({max(1, round(share * milestone)) for milestone in lr["milestones"]})
    if "warmup_epoch" in lr:
        lr["warmup_epoch"] = max(1, round(share * lr["warmup_epoch"]))
    config["Global"] |= {"epochs": epochs, "eval_interval": epochs, "image_shape": [3, size, size]}
    arch = config["Arch"]
    arch["Backbone"] = {"name": "PPLCNet_x0_5", "class_expand": WIDTH}
    for key, size_in in (("embedding_size", WIDTH), ("num_features", WIDTH), ("in_channels", CHANNELS)):
        if key in arch["Neck"]:  # FC, BNNeck, VehicleNeck
            arch["Neck"][key] = size_in
    for transform in transforms(config["DataLoader"]):
        for arguments in transform.values():
            if isinstance(arguments, dict) and "size" in arguments:
                arguments["size"] = [size] * 2 if isinstance(arguments["size"], list) else size


def transforms(block: Any) -> Iterator[dict[str, Any]]:
    """Yield every transform of the blocks of a loader."""
    if isinstance(block, dict):
        for key, value in block.items():
            yield from value if key == "transform_ops" else transforms(value)


if __name__ == "__main__":
    main()
