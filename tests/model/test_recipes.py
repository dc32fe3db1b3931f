"""The recipes in templates/: their networks and losses can be built and trained a step."""

from pathlib import Path

import pytest
import yaml

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.losses import build_loss  # noqa: E402
from tests.parts import loss_item  # noqa: E402

TEMPLATES = Path(__file__).parents[2] / "templates"
RECIPES = ["general_v2", "logo", "person_reid", "product", "vehicle_reid"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_the_recipe(name):
    text = (TEMPLATES / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    arch = config["Arch"]
    arch["Head"]["class_num"] = 4
    items = [
        loss_item(loss, args.pop("weight"), args) for part in config["Loss"]["Train"] for loss, args in part.items()
    ]
    model, loss = build_rec_model(arch), build_loss(items)
    labels = paddle.to_tensor([0, 0, 1, 1])
    _, height, width = config["Global"]["image_shape"]
    value = loss(model(paddle.randn([4, 3, height // 4, width // 4]), labels), labels)["loss"]
    value.backward()
    assert paddle.isfinite(value).item()
    assert model.backbone.parameters()[0].grad is not None
    model.eval()
    assert len(model(paddle.zeros([1, 3, height // 4, width // 4]))["features"].shape) == 2
