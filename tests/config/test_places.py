"""Paths of a config: absolute wherever it is read from, relative again where it is written down."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from shitu_cli.config.dump import dump_config
from shitu_cli.config.load import load_config
from shitu_cli.config.places import Places
from shitu_cli.templates import read_template


def write(folder: Path, template: str = "quick") -> Path:
    path = folder / "shitu.yaml"
    path.write_text(read_template(template), encoding="utf-8")
    return path


def test_relative_paths_count_from_the_root_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    overrides = [
        "output_dir=./runs",
        "save_inference_dir=/abs/model",
        "pretrained_model=./w",
        "checkpoints=o/latest",
    ]
    config = load_config(path, overrides)
    assert Path(config.Global.output_dir) == Places.of(config).output == tmp_path / "runs"
    assert Places.of(config).inference == Path("/abs/model") and Places.of(config).workspace.root == tmp_path
    assert config.Global.pretrained_model == str(tmp_path / "w")
    assert config.Global.checkpoints == str(tmp_path / "o/latest")
    train = config.DataLoader.train
    assert train is not None and Path(train.dataset.cls_label_path) == tmp_path / "lists/train_list.txt"
    other = load_config(path, root=tmp_path / "elsewhere")
    assert Places.of(other).output == tmp_path / "elsewhere/output"


@pytest.mark.parametrize("value", ["weights/best", "/abs/best", "https://x.y/z", "True", "False"])
def test_published_weights_count_from_the_root(value: str, tmp_path: Path) -> None:
    path = write(tmp_path, "general_v2")
    config = load_config(path, [f"Arch.Backbone.pretrained={value}"], root=tmp_path / "space")
    expected = {"weights/best": str(tmp_path / "space/weights/best"), "True": True, "False": False}
    assert config.Arch.backbone.pretrained == expected.get(value, value)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "vit_small_patch14_dinov2.lvd142m"])
def test_a_published_name_stays_unless_a_file_has_it(name: str, tmp_path: Path) -> None:
    overrides = [f"Arch.Backbone.pretrained={name}", f"Global.pretrained_model={name}"]
    path = write(tmp_path)
    config = load_config(path, overrides)
    assert config.Arch.backbone.pretrained == config.Global.pretrained_model == name
    (tmp_path / f"{name}.pdparams").write_bytes(b"weights")
    config = load_config(path, overrides)
    assert config.Arch.backbone.pretrained == config.Global.pretrained_model == str(tmp_path / name)


def test_a_snapshot_can_be_moved_with_its_workspace(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    config = load_config(write(tmp_path / "old"), ["save_inference_dir=/abs/model"])
    text = dump_config(config)
    assert str(tmp_path) not in text
    assert yaml.safe_load(text)["Global"]["save_inference_dir"] == "/abs/model"
    (tmp_path / "new").mkdir()
    (tmp_path / "new/config.yaml").write_text(text)
    moved = load_config(tmp_path / "new/config.yaml")
    assert Places.of(moved).output == tmp_path / "new/output"
    again = load_config(tmp_path / "new/config.yaml", root=tmp_path / "old")
    assert dataclasses.replace(again, origins={}) == dataclasses.replace(config, origins={})
