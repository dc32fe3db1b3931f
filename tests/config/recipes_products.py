"""PaddleClas's configs for products, vehicles, logos and cartoons, and those of hashing."""

from __future__ import annotations

from typing import Any

from tests.config.recipe_parts import (
    ACCURACY,
    AUGMIX,
    BLACK,
    CE,
    DECODE,
    EXACT,
    FLIP,
    IMAGE,
    MAP,
    NORM,
    PUBLISHED,
    RECALL,
    REID,
    SMOOTH,
    SUPCON,
    TRIPLET,
    UNUSED,
    Shared,
    Values,
    arc,
    bn_neck,
    both,
    centre,
    cosine,
    crop,
    falls,
    fc,
    general,
    identity,
    momentum,
    net,
    norm,
    normal_fc,
    piecewise,
    pk,
    plain,
    rec,
    recipe,
    sized,
    split,
    topk,
    weighted,
)

# ------------------------------------------------------------------------------------------------ general recognition

PACT, FPGM = {"quant": {"name": "pact"}}, {"prune": {"name": "fpgm", "pruned_ratio": 0.3}}
ALI = "./dataset/Aliproduct/"
GENERAL_NECK, GENERAL_HEAD = fc(1280, 512), arc(185341, 0.2, 30)
LCNET = rec(net("PPLCNet_x2_5", use_ssld=True), neck=GENERAL_NECK, head=GENERAL_HEAD)
SEEN = both(split("VeriWild", ALI, f"{ALI}val_list.txt", [DECODE, sized(224), NORM], plain(64)))


def general_train(size: int, name: str = "train_reg_all_data", folder: str = "", **more: Any) -> Values:
    root, ops = f"./dataset/{folder}", [DECODE, crop(224), FLIP, EXACT]
    path = f"{root.removesuffix('/')}/{name}.txt"
    return split("ImageNetDataset", root, path, ops, plain(size, shuffle=True), **more)


def general_v1(
    rate: float,
    size: int,
    *metrics: Values,
    network: Values = LCNET,
    whole: Values = general(**REID, **UNUSED),
    folder: str = "",
    **more: Any,
) -> Values:
    optimizer = momentum(cosine(rate, warmup_epoch=5), 1e-5)
    return recipe(whole, network, [CE], optimizer, general_train(size, folder=folder), SEEN, *metrics, **more)


def quantised() -> Values:
    weights = {"pretrained_model": f"{PUBLISHED}general_PPLCNet_x2_5_pretrained_v1.0.pdparams"}
    network = rec(net("PPLCNet_x2_5", False, use_ssld=True), neck=GENERAL_NECK, head=GENERAL_HEAD)
    whole = general(30, **REID, **UNUSED, **weights)
    return general_v1(0.002, 128, RECALL, network=network, whole=whole, Slim=PACT)


def distilled(*more: str) -> Values:
    pairs = {"model_name_pairs": [["Student", "Teacher"]]}
    network: Values = {"name": "DistillationModel", "infer_output_key": "features", "infer_add_softmax": False}
    network |= {"is_rec": True, "infer_model_name": "Student", "pretrained_list": None}
    network |= {"freeze_params_list": [False, False], "models": [{"Teacher": LCNET}, {"Student": LCNET}]}
    losses = [
        weighted("DistillationGTCELoss", key="logits", model_names=["Student", "Teacher"]),
        weighted("DistillationDMLLoss", key="logits", **pairs),
        *(weighted(name, key="backbone", **pairs) for name in more),
    ]
    judged = [weighted("DistillationGTCELoss", model_names=["Student"])]
    optimizer = momentum(cosine(0.02, warmup_epoch=5), 1e-5)
    return recipe(general(**REID, **UNUSED), network, losses, optimizer, general_train(64), SEEN, RECALL, judged=judged)


def clip(name: str, epochs: int, rate: float, size: int, workers: int) -> Values:
    backbone = net(name, return_embed=True, return_mean_embed=True)
    network = rec(backbone, neck=fc(512, 512), head=arc(192613, 0.2, 30))
    train = general_train(size, "train_reg_all_data_v2", workers=workers)
    timm = {"TimmAutoAugment": {"config_str": "rand-m7-mstd0.5-inc1", "interpolation": "bicubic", "img_size": 224}}
    turn = {"RandomRotation": {"prob": 0.3, "degrees": 90, "interpolation": "bicubic"}}
    train["dataset"]["transform_ops"][3:3] = [timm, turn]
    root = "./dataset/ppshitu_traindata/Aliproduct"
    ops = [DECODE, sized(224, interpolation="bicubic"), EXACT]
    query, gallery = (
        split("VeriWild", place, f"{root}/val_list.txt", ops, plain(32), 12) for place in (root, f"{root}/")
    )
    amp = {"use_amp": False, "use_fp16_test": False, "use_promote": False, "scale_loss": 128.0}
    return recipe(
        general(epochs, 5, **REID, **UNUSED), network, [CE], momentum(cosine(rate, warmup_epoch=1), 2e-5), train,
        both(query, gallery), RECALL, MAP, AMP={**amp, "use_dynamic_loss_scaling": True, "level": "O1"},
    )  # fmt: skip


def general_v2() -> Values:
    size, scaled = Shared(512), sized([224, 224], return_numpy=False, interpolation="bilinear", backend="cv2")
    network = rec(
        net("PPLCNetV2_base_ShiTu", use_ssld=True, class_expand=size), neck=bn_neck(size), head=normal_fc(size, 192612)
    )
    angular = {"feature_from": "features", "margin": 0.5, "reduction": "mean", "add_absolute": True}
    angular |= {"absolute_loss_weight": 0.1, "normalize_feature": True, "ap_value": 0.8, "an_value": 0.4}
    last = norm("1.0/255.0", "hwc")
    turn = {"RandomRotation": {"prob": 0.5, "degrees": 90, "interpolation": "bilinear"}}
    ops = [scaled, FLIP, {"Pad": {"padding": 10, "backend": "cv2"}}, {"RandCropImageV2": {"size": [224, 224]}}, turn]
    ids = {"sample_method": "id_avg_prob", "id_list": [50030, 80700, 92019, 96015], "ratio": [4, 4]}
    whole = {**REID, "retrieval_feature_from": "features", "re_ranking": False, "use_dali": False}
    return recipe(
        general(output="./output", lines=20, **whole), network,
        [SMOOTH, weighted("TripletAngularMarginLoss", **angular)], momentum(cosine(0.06, warmup_epoch=5), 1e-5),
        split("ImageNetDataset", "./dataset/", "./dataset/train_reg_all_data_v2.txt", [DECODE, *ops, scaled, last],
              pk(256, sample_per_id=4, **ids), relabel=True),
        both(split("VeriWild", ALI, f"{ALI}val_list.txt", [DECODE, scaled, last], plain(64))), RECALL, MAP,
        AMP={"scale_loss": 65536, "use_dynamic_loss_scaling": True, "level": "O1"},
    )  # fmt: skip


def gallery_to_fc() -> Values:
    root, whole = "./drink_dataset_v1.0/gallery/", "general_PPLCNet_x2_5"
    ops = [*centre(256, 224), EXACT, {"ToCHWImage": None}]
    network = rec(net("PPLCNet_x2_5", False, use_ssld=True), neck=GENERAL_NECK, head=GENERAL_HEAD, softmax=None)
    weights = {"pretrained_model": f"./pretrained/{whole}_pretrained_v1.0_quant", "image_shape": IMAGE}
    return {
        "Global": {**weights, "save_inference_dir": f"./inference/{whole}_quant/inference"},
        "Slim": PACT,
        "Arch": network,
        "IndexProcess": {
            "image_root": root, "data_file": f"{root}drink_label.txt", "delimiter": "\t", "batch_size": 2,
            "transform_ops": ops,
        },
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ products, vehicles, …

PRODUCT = {"pretrained_model": f"{PUBLISHED}product_ResNet50_vd_Aliproduct_v1.0_pretrained.pdparams", **REID}
SEARCHED = [DECODE, sized(224), NORM]
VARIED = [DECODE, sized(224), FLIP, AUGMIX, NORM, BLACK]


def product(rate: float, classes: int, reader: str, root: str, sampler: Values, *parts: Values) -> Values:
    """Inshop and SOP; `parts` are evaluation and metrics."""
    network = rec(net("ResNet50_vd", False), neck=fc(2048, 512), head=arc(classes, 0.15, 30))
    train = split(reader, root, f"{root}train_list.txt", [*VARIED[:3], NORM, BLACK], sampler)
    optimizer = momentum(falls(rate, [30, 60, 70, 80, 90, 100]), 0.0005)
    return recipe(general(120, 10, 10, **PRODUCT), network, [CE, TRIPLET], optimizer, train, *parts)


def inshop() -> Values:
    root = "./dataset/Inshop/"
    query, gallery = (
        split("ImageNetDataset", root, f"{root}{name}_list.txt", [*SEARCHED[:2], last], plain(64))
        for name, last in (("query", NORM), ("gallery", EXACT))
    )
    return product(0.04, 3997, "ImageNetDataset", root, pk(64, drop_last=True), both(query, gallery), RECALL)


def sop() -> Values:
    root = "./dataset/SOP/"
    seen = both(split("VeriWild", root, f"{root}test_list.txt", SEARCHED, plain(32)))
    return product(0.01, 11319, "VeriWild", root, pk(64), seen, RECALL, MAP)


def aliproduct() -> Values:
    network = rec(net("ResNet50_vd"), neck=fc(2048, 512), head=fc(512, 50030))
    ops, seen = [DECODE, crop(224), FLIP, NORM], [DECODE, *centre(256, 224), NORM]
    return recipe(
        general(120, look=10, eval_mode="classification"), network, [CE], momentum(cosine(0.05), 7e-5),
        split("ImageNetDataset", ALI, f"{ALI}train_list.txt", ops, plain(64, shuffle=True)),
        split("ImageNetDataset", ALI, f"{ALI}val_list.txt", seen, plain(64)), ACCURACY, seen=[ACCURACY],
    )  # fmt: skip


def birds() -> Values:
    """The first steps of PaddleClas's documentation, on CUB-200-2011."""
    root = "./dataset/CUB_200_2011/"
    query, gallery = (
        split("VeriWild", root, f"{root}test_list.txt", [*SEARCHED[:2], last], plain(64)) for last in (NORM, EXACT)
    )
    network = rec(net("MobileNetV1", False), "flatten_0", fc(1024, 512), arc(101, 0.15, 30))
    train = split("VeriWild", root, f"{root}train_list.txt", [*VARIED[:3], NORM, BLACK], identity(64, 2))
    optimizer = momentum(falls(0.01, [20, 30, 40]), 0.0005)
    return recipe(general(50, 5, **REID), network, [CE, TRIPLET], optimizer, train, both(query, gallery), RECALL, MAP)


LONG = [30, 60, 70, 80, 90, 100, 120, 140]


def vehicle(classes: int, stop: str = "avg_pool") -> Values:
    neck = {"name": "VehicleNeck", "in_channels": 2048, "out_channels": 512}
    return rec(net("ResNet50_last_stage_stride1"), stop, neck, arc(classes, 0.15, 32))


def slimmed(task: str, kind: str, epochs: int, **more: Any) -> Values:
    """The Global block of pruning and quantisation."""
    weights = {"cls": "cls_ResNet50_CompCars_v1.2", "reid": "reid_ResNet50_VERIWild_v1.1"}[task]
    start = {"pretrained_model": f"{PUBLISHED}vehicle_{weights}_pretrained.pdparams"}
    return general(epochs, output=f"./output_vehicle_{task}_{kind}/", **start, **more)


def car_models(whole: Values, schedule: Values, sampler: Values, stop: str = "avg_pool", **more: Any) -> Values:
    """The models of CompCars, by classification."""
    root = "./dataset/CompCars/"
    place = f"{root}train_test_split/classification/"
    cars = {"label_root": f"{root}label/", "bbox_crop": True, "workers": 8}
    return recipe(
        whole, vehicle(431, stop), [CE, SUPCON], momentum(schedule, 0.0005),
        split("CompCars", f"{root}image/", f"{place}train_label.txt", VARIED[1:], sampler, **cars),
        split("CompCars", f"{root}image/", f"{place}test_label.txt", SEARCHED[1:], plain(128), **cars), ACCURACY,
        seen=[ACCURACY], **more,
    )  # fmt: skip


def cars_again(whole: Values, schedule: Values, sampler: Values, network: Values | None = None, **more: Any) -> Values:
    """The cars of VeRI-Wild, found again."""
    root, place = "./dataset/VeRI-Wild/images", "./dataset/VeRI-Wild/train_test_split/"
    train = split("VeriWild", f"{root}/", f"{place}train_list_start0.txt", VARIED, sampler, 6)
    query, gallery = (
        split("VeriWild", root, f"{place}test_3000_id{end}.txt", SEARCHED, plain(64), 6) for end in ("_query", "")
    )
    optimizer, found = momentum(schedule, 0.0005), both(query, gallery)
    return recipe(whole, network or vehicle(30671), [CE, SUPCON], optimizer, train, found, RECALL, MAP, **more)


def logo() -> Values:
    root = "dataset/LogoDet-3K-crop/"
    circle = {"name": "CircleMargin", "margin": 0.35, "scale": 64, "embedding_size": 512, "class_num": 3000}
    ops = [*VARIED[:5], {"RandomErasing": {"EPSILON": 0.5}}]
    sampler = {key: value for key, value in pk(128, drop_last=True).items() if key != "shuffle"}
    query, gallery = (
        split("ImageNetDataset", f"{root}{folder}/", f"{root}{name}_list.txt", SEARCHED, plain(128), 8)
        for folder, name in (("val", "query"), ("train", "train"))
    )
    return recipe(
        general(120, **REID), vehicle(0) | {"Head": circle},
        [CE, {"PairwiseCosface": {"margin": 0.35, "gamma": 64, "weight": 1.0}}], momentum(cosine(0.04), 0.0001),
        split("ImageNetDataset", f"{root}train/", f"{root}train_list.txt", ops, sampler, 6), both(query, gallery),
        RECALL, MAP,
    )  # fmt: skip


def cartoons() -> Values:
    root, ops = "./dataset/iCartoonFace", [DECODE, *centre(256, 224), NORM]
    train = [DECODE, crop(224), FLIP, NORM]
    query, gallery = (
        split("ICartoonDataset", root, f"{root}/{name}.txt", ops, plain(64), 8) for name in ("query", "gallery")
    )
    network = rec(net("ResNet50"), head=fc(2048, 5013), softmax="false")
    network["BackboneStopLayer"]["output_dim"] = 2048
    return recipe(
        general(120, **REID, infer_imgs=None, feature_normalize=True), network, [CE],
        momentum(piecewise([30, 60, 90], [0.1, 0.01, 0.001, 0.0001], learning_rate=0.1), 0.0001),
        split("ICartoonDataset", root, f"{root}/train_list.txt", train, plain(256, shuffle=True), 6),
        both(query, gallery), topk("Recallk", 1), seen=[ACCURACY],
    )  # fmt: skip
