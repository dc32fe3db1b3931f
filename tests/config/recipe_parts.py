"""A compact notation for configs of PaddleClas: the blocks that many of them have in common."""

from __future__ import annotations

from typing import Any

import yaml

Values = dict[str, Any]


class Shared(int):
    """A number that a config writes once, with an anchor, and then names by its alias."""


class Writer(yaml.SafeDumper):
    """Writes shared blocks out, as a person does; of shared numbers, an anchor and its aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return not isinstance(data, Shared)


Writer.add_representer(Shared, lambda writer, number: writer.represent_int(int(number)))

# ------------------------------------------------------------------------------------------------ Global, Arch, Loss

REID, IMAGE = {"eval_mode": "retrieval"}, [3, 224, 224]
UNUSED = {"use_dali": False, "to_static": False}
ADDRESS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
TORCHVISION = f"{ADDRESS}others/resnet50-19c8e357_torch2paddle.pdparams"
PUBLISHED = f"{ADDRESS}rec/models/pretrain/"


def general(
    epochs: int = 100, save: int = 1, look: int = 1, output: str = "./output/", lines: int = 10, **more: Any
) -> Values:
    block: Values = {"checkpoints": None, "pretrained_model": None, "output_dir": output, "device": "gpu"}
    block |= {"save_interval": save, "eval_during_train": True, "eval_interval": look, "epochs": epochs}
    block |= {"print_batch_step": lines, "use_visualdl": False, "image_shape": IMAGE}
    return block | {"save_inference_dir": "./inference", **more}


def net(name: str, pretrained: bool | str = True, **more: Any) -> Values:
    return {"name": name, "pretrained": pretrained, **more}


def fc(size: int, out: int, **more: Any) -> Values:
    return {"name": "FC", "embedding_size": size, "class_num": out, **more}


def arc(classes: int, margin: float, scale: int) -> Values:
    return {"name": "ArcMargin", "embedding_size": 512, "class_num": classes, "margin": margin, "scale": scale}


def rec(
    backbone: Values,
    stop: str | None = "flatten",
    neck: Values | None = None,
    head: Values | None = None,
    softmax: bool | str | None = False,
    **more: Any,
) -> Values:
    """A whole network; `softmax` is its infer_add_softmax, None without the keys of inference."""
    block: Values = {"name": "RecModel", "Backbone": backbone}
    if softmax is not None:
        block |= {"infer_output_key": "features", "infer_add_softmax": softmax}
    parts = {"BackboneStopLayer": stop and {"name": stop}, "Neck": neck, "Head": head}
    return block | {key: part for key, part in parts.items() if part} | more


def bn_neck(size: int) -> Values:
    scale = {"initializer": {"name": "Constant", "value": 1.0}}
    shift = {"initializer": {"name": "Constant", "value": 0.0}, "learning_rate": 1.0e-20}
    return {"name": "BNNeck", "num_features": size, "weight_attr": scale, "bias_attr": shift}


def normal_fc(size: int, out: int) -> Values:
    return fc(size, out, weight_attr={"initializer": {"name": "Normal", "std": 0.001}}, bias_attr=False)


def weighted(name: str, weight: float = 1.0, **more: Any) -> Values:
    return {name: {"weight": weight, **more}}


CE, SMOOTH = weighted("CELoss"), weighted("CELoss", epsilon=0.1)
TRIPLET, SUPCON = weighted("TripletLossV2", margin=0.5), weighted("SupConLoss", views=2)

# ------------------------------------------------------------------------------------------------ Optimizer


def momentum(schedule: Values, decay: float | None) -> Values:
    return {"name": "Momentum", "momentum": 0.9, "lr": schedule} | l2(decay)


def l2(decay: float | None) -> Values:
    return {} if decay is None else {"regularizer": {"name": "L2", "coeff": decay}}


def cosine(rate: float, **more: Any) -> Values:
    return {"name": "Cosine", "learning_rate": rate, **more}


def falls(rate: float, milestones: list[int]) -> Values:
    block = {"name": "MultiStepDecay", "learning_rate": rate, "milestones": milestones, "gamma": 0.5}
    return {**block, "verbose": False, "last_epoch": -1}


def piecewise(epochs: list[int], values: list[float], **more: Any) -> Values:
    return {"name": "Piecewise", "decay_epochs": epochs, "values": values, **more}


# ------------------------------------------------------------------------------------------------ DataLoader, Metric

MEAN: Values = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CIFAR: Values = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}
DECODE: Values = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
FLIP: Values = {"RandFlipImage": {"flip_code": 1}}
AUGMIX: Values = {"AugMix": {"prob": 0.5}}
TENSOR: list[Values] = [{"ToTensor": None}, {"Normalize": MEAN}]


def norm(scale: float | str = 0.00392157, order: str = "", colours: Values = MEAN) -> Values:
    return {"NormalizeImage": {"scale": scale, **colours, "order": order}}


NORM, EXACT = norm(), norm("1.0/255.0")


def sized(size: int | list[int], **more: Any) -> Values:
    return {"ResizeImage": {"size": size, **more}}


def crop(size: int) -> Values:
    return {"RandCropImage": {"size": size}}


def centre(short: int, size: int) -> list[Values]:
    return [{"ResizeImage": {"resize_short": short}}, {"CropImage": {"size": size}}]


def erased(colour: list[float]) -> Values:
    return {"RandomErasing": {"EPSILON": 0.5, "sl": 0.02, "sh": 0.4, "r1": 0.3, "mean": colour}}


BLACK = erased([0.0, 0.0, 0.0])


def plain(size: int, *, shuffle: bool = False) -> Values:
    return {"name": "DistributedBatchSampler", "batch_size": size, "drop_last": False, "shuffle": shuffle}


def pk(size: int, *, drop_last: bool = False, **more: Any) -> Values:
    block = {"name": "PKSampler", "batch_size": size, "sample_per_id": 2, "drop_last": drop_last, "shuffle": True}
    return {**block, **more}


def identity(size: int, images: int, **more: Any) -> Values:
    block = {"name": "DistributedRandomIdentitySampler", "batch_size": size, "num_instances": images}
    return {**block, "drop_last": False, "shuffle": True, **more}


def split(
    reader: str, root: str, path: str, ops: list[Values], sampler: Values, workers: int = 4, **more: Any
) -> Values:
    dataset = {"name": reader, "image_root": root, "cls_label_path": path, **more, "transform_ops": ops}
    return {"dataset": dataset, "sampler": sampler, "loader": {"num_workers": workers, "use_shared_memory": True}}


def both(query: Values, gallery: Values | None = None) -> Values:
    return {"Query": query, "Gallery": gallery or query}


def topk(name: str, *numbers: int) -> Values:
    return {name: {"topk": list(numbers)}}


ACCURACY, RECALL, MAP = topk("TopkAcc", 1, 5), topk("Recallk", 1, 5), {"mAP": {}}


def recipe(
    whole: Values,
    network: Values,
    losses: list[Values],
    optimizer: Values | list[Values],
    train: Values,
    evaluation: Values,
    *metrics: Values,
    judged: list[Values] | None = None,
    seen: list[Values] | None = None,
    **more: Any,
) -> Values:
    """A config whose blocks these are; `judged` is its Loss.Eval, `seen` its Metric.Train."""
    values = {"Global": whole, "Arch": network, "Loss": {"Train": losses, "Eval": judged or [CE]}}
    values |= {"Optimizer": optimizer, "DataLoader": {"Train": train, "Eval": evaluation}}
    return values | {"Metric": ({"Train": seen} if seen else {}) | {"Eval": list(metrics)}, **more}
