"""The 34 recognition and metric-learning configs of PaddleClas (ppcls/configs): all their keys with their values.

`RECIPES` maps the path of each to its values; `OPTIONS` to the options that it needs here; `REFUSED` to what the
refusal of the others names.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.config import recipes_hashing as hashing
from tests.config import recipes_persons as persons
from tests.config import recipes_products as products
from tests.config.recipe_parts import (
    REID,
    Values,
    Writer,
    arc,
    cosine,
    falls,
    fc,
    general,
    identity,
    net,
    pk,
    rec,
    weighted,
)

LCNET_CARS = rec(net("PPLCNet_x2_5", use_ssld=True), neck=fc(1280, 512), head=arc(30671, 0.15, 32))

RECIPES: dict[str, Values] = {
    "Cartoonface/ResNet50_icartoon": products.cartoons(),
    "DeepHash/DCH": hashing.hashing(weighted("DCHLoss", gamma=20.0, _lambda=0.1, n_class=10), hashing.HASH_SGD),
    "DeepHash/DSHSD": hashing.hashing(
        weighted("DSHSDLoss", alpha=0.05), hashing.HASH_ADAM, neck={"name": "Tanh"}, head=fc(48, 10)
    ),
    "DeepHash/LCDSH": hashing.hashing(weighted("LCDSHLoss", _lambda=3, n_class=10), hashing.HASH_ADAM),
    "GeneralRecognition/Gallery2FC_PPLCNet_x2_5": products.gallery_to_fc(),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5": products.general_v1(0.04, 256, products.RECALL, products.MAP),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_binary": hashing.binary(),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_dml": products.distilled(),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_udml": products.distilled("DistillationDistanceLoss"),
    "GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_base": products.clip(
        "CLIP_vit_base_patch16_224", 20, 0.02, 64, 8
    ),
    "GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_large": products.clip(
        "CLIP_vit_large_patch14_224", 10, 0.0025, 32, 4
    ),
    "GeneralRecognitionV2/GeneralRecognitionV2_PPLCNetV2_base": products.general_v2(),
    "Logo/ResNet50_ReID": products.logo(),
    "Products/MV3_Large_1x_Aliproduct_DLBHC": hashing.rounded_product(),
    "Products/ResNet50_vd_Aliproduct": products.aliproduct(),
    "Products/ResNet50_vd_Inshop": products.inshop(),
    "Products/ResNet50_vd_SOP": products.sop(),
    "Vehicle/PPLCNet_2.5x_ReID": products.cars_again(
        general(160, output="./output_reid/", **REID), cosine(0.04), pk(128, drop_last=True), LCNET_CARS
    ),
    "Vehicle/ResNet50": products.car_models(
        general(160), falls(0.01, products.LONG), identity(128, 2), "adaptive_avg_pool2d_0"
    ),
    "Vehicle/ResNet50_ReID": products.cars_again(general(160, **REID), cosine(0.04), pk(128, drop_last=True)),
    "metric_learning/adaface_ir18": persons.adaface(),
    "metric_learning/xbm_resnet50": persons.xbm(),
    "quick_start/MobileNetV1_retrieval": products.birds(),
    "quick_start/professional/VGG19_CIFAR10_DeepHash": hashing.vgg(),
    "reid/MetaBIN_ResNet50_cross_domain": persons.metabin(8, 25),
    "reid/MetaBIN_ResNet50_single_source": persons.metabin(116, 25),
    "reid/strong_baseline/baseline": persons.baseline(),
    "reid/strong_baseline/softmax_triplet": persons.softmax_triplet(),
    "reid/strong_baseline/softmax_triplet_with_center": persons.with_center(),
    "slim/GeneralRecognition_PPLCNet_x2_5_quantization": products.quantised(),
    "slim/ResNet50_vehicle_cls_prune": products.car_models(
        products.slimmed("cls", "prune", 160), cosine(0.01), pk(128), Slim=products.FPGM
    ),
    "slim/ResNet50_vehicle_cls_quantization": products.car_models(
        products.slimmed("cls", "pact", 80), cosine(0.001), pk(64), Slim=products.PACT
    ),
    "slim/ResNet50_vehicle_reid_prune": products.cars_again(
        products.slimmed("reid", "prune", 160, **REID), cosine(0.01), pk(128), Slim=products.FPGM
    ),
    "slim/ResNet50_vehicle_reid_quantization": products.cars_again(
        products.slimmed("reid", "pact", 40, **REID), cosine(0.001), pk(64), Slim=products.PACT
    ),
}
# The options that they need here.
OPTIONS = {name: ["Slim=null"] for name in RECIPES if name.startswith("slim/")}
# What the refusals of the others name.
METABIN_REFUSED = "ResNet50_metabin: this backbone exists in PaddleClas, but not here: MetaBIN"
REFUSED = {
    "GeneralRecognition/Gallery2FC_PPLCNet_x2_5": "PaddleClas's Gallery2FC, which does not train",
    "reid/MetaBIN_ResNet50_cross_domain": METABIN_REFUSED,
    "reid/MetaBIN_ResNet50_single_source": METABIN_REFUSED,
    "metric_learning/adaface_ir18": "AdaFaceDataset: this reader exists in PaddleClas, but not here",
}


def write(folder: Path, name: str) -> Path:
    path = folder / "theirs.yaml"
    path.write_text(yaml.dump(RECIPES[name], Dumper=Writer, sort_keys=False))
    return path
