"""PaddleClas's own configs: which load, which are refused by the name of what is missing, and that they train."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.source import BLOCKS
from shitu_cli.errors import ConfigError
from tests.config.recipes import OPTIONS, RECIPES, REFUSED, write


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
    told = [caught.value.message, *caught.value.details]
    assert any(says in problem for problem in told)
    assert not any("did you mean" in problem for problem in told)


def test_the_reader_of_cifar_in_earlier_versions_reads_files_with_a_list(tmp_path: Path) -> None:
    path, places = write(tmp_path, "DeepHash/DCH"), [f"DataLoader.{name}" for name in ("Train", "Eval.Query")]
    options = ["DataLoader.Eval.Gallery=null"]
    options += [f"{place}.dataset={{name: CustomizedCifar10, mode: train}}" for place in places]
    with pytest.raises(ConfigError) as caught:
        load_config(path, options)
    for place, problem in zip(places, caught.value.details, strict=True):
        assert f"-o {place}.dataset.image_root=FOLDER -o {place}.dataset.cls_label_path=LIST" in problem
        options += [f"{place}.dataset.image_root=./dataset", f"{place}.dataset.cls_label_path=list.txt"]
    train = load_config(path, options).DataLoader.splits["train"]
    assert [op.name for op in train.dataset.transform_ops] == ["Resize", "ToTensor", "Normalize"]


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in REFUSED])
def test_a_misspelt_key_in_any_block_of_one_is_found(name: str, tmp_path: Path) -> None:
    """So that a recipe which loads has no key that this program does not know."""
    blocks = [key for key, value in RECIPES[name].items() if isinstance(value, dict) and key in BLOCKS]
    options = [f"{block}.misspelt=1" for block in blocks]
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, name), options)
    for block in blocks:
        assert any(f"{block}.misspelt: unknown key" in problem for problem in caught.value.details), block


def test_most_of_them_run_and_the_page_says_which() -> None:
    page = (Path(__file__).parents[2] / "docs/paddleclas.md").read_text()
    assert len(RECIPES) == 34 and len(RECIPES) - len(REFUSED) == 30
    for name in RECIPES:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert ("refused" in row) == (name in REFUSED), row
