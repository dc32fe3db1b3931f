"""Templates against PaddleClas's recipes: what is trained is equal, but for what docs/paddleclas.md says of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.parts import plain
from shitu_cli.config.parts.samplers import IdentityBatches
from shitu_cli.config.parts.transforms import IMAGENET_MEAN, IMAGENET_STD
from shitu_cli.config.schema import Config
from shitu_cli.templates import read_template, templates_dir
from tests.config.recipe_parts import TORCHVISION
from tests.config.recipes import write

THEIRS = {
    "general_v1": "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5",
    "general_v2": "GeneralRecognitionV2/GeneralRecognitionV2_PPLCNetV2_base",
    "logo": "Logo/ResNet50_ReID",
    "product": "Products/ResNet50_vd_SOP",
    "vehicle_reid": "Vehicle/ResNet50_ReID",
    "person_reid": "reid/strong_baseline/softmax_triplet",
}
# What differs, as (theirs, ours); no template starts from weights that may not be there.
START = {"Arch.backbone.pretrained": (True, False)}
SSLD = {"Arch.backbone.use_ssld": (True, False)}
DIFFERENCES: dict[str, dict[str, tuple[Any, Any]]] = {
    "general_v1": {
        **START,
        **SSLD,
        "Arch.head.margin_warmup": (0.0, 0.3),
        "Optimizer.lr.learning_rate": (0.04, 0.01),
        "sampler.batch_size": (256, 64),
    },
    "general_v2": {
        **START,
        **SSLD,
        "AMP": ("O1", None),
        "Optimizer.lr.learning_rate": (0.06, 0.01),
        "sampler.batch_size": (256, 64),
        "sampler.sample_method": ("id_avg_prob", "sample_avg_prob"),
        "sampler.id_list": ([50030, 80700, 92019, 96015], None),
        "sampler.ratio": ([4, 4], None),
    },
    "logo": START,
    "product": {},
    "vehicle_reid": START,
    "person_reid": {"Arch.backbone.pretrained": (TORCHVISION, False)},
}


def flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested blocks and of lists of blocks."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    if not items:
        yield key, value
    for name, item in items:
        yield from flat(item, f"{key}.{name}")


def operations(ops: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Transforms as they are built: those that do nothing are left out, and defaults have their values."""
    listed: list[dict[str, Any]] = [plain(op) for op in ops if op.name not in ("DecodeImage", "ToTensor")]
    for op in listed:
        if op["name"] in ("Normalize", "NormalizeImage"):
            values = {"mean": op["mean"] or list(IMAGENET_MEAN), "std": op["std"] or list(IMAGENET_STD)}
            op.clear()
            op |= {"name": "NormalizeImage", "scale": 1 / 255, **values}
        if isinstance(op.get("size"), int):
            op["size"] = [op["size"]] * 2
        if op.get("interpolation", "") is None:
            op["interpolation"] = "bilinear"
    return listed


def trained(config: Config) -> dict[str, Any]:
    """All values that decide what is trained, and how queries are prepared; not the number of classes."""
    from shitu_cli.model.backbones.base import ALIASES

    train, query = config.DataLoader.train, config.DataLoader.query
    assert train is not None and query is not None
    scales = {op.scale for op in (*train.dataset.transform_ops, *query.dataset.transform_ops) if hasattr(op, "scale")}
    assert all(scale is None or scale == (0.08, 1.0) or abs(scale * 255 - 1) < 1e-6 for scale in scales)
    arch, general = config.Arch, config.Global
    is_of_pairs = isinstance(train.sampler, IdentityBatches)  # which draws at random whatever shuffle says
    blocks: dict[str, Any] = {
        "Arch": {
            "backbone": plain(arch.backbone),
            "stop": ALIASES.get(str(arch.stop_layer), arch.stop_layer),
            "neck": plain(arch.neck),
            "head": {key: value for key, value in plain(arch.head).items() if key != "class_num"},
            "head_feature_from": arch.head_feature_from,
        },
        "Loss": [plain(loss) for loss in config.Loss],
        "Optimizer": plain(config.Optimizer),
        "others": [plain(optimizer) for optimizer in config.loss_optimizers],
        "sampler": {key: value for key, value in plain(train.sampler).items() if key != "shuffle" or not is_of_pairs},
        "train": operations(train.dataset.transform_ops),
        "query": operations(query.dataset.transform_ops),
        "AMP": config.AMP.level if config.AMP is not None and config.AMP.use_amp else None,
        "EMA": plain(config.EMA),
    }
    keys = ("epochs", "update_freq", "iter_per_epoch", "image_shape", "retrieval_feature_from", "feature_normalize")
    blocks |= {key: plain(getattr(general, key)) for key in keys}
    return {key: value for name, block in blocks.items() for key, value in flat(block, name)}


@pytest.mark.parametrize("template", THEIRS)
def test_a_template_trains_as_the_recipe_does(template: str, tmp_path: Path) -> None:
    theirs = trained(load_config(write(tmp_path, THEIRS[template])))
    (tmp_path / "ours.yaml").write_text(read_template(template))
    ours = trained(load_config(tmp_path / "ours.yaml"))
    differences = {
        key: (theirs.get(key), ours.get(key))
        for key in {*theirs, *ours}
        if theirs.get(key) != ours.get(key) and theirs.get(key) != pytest.approx(ours.get(key))
    }
    assert differences == DIFFERENCES[template]


def is_told(key: str, differences: dict[str, tuple[Any, Any]], row: str) -> bool:
    """Whether a row names the key; of a part that has another class, both classes."""
    block, _, name = key.rpartition(".")
    classes = differences.get(f"{block}.name", ()) if name == "name" or None in differences[key] else ()
    return all(f"`{word}`" in row for word in classes or [name])


def test_the_page_says_what_differs() -> None:
    page = (Path(__file__).parents[2] / "docs/paddleclas.md").read_text()
    for template, differences in DIFFERENCES.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{template}` | `{THEIRS[template]}` |")]
        assert not [key for key in differences.keys() - SSLD.keys() if not is_told(key, differences, row)], template


@pytest.mark.parametrize("template", sorted(path.stem for path in templates_dir().glob("*.yaml")))
def test_a_template_has_nothing_without_effect(template: str, tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(read_template(template))
    assert load_config(tmp_path / "ours.yaml").notes == ()
