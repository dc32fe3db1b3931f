"""Layers, losses and images that do not fit together: said before anything is trained, with the way out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu_cli.model.shapes import backbone_shapes
from tests.command import SMALL, Result, shitu
from tests.training.test_peers import ARCH, NETWORK, PAIR

VEHICLE = "Arch.Neck={name: VehicleNeck, in_channels: %d, out_channels: 64}"
HEAD = "Arch.Head={name: FC, embedding_size: %d, class_num: 6}"
XBM = "Loss.Train=[{CELoss: {}}, {ContrastiveLoss_XBM: {start_iter: 0, xbm_size: 8, xbm_weight: 1, embedding_size: 5}}]"
CENTERS = "Loss.Train=[{CELoss: {}}, {CenterLoss: {num_classes: 6, feat_dim: 512}}]"
PROXIES = "Loss.Train=[{CELoss: {}}, {ProxyAnchor: {num_classes: 6, feat_dim: 7, feature_from: backbone}}]"


def stop(layer: str) -> str:
    return f"Arch.BackboneStopLayer.name={layer}"


def train(workspace: Path, *overrides: str) -> Result[str]:
    options = [word for override in overrides for word in ("-o", override)]
    return shitu("train", *SMALL, "--epochs", "1", "--batch-size", "12", *options, cwd=workspace, check=False)


CASES: dict[str, tuple[list[str], list[str]]] = {
    "a map is needed": (
        [stop("flatten"), VEHICLE % 1280, HEAD % 64],
        ["Arch.BackboneStopLayer.name: got 'flatten', which gives a row of 1280 values, but the neck VehicleNeck needs "
         "a map of one pixel: expected avg_pool, last_conv, hardswish or dropout"],
    ),
    "a map of one pixel is needed": (
        [stop("blocks6"), VEHICLE % 128, HEAD % 64],
        ["got 'blocks6', which gives a map of 7x7 pixels with 128 channels, but the neck VehicleNeck needs a map"],
    ),
    "a row is needed by a neck": (
        [stop("dropout")],
        ["got 'dropout', which gives a map of 1x1 pixels with 1280 channels, but the neck BNNeck needs a row of "
         "values: expected flatten"],
    ),
    "a row is needed by the head": (
        [stop("blocks6"), "Arch.Neck=null", HEAD % 128],
        ["a feature is a row of values: expected flatten", "Arch.Head.embedding_size: got 128, but the layer before it "
         "returns 1280 values"],
    ),
    "a row is needed without neck and head": (
        [stop("avg_pool"), "Arch.Neck=null", "Arch.Head=null", "Loss.Train=[{TripletLossV2: {}}]"],
        ["a feature is a row of values: expected flatten"],
    ),
    "the whole network with its classifier": (
        ["Arch.BackboneStopLayer=null", VEHICLE % 128, HEAD % 64],
        ["got null, which gives a row of 1000 values"],
    ),
    "a layer that does not exist": ([stop("flaten")], ["no layer flaten to stop at (did you mean flatten?)"]),
    "neck and head of other sizes": (
        ["Arch.Neck.num_features=5", "Arch.Head.embedding_size=7"],
        ["Arch.Neck.num_features: got 5, but the layer before it returns 1280 values",
         "Arch.Head.embedding_size: got 7, but the layer before it returns 1280 values"],
    ),
    "a head of another size than the neck's": (
        ["Arch.Neck={name: FC, embedding_size: 1280, class_num: 64}"],
        ["Arch.Head.embedding_size: got 1280, but the layer before it returns 64 values"],
    ),
    "a pyramid of too many stages": (
        ["Arch.Neck={name: FPN, embedding_size: 1280, class_num: 64, levels: 9}", HEAD % 64],
        ["Arch.Neck.levels: got 9, the backbone has 5 stages"],
    ),
    "a head on a map": (
        [stop("avg_pool"), VEHICLE % 128, HEAD % 64, "Arch.head_feature_from=backbone"],
        ["Arch.head_feature_from: got backbone, which gives a map of 1x1 pixels"],
    ),
    "an evaluation of maps": (
        [stop("avg_pool"), VEHICLE % 128, HEAD % 64, "Global.retrieval_feature_from=backbone"],
        ["Global.retrieval_feature_from: got backbone, which gives a map of 1x1 pixels"],
    ),
    "centres of another size": ([CENTERS], ["CenterLoss.feat_dim: got 512, but the output features of the"]),
    "proxies of another size": ([PROXIES], ["ProxyAnchor.feat_dim: got 7, but the output backbone of the network has"]),
    "a memory of another size": ([XBM], ["Loss.Train.1.ContrastiveLoss_XBM.embedding_size: got 5, but the output"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_said(case: str, workspace: Path) -> None:
    overrides, texts = CASES[case]
    refused = train(workspace, *overrides)
    shown = " ".join(refused.stderr.split())
    assert refused.returncode == 4 and not (workspace / "output").exists()
    for text in texts:
        assert text in shown


@pytest.mark.parametrize(
    "case", ["a map is needed", *(pytest.param(case, marks=pytest.mark.slow) for case in [*CASES][1:])]
)
def test_the_proposed_command_settles_it(case: str, workspace: Path) -> None:
    refused = train(workspace, *CASES[case][0])
    proposed = re.search(r"hint: shitu (train .*)", refused.stderr.replace("\n", " "))
    assert proposed is not None
    shitu(*shlex.split(proposed[1]), cwd=workspace)


def test_problems_of_layers_and_of_lists_are_said_together(workspace: Path) -> None:
    refused = train(workspace, stop("blocks6"), HEAD % 7, CENTERS.replace("num_classes: 6", "num_classes: 5"))
    shown = " ".join(refused.stderr.split())
    for text in ("num_classes: got 5, expected 6", "expected flatten", "embedding_size: got 7", "feat_dim: got 512"):
        assert text in shown, text


@pytest.mark.parametrize(("stages", "text"), [("vit_tiny_patch16_224", "no stages for a pyramid: use FC")])
def test_a_neck_that_no_layer_of_the_backbone_serves(stages: str, text: str, workspace: Path) -> None:
    pyramid = "Arch.Neck={name: FPN, embedding_size: 192, class_num: 64}"
    refused = train(workspace, f"Arch.Backbone={{name: {stages}, img_size: 112}}", stop("pool"), pyramid, HEAD % 64)
    assert f"Arch.Neck.name: got FPN, but the backbone has {text}" in " ".join(refused.stderr.split())
    refused = train(
        workspace, f"Arch.Backbone={{name: {stages}, img_size: 112}}", stop("pool"), VEHICLE % 192, HEAD % 64
    )
    shown = " ".join(refused.stderr.split())
    assert f"Arch.Neck.name: the neck VehicleNeck needs a map of one pixel, which no layer of {stages} gives" in shown


def test_images_of_another_size_than_the_network_s_are_named_with_their_list(workspace: Path) -> None:
    """Those of an evaluation would end the run after its first epoch."""
    arch = ["Arch.Backbone={name: vit_tiny_patch16_224, img_size: 96}", stop("pool"), "Arch.Neck=null", HEAD % 192]
    refused = train(workspace, *arch, "Global.eval_during_train=True")
    shown = " ".join(refused.stderr.split())
    assert refused.returncode == 4 and "DataLoader.Train" not in shown
    assert (
        "DataLoader.Eval.Query.dataset.transform_ops: images of 112x112 pixels, but the network was made for 96"
        in shown
    )
    refused = train(workspace, *(item.replace("96", "112") for item in arch))
    assert "DataLoader.Train.dataset.transform_ops: images of 96x96 pixels" in " ".join(refused.stderr.split())


def test_outputs_of_networks_that_a_loss_compares_have_one_size(workspace: Path) -> None:
    small: dict[str, Any] = {
        **NETWORK, "Neck": {**NETWORK["Neck"], "class_num": 8}, "Head": {**NETWORK["Head"], "embedding_size": 9},  # type: ignore[dict-item]
    }  # fmt: skip
    values = yaml.safe_load((workspace / "shitu.yaml").read_text())
    values["Arch"] = {**ARCH, "models": [{"Teacher": small}, {"Student": NETWORK}]}
    values["Loss"] = {"Train": [{"CELoss": {}}, {"DistillationDistanceLoss": {"key": "features", **PAIR}}]}
    (workspace / "shitu.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    refused = shitu("train", "--epochs", "1", "--eval-during-train", "false", cwd=workspace, check=False)
    shown = " ".join(refused.stderr.split())
    assert "Arch.models.Teacher.Head.embedding_size: got 9, but the layer before it returns 8 values" in shown
    assert "a row of 16 values of Student and a row of 8 values of Teacher" in shown
    assert "-o Arch.models.Teacher.Head.embedding_size=8" in shown


def test_the_backbone_of_a_frozen_network_gives_rows(trained_workspace: Path) -> None:
    start = ["--init-from", "output/latest", "-o", "Arch.Backbone.name=PPLCNet_x0_25"]
    refused = shitu("train", "--frozen", *start, "-o", stop("avg_pool"), cwd=trained_workspace, check=False)
    assert "a feature is a row of values: expected flatten" in " ".join(refused.stderr.split())


def test_drawing_a_network_draws_no_random_numbers(load_part: Callable[[str], Any]) -> None:
    from shitu_cli.training.loop_state import capture_rng

    before = capture_rng()
    shapes = backbone_shapes(load_part("PPLCNetV2_base_ShiTu"), (64, 64))
    assert shapes.at("flatten") == (1280,) and shapes.at("stages") == (1024, 4, 4) and shapes.at(None) == (1000,)
    assert capture_rng() == before


@pytest.fixture
def load_part() -> Callable[[str], Any]:
    """Return a function that makes the part of a backbone."""
    from shitu_cli.config.reader import make_part

    return lambda name: make_part("backbone", name)
