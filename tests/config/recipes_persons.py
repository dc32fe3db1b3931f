"""PaddleClas's configs for persons, faces and metric learning."""

from __future__ import annotations

from typing import Any

from tests.config.recipe_parts import (
    ACCURACY,
    CE,
    FLIP,
    MAP,
    MEAN,
    RECALL,
    REID,
    SMOOTH,
    TENSOR,
    TORCHVISION,
    Shared,
    Values,
    bn_neck,
    both,
    erased,
    fc,
    general,
    identity,
    l2,
    momentum,
    net,
    normal_fc,
    piecewise,
    plain,
    rec,
    recipe,
    sized,
    split,
    topk,
    weighted,
)

FEATURES = {**REID, "retrieval_feature_from": "features", "re_ranking": False}
TALL = {"image_shape": [3, 256, 128]}
PERSON = sized([128, 256], return_numpy=False, interpolation="bilinear", backend="pil")
MOVED: list[Values] = [FLIP, {"Pad": {"padding": 10}}, {"RandCropImageV2": {"size": [128, 256]}}]
BACK = weighted("TripletLossV2", margin=0.3, normalize_feature=False, feature_from="backbone")
STEP = [0.00035, 0.000035, 0.0000035]
WARM = {"warmup_epoch": 10, "warmup_start_lr": 3.5e-6}


def persons(reader: str, path: str, ops: list[Values], sampler: Values) -> Values:
    return split(reader, "./dataset/", path, ops, sampler, backend="pil")


def person(
    network: Values, losses: list[Values], optimizer: Any, feature: str = "features", *, erase: bool = True
) -> Values:
    """Market-1501, by the strong baseline."""
    ops = [PERSON, *MOVED, *TENSOR, *([erased(MEAN["mean"])] if erase else [])]
    train = persons("Market1501", "bounding_box_train", ops, identity(64, 4))
    query, gallery = (
        persons("Market1501", name, [PERSON, *TENSOR], plain(128)) for name in ("query", "bounding_box_test")
    )
    whole = general(120, 40, 10, lines=20, **FEATURES | {"retrieval_feature_from": feature}) | TALL
    return recipe(whole, network, losses, optimizer, train, both(query, gallery), RECALL, MAP)


def adam(epochs: list[int], **more: Any) -> Values:
    return {"lr": piecewise(epochs, STEP, by_epoch=True, last_epoch=0, **more), **l2(0.0005)}


def strong(size: int, out: int) -> Values:
    backbone = net("ResNet50_last_stage_stride1", TORCHVISION, stem_act=None)
    return rec(backbone, neck=bn_neck(size), head=normal_fc(size, out))


def baseline() -> Values:
    kaiming = {"initializer": {"name": "KaimingUniform", "fan_in": 12288}}
    head = fc(2048, 751, weight_attr=kaiming, bias_attr=kaiming)
    network = rec(net("ResNet50", TORCHVISION, stem_act=None), head=head)
    return person(network, [CE, BACK], {"name": "Adam", **adam([40, 70])}, "backbone", erase=False)


def softmax_triplet() -> Values:
    network = strong(Shared(2048), 751)
    return person(network, [SMOOTH, BACK], {"name": "Adam", **adam([30, 60], **WARM)})


def with_center() -> Values:
    size, out = Shared(2048), Shared(751)
    centre = weighted("CenterLoss", 0.0005, num_classes=out, feat_dim=size, feature_from="backbone")
    optimizers = [
        {"Adam": {"scope": "RecModel", **adam([30, 60], **WARM)}},
        {"SGD": {"scope": "CenterLoss", "lr": {"name": "Constant", "learning_rate": 1000.0}}},
    ]
    return person(strong(size, out), [SMOOTH, BACK, centre], optimizers)


def metabin(save: int, lines: int) -> Values:
    size, steps, epochs = Shared(2048), Shared(50), Shared(348)
    uniform = {"name": "KaimingUniform", "negative_slope": 2.23606, "nonlinearity": "leaky_relu"}
    network = rec(
        net("ResNet50_metabin", False, bias_lr_factor=2.0),
        neck={"name": "MetaBNNeck", "num_features": size, "use_global_stats": True},
        head=fc(size, 751, weight_attr={"initializer": uniform}, bias_attr=False),
        softmax=None,
    )
    image = sized([128, 256], return_numpy=False, interpolation="bicubic", backend="pil")
    jitter = {"ColorJitter": {"brightness": 0.15, "contrast": 0.15, "saturation": 0.1, "hue": 0.1}}
    images = {"batch_size": 96, "num_instances": 4, "drop_last": True}
    naive, domains = (
        persons("Market1501", "bounding_box_train", [image, *MOVED, jitter, *TENSOR], {"name": name, **images, **more})
        for name, more in (("NaiveIdentityBatchSampler", {}), ("DomainShuffleBatchSampler", {"camera_to_domain": True}))
    )
    query, gallery = (
        persons("DukeMTMC", name, [image, *TENSOR], plain(128)) for name in ("query", "bounding_box_test")
    )
    from_back = {"feature_from": "backbone"}
    basic = [weighted("CELossForMetaBIN", epsilon=0.1), weighted("TripletLossForMetaBIN", margin=0.3, **from_back)]
    scatter = weighted("IntraDomainScatterLoss", normalize_feature=True, **from_back)
    shuffle = weighted("InterDomainShuffleLoss", normalize_feature=False, **from_back)
    span = {"epochs": epochs, "step_each_epoch": steps, "by_epoch": False}
    fall = {"name": "MultiStepDecay", **span, "learning_rate": 0.01, "milestones": [145, 261], "gamma": 0.1}
    fall |= {"warmup_epoch": 29, "warmup_start_lr": 0.0001, "last_epoch": -1}
    cyclic = {"name": "Cyclic", **span, "base_learning_rate": 0.001, "max_learning_rate": 0.1, "warmup_epoch": 0}
    cyclic |= {"warmup_start_lr": 1, "step_size_up": 1095, "step_size_down": 1095, "last_epoch": 0}
    layers = ".*(conv|batch_norm|instance_norm|feat_bn|fc)"
    gate = {"name": "Constant", "learning_rate": 0.2, "last_epoch": -1}
    optimizers = [
        {"Momentum": {"scope": layers, "lr": fall, "momentum": 0.9, **l2(0.0005)}},
        {"SGD": {"scope": "backbone.*gate", "lr": gate}},
        {"SGD": {"scope": "RecModel", "lr": cyclic}},
    ]
    whole = general(epochs, save, 8, lines=lines, **FEATURES) | TALL
    values = recipe(
        {**whole, "iter_per_epoch": steps, "warmup_iter": 10, "train_mode": "metabin"}, network,
        [*basic, scatter, shuffle], optimizers, naive, both(query, gallery), topk("Recallk", 1, 5, 10), MAP,
        judged=basic[1:], AMP={"scale_loss": 65536, "use_dynamic_loss_scaling": True},
    )  # fmt: skip
    values["Loss"] |= {"Basic": basic, "MetaTrain": [*basic, scatter, shuffle], "MetaTest": basic}
    values["DataLoader"]["Metalearning"] = {"Train": domains}
    return values


def xbm() -> Values:
    size, steps = Shared(128), Shared(1000)
    kaiming = {"name": "KaimingNormal", "fan_in": size, "negative_slope": 0.0, "nonlinearity": "leaky_relu"}
    zero = {"initializer": {"name": "Constant", "value": 0.0}}
    network = rec(
        net("ResNet50_adaptive_max_pool2d", TORCHVISION, stem_act=None),
        neck=fc(2048, size, weight_attr={"initializer": kaiming}, bias_attr=zero),
    )
    pairs = {"margin": 0.5, "embedding_size": size, "epsilon": 1.0e-5, "normalize_feature": True}
    pairs |= {"feature_from": "features"}
    memory = {"xbm_size": 55000, "xbm_weight": 1.0, "start_iter": 1000}
    plateau = {"name": "ReduceOnPlateau", "learning_rate": 0.0001, "mode": "max", "factor": 0.1, "patience": 4}
    plateau |= {"threshold": 0.001, "threshold_mode": "rel", "cooldown": 2, "min_lr": 5e-6, "epsilon": "1e-8"}
    part = {"RandomResizedCrop": {"scale": [0.2, 1], "size": 224}}
    ops = [{"Resize": {"size": 256}}, part, {"RandomHorizontalFlip": {"prob": 0.5}}, *TENSOR]
    seen = [{"Resize": {"size": 256}}, {"CenterCrop": {"size": 224}}, *TENSOR]

    def products(name: str, ops: list[Values], sampler: Values, workers: int) -> Values:
        root = "./dataset/SOP"
        return split("VeriWild", root, f"{root}/{name}_list.txt", ops, sampler, workers, backend="pil")

    return recipe(
        {**general(35, lines=20, **FEATURES), "iter_per_epoch": steps}, network,
        [weighted("ContrastiveLoss_XBM", **memory, **pairs)],
        {"name": "Adam", "lr": {**plateau, "by_epoch": True}, **l2(0.0005)},
        products("train", ops, identity(64, 4, max_iters=steps), 8),
        both(products("test", seen, plain(256), 8), products("test", seen, plain(256), 4)), RECALL, MAP,
        judged=[weighted("ContrastiveLoss", **pairs)],
    )  # fmt: skip


def adaface() -> Values:
    head = {"name": "AdaMargin", "embedding_size": 512, "class_num": 70722, "m": 0.4, "s": 64, "h": 0.333}
    padded = {"prob": 0.2, "padding_num": 0, "size": [112, 112], "scale": [0.2, 1.0], "ratio": [0.75, 4 / 3]}
    jitter = {"prob": 0.2, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0}
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    ops = [{"CropWithPadding": padded}, {"RandomInterpolationAugment": {"prob": 0.2}}, {"ColorJitter": jitter}]
    ops += [{"RandomHorizontalFlip": None}, {"ToTensor": None}, {"Normalize": half}]
    root, loader = "dataset/face/", {"num_workers": 6, "use_shared_memory": True}
    packed = {"name": "AdaFaceDataset", "root_dir": root, "label_path": f"{root}train_filter_label.txt"}
    five = {"name": "FiveValidationDataset", "val_data_path": f"{root}faces_emore"}
    five |= {"concat_mem_file_name": f"{root}faces_emore/concat_validation_memfile"}
    sampler = plain(256, shuffle=True)
    rates = piecewise([12, 20, 24], [0.1, 0.01, 0.001, 0.0001], learning_rate=0.1)
    return {
        "Global": general(26, eval_mode="adaface") | {"image_shape": [3, 112, 112]},
        "Arch": rec(
            {"name": "AdaFace_IR_18", "input_size": [112, 112]}, None, head={**head, "t_alpha": 0.01}
        ),
        "Loss": {"Train": [CE]},
        "Optimizer": momentum(rates, 0.0005),
        "DataLoader": {
            "Train": {"dataset": {**packed, "transform": ops}, "sampler": sampler, "loader": loader},
            "Eval": {"dataset": five, "sampler": {**sampler, "name": "BatchSampler"}, "loader": loader},
        },
        "Metric": {"Train": [ACCURACY]},
    }  # fmt: skip
