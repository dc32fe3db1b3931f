"""The 34 recognition and metric-learning configs of PaddleClas (ppcls/configs), compact: their keys, nothing else.

`RECIPES` maps the path of each to its values; `OPTIONS` to the options that it needs here; `REFUSED` to what the
refusal of the others names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Values = dict[str, Any]
MEAN = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
DECODE: Values = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
NORM: Values = {"NormalizeImage": {"scale": 0.00392157, **MEAN, "order": ""}}
FLIP: Values = {"RandFlipImage": {"flip_code": 1}}
ERASE: Values = {"RandomErasing": {"EPSILON": 0.5, "sl": 0.02, "sh": 0.4, "r1": 0.3, "mean": [0.0, 0.0, 0.0]}}
AUGMIX: Values = {"AugMix": {"prob": 0.5}}
TENSOR: list[Values] = [{"ToTensor": None}, {"Normalize": MEAN}]
RESIZE: Values = {"ResizeImage": {"size": 224}}
PERSON: Values = {
    "ResizeImage": {"size": [128, 256], "return_numpy": False, "interpolation": "bilinear", "backend": "pil"}
}
CE = [{"CELoss": {"weight": 1.0}}]
TRIPLET = [*CE, {"TripletLossV2": {"weight": 1.0, "margin": 0.5}}]
SUPCON = [*CE, {"SupConLoss": {"weight": 1.0, "views": 2}}]
RETRIEVAL = [{"Recallk": {"topk": [1, 5]}}, {"mAP": {}}]
TOPK = [{"TopkAcc": {"topk": [1, 5]}}]
LOADER = {"num_workers": 4, "use_shared_memory": True}
PLAIN = {"name": "DistributedBatchSampler", "batch_size": 64, "drop_last": False, "shuffle": True}
PAIRS = {**PLAIN, "name": "PKSampler", "sample_per_id": 2}
IDENTITY = {"name": "DistributedRandomIdentitySampler", "batch_size": 64, "num_instances": 2, "drop_last": False}


def split(name: str, ops: list[Values], sampler: Values = PLAIN, path: str = "list.txt", **more: Any) -> Values:
    dataset = {"name": name, "image_root": "./dataset/", "cls_label_path": path, "transform_ops": ops, **more}
    return {"dataset": dataset, "sampler": sampler, "loader": LOADER}


def both(part: Values) -> Values:
    return {"Query": part, "Gallery": part}


def optimizer(schedule: str = "Cosine", rate: float | None = 0.04, name: str = "Momentum", **more: Any) -> Values:
    rates = {} if rate is None else {"learning_rate": rate}
    base = {"momentum": 0.9} if name == "Momentum" else {}
    return {
        "name": name,
        **base,
        "lr": {"name": schedule, **rates, **more},
        "regularizer": {"name": "L2", "coeff": 1e-5},
    }


def arch(
    backbone: str, stop: str | None = "flatten", neck: Values | None = None, head: Values | None = None, **args: Any
) -> Values:
    block: Values = {"name": "RecModel", "infer_output_key": "features", "infer_add_softmax": False}
    block["Backbone"] = {"name": backbone, "pretrained": False, **args}
    if stop:
        block["BackboneStopLayer"] = {"name": stop} | ({"output_dim": 2048} if backbone == "ResNet50" else {})
    return block | ({"Neck": neck} if neck else {}) | ({"Head": head} if head else {})


def fc(size: int, out: int = 512) -> Values:
    return {"name": "FC", "embedding_size": size, "class_num": out}


def margin(classes: int = 1000, **more: Any) -> Values:
    return {"name": "ArcMargin", "embedding_size": 512, "class_num": classes, "margin": 0.15, "scale": 30, **more}


def recipe(network: Values, train: Values, evaluation: Values, **more: Any) -> Values:
    losses, metric = more.pop("losses", CE), more.pop("metric", RETRIEVAL)
    general: Values = {"checkpoints": None, "pretrained_model": None, "output_dir": "./output/", "device": "gpu"}
    general |= {"save_interval": 1, "eval_during_train": True, "eval_interval": 1, "epochs": 100, "use_visualdl": False}
    general |= {"image_shape": [3, 224, 224], "save_inference_dir": "./inference"}
    values = {"Global": general | more.pop("general", {"eval_mode": "retrieval"}), "Arch": network}
    values |= {"Loss": {"Train": losses, "Eval": CE}, "Optimizer": more.pop("optimizer", optimizer())}
    return values | {"DataLoader": {"Train": train, "Eval": evaluation}, "Metric": {"Eval": metric}} | more


CROP = [DECODE, {"RandCropImage": {"size": 224}}, FLIP, NORM]
SIMPLE = [DECODE, RESIZE, FLIP, NORM]
SEEN = both(split("VeriWild", [DECODE, RESIZE, NORM]))
VEHICLE_OPS = [DECODE, RESIZE, FLIP, AUGMIX, NORM, ERASE]
VEHICLE_NECK = {"name": "VehicleNeck", "in_channels": 2048, "out_channels": 512}
CARS = {"label_root": "./dataset/label/", "bbox_crop": True}
STEPS = {"milestones": [30, 60], "gamma": 0.5, "verbose": False, "last_epoch": -1}
BN_NECK = {
    "name": "BNNeck",
    "num_features": 2048,
    "weight_attr": {"initializer": {"name": "Constant", "value": 1.0}},
    "bias_attr": {"initializer": {"name": "Constant", "value": 0.0}, "learning_rate": 1.0e-20},
}
PERSON_HEAD = {**fc(2048, 751), "weight_attr": {"initializer": {"name": "Normal", "std": 0.001}}, "bias_attr": False}
PERSON_OPS = [PERSON, FLIP, {"Pad": {"padding": 10}}, {"RandCropImageV2": {"size": [128, 256]}}, *TENSOR]
MARKET = {
    "Query": split("Market1501", [PERSON, *TENSOR], path="query", backend="pil"),
    "Gallery": split("Market1501", [PERSON, *TENSOR], path="bounding_box_test", backend="pil"),
}
PERSON_RATES = {"decay_epochs": [30, 60], "values": [3.5e-4, 3.5e-5, 3.5e-6], "by_epoch": True, "last_epoch": 0}
WARM = {"warmup_epoch": 10, "warmup_start_lr": 3.5e-6}
BACK = {"margin": 0.3, "normalize_feature": False, "feature_from": "backbone"}
PERSON_LOSSES = [{"CELoss": {"weight": 1.0, "epsilon": 0.1}}, {"TripletLossV2": {"weight": 1.0, **BACK}}]
PERSON_TRAIN = split("Market1501", PERSON_OPS, {**IDENTITY, "num_instances": 4}, "bounding_box_train", backend="pil")
RESNET1 = "ResNet50_last_stage_stride1"
TORCHVISION = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/others/resnet50-19c8e357_torch2paddle.pdparams"
REID = {"stem_act": None, "pretrained": TORCHVISION}
PACT, FPGM = {"quant": {"name": "pact"}}, {"prune": {"name": "fpgm", "pruned_ratio": 0.3}}
BITS = {"eval_mode": "retrieval", "feature_normalize": False, "feature_binarize": "sign"}
ROUND = {"feature_normalize": False, "feature_binarize": "round"}
HASH_DATA = {
    "dataset": {"name": "CustomizedCifar10", "mode": "train"},
    "sampler": {"batch_size": 128},
    "loader": LOADER,
}


def distilled(*more: Values) -> Values:
    network = arch("PPLCNet_x2_5", neck=fc(1280), head=margin())
    block: Values = {"name": "DistillationModel", "infer_output_key": "features", "infer_add_softmax": False}
    block |= {"is_rec": True, "infer_model_name": "Student", "pretrained_list": None}
    block |= {"freeze_params_list": [False, False], "models": [{"Teacher": network}, {"Student": network}]}
    losses = [
        {"DistillationGTCELoss": {"weight": 1.0, "key": "logits", "model_names": ["Student", "Teacher"]}},
        {"DistillationDMLLoss": {"weight": 1.0, "key": "logits", "model_name_pairs": [["Student", "Teacher"]]}},
        *more,
    ]
    return recipe(block, split("ImageNetDataset", CROP), SEEN, losses=losses)


def vehicle(kind: str, slim: Values | None = None, **more: Any) -> Values:
    """Vehicles: `cls` knows the models of CompCars, `reid` finds the cars of VeRI-Wild again."""
    more = {"losses": SUPCON, **more} | ({"Slim": slim} if slim else {})
    network = arch(RESNET1, "adaptive_avg_pool2d_0", VEHICLE_NECK, margin(431))
    if kind == "reid":
        sampler = PAIRS if slim == PACT else IDENTITY
        return recipe(network, split("VeriWild", VEHICLE_OPS, sampler), SEEN, **more)
    train = split("CompCars", [RESIZE, FLIP, AUGMIX, NORM, ERASE], IDENTITY, **CARS)
    return recipe(network, train, split("CompCars", [RESIZE, NORM], **CARS), metric=TOPK, general={}, **more)


def hashing(loss: Values, schedule: Values, **more: Any) -> Values:
    network = arch("AlexNet", None, class_num=48, pretrained=True, **more)
    return recipe(network, HASH_DATA, both(HASH_DATA), losses=[loss], general=BITS, optimizer=schedule)


def clip(name: str) -> Values:
    timm = {"TimmAutoAugment": {"config_str": "rand-m7-mstd0.5-inc1", "interpolation": "bicubic", "img_size": 224}}
    turn = {"RandomRotation": {"prob": 0.3, "degrees": 90, "interpolation": "bicubic"}}
    seen = both(split("VeriWild", [DECODE, {"ResizeImage": {"size": 224, "interpolation": "bicubic"}}, NORM]))
    network = arch(name, neck=fc(512), head=margin(), return_embed=True, return_mean_embed=True)
    amp = {"scale_loss": 128, "use_dynamic_loss_scaling": True, "level": "O1"}
    return recipe(network, split("ImageNetDataset", [*CROP[:3], timm, turn, NORM]), seen, AMP=amp)


def xbm() -> Values:
    kaiming = {"name": "KaimingNormal", "fan_in": 128, "negative_slope": 0.0, "nonlinearity": "leaky_relu"}
    neck = {**fc(2048, 128), "weight_attr": {"initializer": kaiming}}
    neck["bias_attr"] = {"initializer": {"name": "Constant", "value": 0.0}}
    memory = {"weight": 1.0, "xbm_size": 55000, "xbm_weight": 1.0, "start_iter": 1000, "margin": 0.5}
    memory |= {"embedding_size": 128, "epsilon": 1.0e-5, "normalize_feature": True, "feature_from": "features"}
    crop = {"RandomResizedCrop": {"scale": [0.2, 1], "size": 224}}
    ops = [{"Resize": {"size": 256}}, crop, {"RandomHorizontalFlip": {"prob": 0.5}}, *TENSOR]
    seen = split("GoodsDataset", [{"Resize": {"size": 256}}, {"CenterCrop": {"size": 224}}, *TENSOR], backend="pil")
    plateau = {"mode": "max", "factor": 0.1, "patience": 4, "threshold": 0.001, "threshold_mode": "rel", "cooldown": 2}
    return recipe(
        arch("ResNet50_adaptive_max_pool2d", neck=neck, **REID),
        split("GoodsDataset", ops, {**IDENTITY, "num_instances": 4, "shuffle": True, "max_iters": 1000}, backend="pil"),
        both(seen),
        losses=[{"ContrastiveLoss_XBM": memory}],
        optimizer=optimizer("ReduceOnPlateau", 1e-4, "Adam", min_lr=5e-6, epsilon=1e-8, by_epoch=True, **plateau),
        general={"eval_mode": "retrieval", "iter_per_epoch": 1000, "retrieval_feature_from": "features"},
    )


def person(network: Values, losses: list[Values], rates: Values = PERSON_RATES, **more: Any) -> Values:
    adam = optimizer("Piecewise", None, "Adam", **rates)
    return recipe(network, PERSON_TRAIN, MARKET, losses=losses, **({"optimizer": adam} | more))


def general_v2() -> Values:
    ops = [{"ResizeImage": {"size": [224, 224], "return_numpy": False, "interpolation": "bilinear", "backend": "cv2"}}]
    more = [FLIP, {"Pad": {"padding": 10, "backend": "cv2"}}, {"RandCropImageV2": {"size": [224, 224]}}]
    turn = {"RandomRotation": {"prob": 0.5, "degrees": 90, "interpolation": "bilinear"}}
    sampler = {"name": "PKSampler", "batch_size": 8, "sample_per_id": 4, "drop_last": False, "shuffle": True}
    sampler |= {"sample_method": "id_avg_prob", "id_list": [50030, 80700, 92019, 96015], "ratio": [4, 4]}
    triplet = {"weight": 1.0, "feature_from": "features", "margin": 0.5, "reduction": "mean", "add_absolute": True}
    triplet |= {"absolute_loss_weight": 0.1, "normalize_feature": True, "ap_value": 0.8, "an_value": 0.4}
    network = arch(
        "PPLCNetV2_base_ShiTu", neck={**BN_NECK, "num_features": 512}, head={**PERSON_HEAD, **fc(512, 192612)},
        class_expand=512, use_ssld=True,
    )  # fmt: skip
    train = split("ImageNetDataset", [DECODE, *ops, *more, turn, *ops, NORM], sampler, relabel=True)
    return recipe(network, train, SEEN, losses=[PERSON_LOSSES[0], {"TripletAngularMarginLoss": triplet}])


def gallery_to_fc() -> Values:
    values = recipe(arch("PPLCNet_x2_5", neck=fc(1280), head=margin()), {}, {})
    ops = [{"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}, NORM, {"ToCHWImage": None}]
    process = {"image_root": "./gallery/", "data_file": "./gallery/label.txt", "transform_ops": ops}
    return {
        "Global": values["Global"],
        "Arch": values["Arch"],
        "Slim": {"quant": {"name": "pact"}},
        "IndexProcess": process,
    }


LCNET = arch("PPLCNet_x2_5", neck=fc(1280), head=margin(), use_ssld=True)
VD = arch("ResNet50_vd", "flatten_0", fc(2048), margin())
ALI = arch("ResNet50_vd", "flatten_0", fc(2048), fc(512, 50030))
STEP_DECAY = optimizer("MultiStepDecay", 0.01, **STEPS)
SOP = split("ImageNetDataset", [RESIZE, FLIP, NORM, ERASE], IDENTITY)
KAIMING = {"initializer": {"name": "KaimingUniform", "fan_in": 12288}}
CENTER = {"CenterLoss": {"weight": 0.0005, "num_classes": 751, "feat_dim": 2048, "feature_from": "backbone"}}
HASH_SGD = optimizer("Piecewise", 0.005, "SGD", decay_epochs=[200], values=[0.005, 0.0005])
HASH_ADAM = {
    "name": "Adam",
    "beta1": 0.9,
    "lr": {"name": "Piecewise", "learning_rate": 1e-5, "decay_epochs": [200], "values": [1e-5, 1e-6]},
}
TWO = [
    {"Adam": {"scope": "RecModel", "lr": {"name": "Piecewise", **PERSON_RATES, **WARM}}},
    {"SGD": {"scope": "CenterLoss", "lr": {"name": "Constant", "learning_rate": 1000.0}}},
]
CIRCLE = {"name": "CircleMargin", "margin": 0.35, "scale": 64, "embedding_size": 512}
FACE_OPS = [{"RandomHorizontalFlip": None}, *TENSOR]
ADAFACE = {
    "dataset": {"name": "AdaFaceDataset", "root_dir": "d", "label_path": "l.txt", "transform": FACE_OPS},
    "sampler": PLAIN,
    "loader": LOADER,
}
METABIN = {
    **person(
        arch("ResNet50_metabin", neck={"name": "MetaBNNeck", "num_features": 2048}, head=PERSON_HEAD), PERSON_LOSSES
    ),
    "Optimizer": [
        {"SGD": {"scope": "backbone.*gate", "lr": {"name": "Constant", "learning_rate": 0.2}}},
        {"SGD": {"scope": "RecModel", "lr": {"name": "Constant", "learning_rate": 0.2}}},
    ],
}

RECIPES: dict[str, Values] = {
    "Cartoonface/ResNet50_icartoon": recipe(
        arch("ResNet50", "flatten_0", head=fc(2048, 5013)), split("ICartoonDataset", CROP),
        both(split("ICartoonDataset", [DECODE, RESIZE, NORM])),
        optimizer=optimizer("Piecewise", 0.1, decay_epochs=[30, 60], values=[0.1, 0.01, 0.001]),
    ),
    "DeepHash/DCH": hashing({"DCHLoss": {"weight": 1.0, "gamma": 20.0, "_lambda": 0.1, "n_class": 10}}, HASH_SGD),
    "DeepHash/DSHSD": hashing(
        {"DSHSDLoss": {"weight": 1.0, "alpha": 0.05}}, HASH_ADAM, neck={"name": "Tanh"}, head=fc(48, 10)
    ),
    "DeepHash/LCDSH": hashing({"LCDSHLoss": {"weight": 1.0, "_lambda": 3, "n_class": 10}}, HASH_ADAM),
    "GeneralRecognition/Gallery2FC_PPLCNet_x2_5": gallery_to_fc(),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5": recipe(LCNET, split("ImageNetDataset", CROP), SEEN),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_binary": recipe(
        arch("PPLCNet_x2_5_Tanh", None, head=fc(512, 1000), class_num=512), split("ImageNetDataset", CROP), SEEN,
        general=BITS,
    ),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_dml": distilled(),
    "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_udml": distilled(
        {"DistillationDistanceLoss": {"weight": 1.0, "key": "backbone", "model_name_pairs": [["Student", "Teacher"]]}}
    ),
    "GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_base": clip("CLIP_vit_base_patch16_224"),
    "GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_large": clip("CLIP_vit_large_patch14_224"),
    "GeneralRecognitionV2/GeneralRecognitionV2_PPLCNetV2_base": general_v2(),
    "Logo/ResNet50_ReID": recipe(
        arch(RESNET1, "adaptive_avg_pool2d_0", VEHICLE_NECK, CIRCLE),
        split("LogoDataset", [RESIZE, FLIP, AUGMIX, NORM, {"RandomErasing": {"EPSILON": 0.5}}], IDENTITY),
        both(split("LogoDataset", [RESIZE, NORM])), general={"eval_mode": "retrieval", "class_num": 3000},
        losses=[*CE, {"PairwiseCosface": {"margin": 0.35, "gamma": 64, "weight": 1.0}}],
    ),
    "Products/MV3_Large_1x_Aliproduct_DLBHC": recipe(
        {**arch("MobileNetV3_large_x1_0", None, head=fc(512, 50030), class_num=512), "infer_binarize": "round"},
        split("ImageNetDataset", [DECODE, {"ResizeImage": {"size": 256}}, *CROP[1:]]),
        split("ImageNetDataset", [DECODE, RESIZE, NORM]), metric=TOPK,
        general={**ROUND, "pretrained_model": "./output_product_binary/best_model"},
        optimizer=optimizer("Piecewise", 0.1, decay_epochs=[50, 150], values=[0.1, 0.01, 0.001]),
    ),
    "Products/ResNet50_vd_Aliproduct": recipe(
        ALI, split("ImageNetDataset", [RESIZE, FLIP, NORM]), split("ImageNetDataset", [RESIZE, NORM]),
        general={"eval_mode": "classification", "class_num": 50030}, metric=TOPK,
    ),
    "Products/ResNet50_vd_Inshop": recipe(VD, SOP, both(split("ImageNetDataset", [RESIZE, NORM])), losses=TRIPLET),
    "Products/ResNet50_vd_SOP": recipe(
        VD, SOP, both(split("ImageNetDataset", [RESIZE, NORM])), losses=TRIPLET, optimizer=STEP_DECAY
    ),
    "Vehicle/PPLCNet_2.5x_ReID": recipe(
        LCNET, split("VeriWild", VEHICLE_OPS, PAIRS), SEEN, losses=SUPCON
    ),
    "Vehicle/ResNet50": vehicle("cls", losses=TRIPLET, optimizer=STEP_DECAY),
    "Vehicle/ResNet50_ReID": vehicle("reid"),
    "metric_learning/adaface_ir18": recipe(
        arch("AdaFace_IR_18", None, head={"name": "AdaMargin", "embedding_size": 512, "class_num": 70722, "m": 0.4,
                                          "s": 64, "h": 0.333, "t_alpha": 0.01}, input_size=[112, 112]),
        ADAFACE, {"dataset": {"name": "FiveValidationDataset", "val_data_path": "f"}, "loader": LOADER},
        general={"eval_mode": "adaface"},
    ),
    "metric_learning/xbm_resnet50": xbm(),
    "quick_start/MobileNetV1_retrieval": recipe(
        arch("MobileNetV1", "flatten_0", fc(1024), margin(101)), split("VeriWild", [*SIMPLE, ERASE], IDENTITY), SEEN,
        losses=TRIPLET, optimizer=STEP_DECAY,
    ),
    "quick_start/professional/VGG19_CIFAR10_DeepHash": recipe(
        arch("VGG19Sigmoid", None, head=fc(48, 10), class_num=48), split("ImageNetDataset", CROP),
        both(split("ImageNetDataset", [DECODE, RESIZE, NORM])), general={"eval_mode": "retrieval", **ROUND},
        metric=[{"mAP": None}, {"Precisionk": {"topk": [1, 5]}}],
        optimizer=optimizer("Piecewise", 0.01, decay_epochs=[200], values=[0.01, 0.001]),
    ),
    "reid/MetaBIN_ResNet50_cross_domain": METABIN,
    "reid/MetaBIN_ResNet50_single_source": METABIN,
    "reid/strong_baseline/baseline": person(
        arch("ResNet50", head={**fc(2048, 751), "weight_attr": KAIMING, "bias_attr": KAIMING}, **REID),
        PERSON_LOSSES,
    ),
    "reid/strong_baseline/softmax_triplet": person(
        arch(RESNET1, neck=BN_NECK, head=PERSON_HEAD, **REID), PERSON_LOSSES, {**PERSON_RATES, **WARM}
    ),
    "reid/strong_baseline/softmax_triplet_with_center": person(
        arch(RESNET1, neck=BN_NECK, head=PERSON_HEAD, **REID), [*PERSON_LOSSES, CENTER], optimizer=TWO
    ),
    "slim/GeneralRecognition_PPLCNet_x2_5_quantization": recipe(
        LCNET, split("ImageNetDataset", CROP), SEEN, Slim=PACT
    ),
    "slim/ResNet50_vehicle_cls_prune": vehicle("cls", FPGM),
    "slim/ResNet50_vehicle_cls_quantization": vehicle("cls", PACT),
    "slim/ResNet50_vehicle_reid_prune": vehicle("reid", FPGM),
    "slim/ResNet50_vehicle_reid_quantization": vehicle("reid", PACT),
}  # fmt: skip
# The options that they need here.
CIFAR_FILES = [
    f"DataLoader.{part}.dataset.{key}"
    for part in ("Train", "Eval.Query", "Eval.Gallery")
    for key in ("image_root=./dataset", "cls_label_path=./list.txt")
]
OPTIONS = {
    **{name: ["Slim=null"] for name in RECIPES if name.startswith("slim/")},
    **{name: CIFAR_FILES for name in RECIPES if name.startswith("DeepHash/")},
    "Products/MV3_Large_1x_Aliproduct_DLBHC": ["Global.pretrained_model=null"],
}
# What the refusals of the others name.
METABIN_REFUSED = "ResNet50_metabin: this backbone exists in PaddleClas, but not here: MetaBIN"
REFUSED = {
    "GeneralRecognition/Gallery2FC_PPLCNet_x2_5": "PaddleClas's Gallery2FC, which does not train",
    "reid/MetaBIN_ResNet50_cross_domain": METABIN_REFUSED,
    "reid/MetaBIN_ResNet50_single_source": METABIN_REFUSED,
    "metric_learning/adaface_ir18": "AdaFaceDataset: this reader exists in PaddleClas, but not here",
}


class _Written(yaml.SafeDumper):
    """Writes shared blocks out, as a person does."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write(folder: Path, name: str) -> Path:
    path = folder / "theirs.yaml"
    path.write_text(yaml.dump(RECIPES[name], Dumper=_Written, sort_keys=False))
    return path
