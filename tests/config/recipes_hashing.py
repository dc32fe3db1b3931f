"""PaddleClas's configs for features of bits."""

from __future__ import annotations

from typing import Any

from tests.config.recipe_parts import (
    ACCURACY,
    CIFAR,
    DECODE,
    EXACT,
    FLIP,
    MAP,
    RECALL,
    REID,
    SMOOTH,
    UNUSED,
    Values,
    both,
    centre,
    crop,
    fc,
    general,
    l2,
    momentum,
    net,
    norm,
    piecewise,
    plain,
    rec,
    recipe,
    sized,
    split,
    topk,
)
from tests.config.recipes_products import ALI, general_v1

SIGN = {**REID, "feature_normalize": False, "feature_binarize": "sign"}
ROUND = {"feature_normalize": False, "feature_binarize": "round"}
CIFAR_NORM = norm("1.0/255.0", colours=CIFAR)
HASH_SGD = {"name": "SGD", "lr": piecewise([200], [0.005, 0.0005], learning_rate=0.005), **l2(1e-5)}
HASH_ADAM = {"name": "Adam", "beta1": 0.9, "beta2": 0.999}
HASH_ADAM |= {"lr": piecewise([200], [1e-5, 1e-6], learning_rate=1e-5)}


def binary() -> Values:
    network = rec(net("PPLCNet_x2_5_Tanh", use_ssld=True, class_num=512), None, head=fc(512, 185341))
    return general_v1(0.04, 256, RECALL, network=network, whole=general(**UNUSED, **SIGN), folder="all_data")


def hashing(loss: Values, optimizer: Values, **more: Any) -> Values:
    def cifar(name: str, *, shuffle: bool = False) -> Values:
        root, sampler = "./dataset/CIFAR10/", plain(128, shuffle=shuffle)
        del sampler["name"]
        return split("ImageNetDataset", root, f"{root}{name}_list.txt", [DECODE, sized(224), EXACT], sampler)

    return recipe(
        general(150, 15, 15, "./output", **UNUSED, **SIGN), rec(net("AlexNet", class_num=48), None, **more), [loss],
        optimizer, cifar("train", shuffle=True), both(cifar("test"), cifar("train")), MAP, RECALL, judged=[loss],
    )  # fmt: skip


def rounded_product() -> Values:
    network = rec(net("MobileNetV3_large_x1_0", class_num=512), None, head=fc(512, 50030), softmax="false")
    ops = [DECODE, sized(256), crop(227), FLIP, CIFAR_NORM]
    post = {"name": "Topk", "topk": 5, "class_id_map_file": "ppcls/utils/imagenet1k_label_list.txt"}
    infer = {"infer_imgs": "docs/images/inference_deployment/whl_demo.jpg", "batch_size": 10}
    infer |= {"transforms": [DECODE, *centre(256, 227), CIFAR_NORM, {"ToCHWImage": None}], "PostProcess": post}
    return recipe(
        general(output="./output_dlbhc/", **ROUND), network, [SMOOTH],
        momentum(piecewise([50, 150], [0.1, 0.01, 0.001], learning_rate=0.1), None),
        split("ImageNetDataset", ALI, f"{ALI}train_list.txt", ops, plain(128, shuffle=True)),
        split("ImageNetDataset", ALI, f"{ALI}val_list.txt", [DECODE, sized(227), CIFAR_NORM], plain(256)), ACCURACY,
        seen=[ACCURACY], Infer=infer,
    )  # fmt: skip


def vgg() -> Values:
    root, ops = "./dataset/cifar10/", [DECODE, sized(256), crop(224), FLIP, CIFAR_NORM]
    query, gallery = (
        split("ImageNetDataset", root, f"{root}cifar10-2/{name}.txt", [DECODE, sized(224), CIFAR_NORM], plain(512))
        for name in ("test", "database")
    )
    return recipe(
        general(128, output="./output", **REID, **ROUND),
        rec(net("VGG19Sigmoid", class_num=48), None, head=fc(48, 10), softmax="false"), [SMOOTH],
        momentum(piecewise([200], [0.01, 0.001], learning_rate=0.01), None),
        split("ImageNetDataset", root, f"{root}cifar10-2/train.txt", ops, plain(128, shuffle=True)),
        both(query, gallery), {"mAP": None}, topk("Precisionk", 1, 5), seen=[ACCURACY],
    )  # fmt: skip
