"""Configs as PaddleClas's recognition recipes have them: what they say is understood, or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.config.load import load_config
from shitu_cli.data.transforms import build_transforms
from shitu_cli.errors import ConfigError

GLOBAL = "checkpoints: null, pretrained_model: null, output_dir: ./output/, device: gpu, epochs: 100, use_dali: False"
SPLIT = """
      dataset:
        name: VeriWild
        image_root: ./dataset/Aliproduct/
        cls_label_path: ./dataset/Aliproduct/val_list.txt
        transform_ops:
          - DecodeImage: {to_rgb: True, channel_first: False}
          - ResizeImage: {resize_short: 256}
          - CropImage: {size: 224}
          - NormalizeImage: {scale: 0.00392157, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ""}
      sampler: {name: DistributedBatchSampler, batch_size: 64, drop_last: False, shuffle: False}
      loader: {num_workers: 4, use_shared_memory: True}
"""


def config(
    *,
    backbone: str = "{name: ResNet50_last_stage_stride1, pretrained: True}",
    stop: str = "{name: flatten}",
    neck: str = "{name: VehicleNeck, in_channels: 2048, out_channels: 512}",
    head: str = "{name: ArcMargin, embedding_size: 512, class_num: 30671, margin: 0.15, scale: 32}",
    losses: str = "    - CELoss: {weight: 1.0}",
    optimizer: str = "{name: Momentum, momentum: 0.9, lr: {name: Cosine, learning_rate: 0.04, warmup_epoch: 5}}",
    ops: str = "        - RandFlipImage: {flip_code: 1}",
    sampler: str = "{name: DistributedBatchSampler, batch_size: 256, drop_last: False, shuffle: True}",
    more: str = "",
) -> str:
    return f"""
Global: {{{GLOBAL}, image_shape: [3, 224, 224], save_inference_dir: ./inference, class_num: 30671, to_static: False}}
Arch:
  name: RecModel
  infer_output_key: features
  infer_add_softmax: "false"
  Backbone: {backbone}
  BackboneStopLayer: {stop}
  Neck: {neck}
  Head: {head}
Loss:
  Train:
{losses}
  Eval:
    - CELoss: {{weight: 1.0}}
Optimizer: {optimizer}
DataLoader:
  Train:
    dataset:
      name: ImageNetDataset
      image_root: ./dataset/
      cls_label_path: ./dataset/train_reg_all_data.txt
      relabel: True
      transform_ops:
{ops}
    sampler: {sampler}
    loader: {{num_workers: 4, use_shared_memory: True}}
  Eval:
    Query:{SPLIT}
    Gallery:{SPLIT}
Metric:
  Train:
    - TopkAcc: {{topk: [1, 5]}}
  Eval:
    - Recallk: {{topk: [1, 5]}}
    - mAP: {{}}
{more}
"""


SHITU_V2 = {
    "backbone": "{name: PPLCNetV2_base_ShiTu, pretrained: True, use_ssld: True, class_expand: 512}",
    "neck": "{name: BNNeck, num_features: 512, weight_attr: {initializer: {name: Constant, value: 1.0}}, "
    "bias_attr: {initializer: {name: Constant, value: 0.0}, learning_rate: 1.0e-20}}",
    "head": "{name: FC, embedding_size: 512, class_num: 192612, weight_attr: {initializer: {name: Normal, std: 1.0}}, "
    "bias_attr: False}",
    "losses": "    - CELoss: {weight: 1.0, epsilon: 0.1}\n    - TripletAngularMarginLoss: {weight: 1.0, "
    "feature_from: features, margin: 0.5, reduction: mean, add_absolute: True, absolute_loss_weight: 0.1, "
    "normalize_feature: True, ap_value: 0.8, an_value: 0.4}",
    "ops": "        - Pad: {padding: 10, backend: cv2}\n        - RandCropImageV2: {size: [224, 224]}\n"
    "        - RandomRotation: {prob: 0.5, degrees: 90, interpolation: bilinear}",
    "sampler": "{name: PKSampler, batch_size: 8, sample_per_id: 4, drop_last: False, shuffle: True, "
    "sample_method: id_avg_prob, id_list: [50030, 80700, 92019, 96015], ratio: [4, 4]}",
}
VEHICLE = {
    "stop": "{name: adaptive_avg_pool2d_0}",
    "losses": "    - CELoss: {weight: 1.0}\n    - SupConLoss: {weight: 1.0, views: 2}",
    "optimizer": "{name: Momentum, momentum: 0.9, lr: {name: MultiStepDecay, learning_rate: 0.01, "
    "milestones: [30, 60], gamma: 0.5, verbose: False, last_epoch: -1}, regularizer: {name: L2, coeff: 0.0005}}",
    "ops": "        - AugMix: {prob: 0.5}\n        - RandomErasing: {EPSILON: 0.5}",
    "sampler": "{name: DistributedRandomIdentitySampler, batch_size: 128, num_instances: 2, drop_last: False}",
    "more": "Infer:\n  infer_imgs: a.jpg",
}
PERSON_OPS = {
    "backbone": "{name: ResNet50_last_stage_stride1, pretrained: False, stem_act: null}",
    "ops": "        - ResizeImage: {size: [128, 256], return_numpy: False, interpolation: bilinear, backend: pil}\n"
    "        - ToTensor:\n        - Normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n"
    "        - RandomErasing: {EPSILON: 0.5, mean: [0.485, 0.456, 0.406]}",
}


@pytest.mark.parametrize("parts", [{}, SHITU_V2, VEHICLE, PERSON_OPS], ids=["plain", "shitu_v2", "vehicle", "person"])
def test_recipes_of_the_field_are_understood(parts: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text(config(**parts))
    made = load_config(path)
    assert made.DataLoader.train is not None and made.DataLoader.query == made.DataLoader.gallery
    build_transforms(made.DataLoader.train.dataset.transform_ops)
    assert not made.Arch.infer_add_softmax
    if parts is VEHICLE:
        assert made.DataLoader.train.sampler.sample_per_id == 2
    if parts is SHITU_V2:
        assert made.DataLoader.train.sampler.ratio == (4, 4)


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text(config().replace("use_dali: False", "use_dali: True"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    told = "\n".join(caught.value.details)
    assert "Global.use_dali: exists in PaddleClas" in told
    assert len(caught.value.details) == 1
