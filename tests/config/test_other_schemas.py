"""Files for other things than training are named as that, with the commands that do the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.errors import plain
from tests.config.test_paddleclas import refused

PADDLEX = """
Global: {model: PP-ShiTuV2_rec, mode: train, dataset_dir: ./shop, device: "gpu:0", output: output}
Train: {num_classes: 5, epochs_iters: 2, batch_size: 8, learning_rate: 0.01, warmup_steps: 5}
Evaluate: {weight_path: output/best_model/best_model.pdparams}
"""
DEPLOYMENT = """
Global: {rec_inference_model_dir: ./models/shop, batch_size: 32, use_gpu: True}
RecPreProcess: {transform_ops: [ResizeImage: {size: 224}]}
IndexProcess: {index_method: HNSW32, image_root: ./gallery, index_dir: ./index}
"""
GALLERY = """
Global: {pretrained_model: ./pretrained/general}
Slim: {quant: {name: pact}}
Arch: {name: RecModel, Backbone: {name: PPLCNet_x2_5}}
IndexProcess: {image_root: ./gallery, data_file: ./gallery/labels.txt}
"""


@pytest.mark.parametrize(
    ("text", "is_a", "instead"),
    [
        (
            PADDLEX,
            "a config of PaddleX, which says only what changes in the recipe of PP-ShiTuV2_rec",
            ["shitu prepare ./shop --template general_v2", "shitu train --epochs 2 --batch-size 8 --lr 0.01"],
        ),
        (DEPLOYMENT, "of PaddleClas's deployment", ["shitu index build ./gallery --model ./models/shop"]),
        ("pipeline_name: PP-ShiTuV2\nSubModules: {}", "a pipeline of PaddleX", ["shitu index build", "shitu search"]),
        (GALLERY, "for PaddleClas's Gallery2FC, which does not train", ["shitu index build ./gallery --model MODEL"]),
    ],
)
def test_files_for_other_things_are_named_as_that(text: str, is_a: str, instead: list[str], tmp_path: Path) -> None:
    error = refused(tmp_path, text)
    assert is_a in error.message and all(command in plain(error.hint) for command in instead)
    assert error.details == []
