"""The package of docs/extend.md, installed beside the program: what the page says is what happens."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu_cli.config.load import load_config
from shitu_cli.config.parts import KINDS
from shitu_cli.errors import ConfigError
from shitu_cli.templates import read_template
from tests.command import shitu

PAGE = (Path(__file__).parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
FILES = {name: text for _, name, text in re.findall(r"```(\w+)\n# ([^\s,]+)[^\n]*\n(.*?)```", PAGE, flags=re.S)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's files on the path, with the metadata that an installation makes of its pyproject.toml."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    info = folder / "shop_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-parts\nVersion: 1.0\n")
    points = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", FILES["pyproject.toml"]).replace('"', "")
    broken = ["[shitu.necks]", "Gone = shop_parts.gone:Neck", "Wrong = shop_parts.parts:ShopNet"]
    text = [points[points.index("[shitu") :], *broken, "Data = shop_parts.parts:SIZES"]
    (info / "entry_points.txt").write_text("\n".join(text))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    for module in [name for name in sys.modules if name.startswith("shop_parts")]:
        del sys.modules[module]


@pytest.fixture
def workspace(package: Path, tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> Path:
    """A workspace prepared from a shelf.json, with the page's config, for images of 32 pixels."""
    images = make_images(tmp_path / "shop", classes=4, per_class=8)
    entries = [
        {"photo": f"{name}/{path.name}", "product": name.upper()} for name, paths in images.items() for path in paths
    ]
    (tmp_path / "shop" / "shelf.json").write_text(json.dumps(entries))
    done = shitu("prepare", "shop", "-w", "space", cwd=tmp_path)
    assert "shelf" in done.stdout + done.stderr
    path = tmp_path / "space" / "shitu.yaml"
    config = yaml.safe_load(path.read_text())
    page = yaml.safe_load(FILES["shitu.yaml"])
    config |= page | {"Arch": config["Arch"] | page["Arch"]}
    config["Arch"]["Neck"]["num_features"] = config["Arch"]["Head"]["embedding_size"] = 32
    config["Global"] |= {"epochs": 1, "image_shape": [3, 32, 32], "eval_during_train": False}
    config["DataLoader"]["Train"]["dataset"]["transform_ops"][1:1] = [{"RandomGrey": {"prob": 0.5}}]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path.parent


def test_the_whole_chain_with_all_four(workspace: Path) -> None:
    names = (workspace / "lists" / "label_map.txt").read_text()
    assert "CLASS_000" in names
    assert "SquaredContrastive" in shitu("train", cwd=workspace).stdout + (workspace / "output/train.log").read_text()
    assert (workspace / "output" / "latest.pdparams").is_file()
    (row,) = json.loads(shitu("config", "Backbone.depth", "--json", cwd=workspace).stdout)
    assert str(row["value"]) == "2" and row["origin"].startswith(str(workspace / "shitu.yaml"))


def test_a_network_that_has_no_graph_is_trained(workspace: Path) -> None:
    """Its layers cannot be checked before: it decides by values."""
    layers = importlib.import_module("shop_parts.layers")

    class Pool(layers.nn.AdaptiveAvgPool2D):  # type: ignore[name-defined,misc]
        def forward(self, x: Any) -> Any:
            return super().forward(x if float(x.mean()) > -1 else -x)

    build = layers.ShopNet.__init__

    def with_pool(self: Any, part: Any) -> None:
        build(self, part)
        self.pool = Pool(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers.ShopNet, "__init__", with_pool)
        patch.setattr("shitu_cli.model.shapes._drawn", {})
        shitu("train", cwd=workspace)
    assert (workspace / "output" / "latest.pdparams").is_file()


def test_the_names_are_known_and_misspelling_them_is_guessed(package: Path, tmp_path: Path) -> None:
    assert {"ShopNet_small", "ShopNet_large"} <= set(KINDS["backbone"].names())
    path = tmp_path / "shitu.yaml"
    path.write_text(read_template("quick"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["Arch.Backbone={name: ShopNet_smal}"])
    assert "did you mean ShopNet_small?" in caught.value.details[0]


def test_the_message_that_the_page_shows(package: Path, tmp_path: Path) -> None:
    (tmp_path / "shitu.yaml").write_text(FILES["shitu.yaml"].replace("margin: 0.2", "margin: 2"))
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "shitu.yaml")
    shown = re.search(r"`(shitu\.yaml:\d+: Loss.*?)`", PAGE)
    assert shown is not None
    assert str(tmp_path / shown[1]) in caught.value.details


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Gone", r"shop_parts\.gone:Neck, which shop-parts adds to shitu\.necks, cannot be loaded"),
        ("Wrong", r"shop_parts\.parts\.ShopNet is not a Neck"),
        ("Data", "is not what the group is for"),
    ],
)
def test_extensions_that_do_not_fit_are_named(name: str, says: str, package: Path, tmp_path: Path) -> None:
    path = tmp_path / "shitu.yaml"
    path.write_text(read_template("quick"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"Arch.Neck={{name: {name}}}"])
    assert re.search(says, caught.value.details[0])
