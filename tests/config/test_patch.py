from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.config.patch import patch_yaml, yaml_scalar
from shitu_cli.errors import ConfigError
from shitu_cli.templates import read_template

TEXT = """# top comment
Arch:
    Head:   # the head
        name: "FC"
        class_num:   1000   # counted
Loss:
  Train:
  - CELoss: {weight: 1.0}
  - CenterLoss:
      num_classes: 5 # here too
Global:
  seed:
"""


def test_only_the_value_changes() -> None:
    new, changes = patch_yaml(TEXT, {"Arch.Head.class_num": 81, "Loss.Train.CenterLoss.num_classes": 81})
    assert new == TEXT.replace("1000", "81").replace("num_classes: 5", "num_classes: 81")
    assert [(c.key, c.line, c.old, c.new) for c in changes] == [
        ("Arch.Head.class_num", 5, "1000", "81"),
        ("Loss.Train.CenterLoss.num_classes", 10, "5", "81"),
    ]


def test_an_equal_value_is_no_change() -> None:
    assert patch_yaml(TEXT, {"Arch.Head.name": "FC", "Arch.Head.class_num": 1000}) == (TEXT, [])


def test_empty_value_and_missing_key() -> None:
    new, changes = patch_yaml(TEXT, {"Global.seed": 3, "Arch.Head.margin": 0.2})
    values = yaml.safe_load(new)
    assert values["Global"]["seed"] == 3
    assert values["Arch"]["Head"] == {"margin": 0.2, "name": "FC", "class_num": 1000}
    assert [c.old for c in changes] == [None, None]
    assert "# the head" in new and "# counted" in new


def test_missing_parent_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the config has no Arch\.Neck"):
        patch_yaml(TEXT, {"Arch.Neck.class_num": 3})


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_any_text_comes_back(value: str) -> None:
    new, _ = patch_yaml(TEXT, {"Arch.Head.name": value})
    expected = yaml.safe_load(TEXT)
    expected["Arch"]["Head"]["name"] = value
    assert yaml.safe_load(new) == expected
    assert yaml.safe_load(yaml_scalar(value)) == value


def test_windows_line_ends_stay() -> None:
    text = read_template("general_v2").replace("\n", "\r\n")
    new, _ = patch_yaml(text, {"Arch.Head.class_num": 7, "Global.seed": 1})
    assert new.count("\r\n") == new.count("\n") == text.count("\n") + 1


ALIASED = """DataLoader:
  Eval:
    Query: &both
      dataset:
        image_root: ./data
        cls_label_path: old.txt
    Gallery: *both
"""


def test_two_values_for_one_aliased_place_are_refused() -> None:
    key = "DataLoader.Eval.{}.dataset.{}"
    new, _ = patch_yaml(ALIASED, {key.format(name, "image_root"): "./new" for name in ("Query", "Gallery")})
    assert new == ALIASED.replace("./data", "./new")
    different = {key.format(name, "cls_label_path"): f"{name}.txt" for name in ("Query", "Gallery")}
    with pytest.raises(ConfigError, match=r"Query\.dataset\.cls_label_path: shares line 6 .*Query\.txt") as caught:
        patch_yaml(ALIASED, different)
    assert caught.value.hint == "write the block out in both places"


def test_a_value_that_other_places_name_is_refused() -> None:
    text = "a:\n  root: &root ./data\nb:\n  root: *root\n"
    with pytest.raises(ConfigError, match="other places use this value through &root"):
        patch_yaml(text, {"a.root": "./new"})


def test_a_byte_order_mark_stays_and_shifts_nothing() -> None:
    assert patch_yaml("\ufeffa: 1\nb: 2\n", {"b": 3})[0] == "\ufeffa: 1\nb: 3\n"
