"""PaddleClas's own configs: which load, which are refused by the name of what is missing, and that they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu_cli.config.load import load_config
from shitu_cli.errors import ConfigError
from tests.command import shitu
from tests.config.recipes import OPTIONS, RECIPES, REFUSED


class _Written(yaml.SafeDumper):
    """Writes shared blocks out, as a person does."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write(folder: Path, name: str) -> Path:
    path = folder / "theirs.yaml"
    path.write_text(yaml.dump(RECIPES[name], Dumper=_Written, sort_keys=False))
    return path


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in REFUSED])
def test_a_recipe_loads(name: str, tmp_path: Path) -> None:
    config = load_config(write(tmp_path, name), OPTIONS.get(name, []))
    wanted = RECIPES[name]["Metric"]["Eval"]
    assert config.classifies == ("TopkAcc" in wanted[0])
    assert any("a config of PaddleClas" in note for note in config.notes)
    backbone = RECIPES[name]["Arch"].get("Backbone") or RECIPES[name]["Arch"]["models"][1]["Student"]["Backbone"]
    assert config.Arch.backbone.name == backbone["name"]


@pytest.mark.parametrize(("name", "says"), REFUSED.items())
def test_the_others_are_refused_by_what_is_missing(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, name))
    assert any(says in problem for problem in caught.value.details)
    assert not any("did you mean" in problem for problem in caught.value.details)


def test_most_of_them_run_and_the_page_says_which() -> None:
    page = (Path(__file__).parents[2] / "docs/paddleclas.md").read_text()
    assert len(RECIPES) == 34 and len(RECIPES) - len(REFUSED) == 30
    for name in RECIPES:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert ("refused" in row) == (name in REFUSED), row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "smaller", "says"),
    [
        (
            "quick_start/MobileNetV1_retrieval",
            ["Backbone.name=MobileNetV1_x0_25", "Neck.embedding_size=256"],
            "recall@1",
        ),
        ("Products/MV3_Large_1x_Aliproduct_DLBHC", ["Backbone.name=MobileNetV3_small_x0_35"], "best top1"),
        ("slim/ResNet50_vehicle_cls_prune", ["Backbone.name=ResNet18", "Neck.in_channels=512"], "best top1"),
    ],
)
def test_two_steps(name: str, smaller: list[str], says: str, tmp_path: Path, make_images: Callable[..., Any]) -> None:
    """On images that fit, with small networks and images."""
    files = make_images(tmp_path / "dataset", classes=4, per_class=4)
    labels = {path: number for number, paths in enumerate(files.values()) for path in paths}
    (tmp_path / "list.txt").write_text(
        "".join(f"{path.relative_to(tmp_path / 'dataset')} {label}\n" for path, label in labels.items())
    )
    for path in labels:
        box = tmp_path / "dataset/label" / path.relative_to(tmp_path / "dataset").with_suffix(".txt")
        box.parent.mkdir(parents=True, exist_ok=True)
        box.write_text("1\n1\n2 2 30 30\n")
    config = yaml.safe_load(write(tmp_path, name).read_text())
    splits = [("Train", config["DataLoader"]["Train"])]
    evaluation = config["DataLoader"]["Eval"]
    splits += [("Eval", evaluation)] if "dataset" in evaluation else [(f"Eval.{k}", v) for k, v in evaluation.items()]
    small = [f"Arch.{option}" for option in [*smaller, "Head.class_num=9"]]
    small += [
        f"DataLoader.{key}.dataset.transform_ops.{op}.size=32"
        for key, split in splits
        for entry in split["dataset"]["transform_ops"]
        for op in entry
        if op in ("ResizeImage", "RandCropImage")
    ]
    small += [f"DataLoader.{key}.sampler.batch_size=8" for key, _ in splits]
    options = [*OPTIONS.get(name, []), *small, "Global.epochs=1", "Global.iter_per_epoch=2", "Global.device=cpu"]
    words = [word for option in options for word in ("-o", option)]
    done = shitu("train", "-c", "theirs.yaml", *words, cwd=tmp_path)
    assert says in done.stdout + done.stderr
    assert "have no images" in done.stdout + done.stderr  # the head keeps its classes
    assert (tmp_path / "output/latest.pdparams").is_file()
