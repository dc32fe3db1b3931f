"""Keys and blocks that PaddleClas has: what changes nothing is accepted, the rest is followed or refused as its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.errors import plain
from tests.config.test_paddleclas import loaded, refused
from tests.config.test_peers import config

NECK = "{name: VehicleNeck, in_channels: 2048, out_channels: 512, "


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ({"neck": NECK + "kernel_size: 3}"}, "Arch.Neck.kernel_size"),
        ({"neck": NECK + "weight_attr: {learning_rate: 2.0}}"}, "Arch.Neck.weight_attr"),
        ({"backbone": "{name: PPLCNetV2_base, use_last_conv: False}"}, "Arch.Backbone.use_last_conv"),
        (
            {"optimizer": "{name: SGD, lr: {name: Cyclic, base_learning_rate: 0.1, max_learning_rate: 1.0, "
             "step_size_up: 3, scale_mode: cycle, scale_fn: f}}"},
            "Optimizer.lr.scale_fn",
        ),
    ],
)  # fmt: skip
def test_keys_of_theirs_have_their_default_or_are_refused_as_theirs(
    parts: dict[str, str], key: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, config(**parts))
    (problem,) = error.details
    assert f"{key}: exists in PaddleClas, but not here: " in problem and "leave it out" not in problem
    assert f"shitu train -o {key}=null" in plain(error.hint)
    assert loaded(tmp_path, config(**parts), f"{key}=null")


def test_what_changes_nothing_there_changes_nothing_here(tmp_path: Path) -> None:
    neck = NECK + "kernel_size: 1, stride: 1, padding: 0, dilation: 1, groups: 1, padding_mode: zeros, "
    neck += "weight_attr: null, bias_attr: False, data_format: NCHW}"
    made = loaded(tmp_path, config(neck=neck), "Global.save_interval=-1")
    assert made.Arch == loaded(tmp_path, config()).Arch and made.Global.save_interval == -1
    options = ["Arch.Backbone.name=PPLCNetV2_base", "Arch.Backbone.use_last_conv=True", "Global.save_interval=0"]
    assert loaded(tmp_path, config(), *options).Arch.backbone.name == "PPLCNetV2_base"
    pair = "model_name_pairs: [[Student, Teacher]], key: features"
    losses = f"    - CELoss: {{weight: 1.0}}\n    - DistillationDistanceLoss: {{{pair}, reduction: mean}}"
    (problem,) = refused(tmp_path, config(losses=losses)).details  # that there is no second network, nothing else
    assert "compares several networks" in problem
    (problem,) = refused(tmp_path, config(losses=losses.replace("mean", "sum"))).details
    assert "reduction: exists in PaddleClas, but not here: the difference is the mean over all values" in problem


def test_a_block_for_averages_is_on_by_its_presence(tmp_path: Path) -> None:
    made = loaded(tmp_path, config(more="EMA: {}\nAMP: {}"))
    assert made.EMA is not None and made.EMA.decay == 0.9999 and made.AMP is None
    (note,) = [note for note in made.notes if note.startswith("AMP: ")]
    assert note == "AMP: an empty block is off, as in PaddleClas; -o AMP.use_amp=true turns mixed precision on"
    made = loaded(tmp_path, config(more="EMA: null"), "AMP.use_amp=true")
    assert made.EMA is None and made.AMP is not None and made.AMP.level == "O1"


def test_names_in_blocks_that_are_not_computed_are_checked(tmp_path: Path) -> None:
    text = config().replace("  Eval:\n    - CELoss: {weight: 1.0}", "  Eval:\n    - CELos: {weight: 1.0}")
    (problem,) = refused(tmp_path, text).details
    assert (
        "theirs.yaml:" in problem and "Loss.Eval.0.CELos: got 'CELos'" in problem and "did you mean CELoss" in problem
    )
    assert loaded(tmp_path, text.replace("CELos:", "MixCELoss:"))  # as nothing is computed
    (problem,) = refused(tmp_path, config().replace("- TopkAcc:", "- TopAcc:")).details
    assert "Metric.Train.0.TopAcc: got 'TopAcc'" in problem
    (problem,) = refused(tmp_path, config().replace("- TopkAcc: {topk: [1, 5]}", "- mAP: {}")).details
    assert "Metric.Train.0.mAP: training measures only TopkAcc" in problem
    text = config().replace("- TopkAcc: {topk: [1, 5]}", "- TopAcc: {}\n    - mAP: {}")
    first, second = refused(tmp_path, text).details
    assert "Metric.Train.0.TopAcc: got 'TopAcc'" in first and "Metric.Train.1.mAP: training measures only" in second
    assert [part.topk for part in loaded(tmp_path, config()).train_metrics] == [(1, 5)]
