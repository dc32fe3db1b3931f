"""The families of backbones. A new one is a part here and a class in a file of `model/backbones/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from shitu_cli.config.kinds import BelowOne, Count, Length, Natural, Portion, Positive, Range, Rate
from shitu_cli.config.parts.base import Part

_FILES = "shitu_cli.model.backbones"


@dataclass(frozen=True)
class Backbone(Part):
    """A network from images to maps of features, by its published name."""

    pretrained: Annotated[
        bool | str,
        "weights to start from: a file, an address, a name of `shitu weights list`, or true",
    ] = field(default=False, kw_only=True)
    use_ssld: Annotated[bool, "whether `true` means the distilled weights (SSLD)"] = field(default=False, kw_only=True)
    freeze_norm: Annotated[bool, "whether batch norm keeps its statistics in training, as trained weights want it"] = (
        field(default=False, kw_only=True)
    )
    freeze_at: Annotated[Natural, "layers from the first on (the stem, then each block) that are not trained"] = field(
        default=0, kw_only=True
    )
    lr_mult: Annotated[Rate, "factor on the learning rate of the whole backbone"] = field(default=1.0, kw_only=True)
    layer_decay: Annotated[Portion, "factor on the learning rate from each layer to the one before it"] = field(
        default=1.0, kw_only=True
    )

    @property
    def published_name(self) -> str:
        """The network whose published weights `pretrained: true` means."""
        return self.name


@dataclass(frozen=True)
class OfPaddleClas(Backbone):
    """A network under PaddleClas's name, with its classifier."""

    class_num: Annotated[Count, "classes of the published classifier"] = field(default=1000, kw_only=True)


@dataclass(frozen=True)
class OfTimm(Backbone):
    """A network under timm's name, up to the pooled feature."""

    class_num: Annotated[Natural, "classes of a classifier; 0: none"] = field(default=0, kw_only=True)


def _widths(prefix: str, widths: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {f"{prefix}{width}": {"scale": float(width.replace("_", ".")), **more} for width in widths.split()}


_LCNET = _widths("PPLCNet_x", "0_25 0_35 0_5 0_75 1_0 1_5 2_0 2_5", tanh=False)
_LCNET["PPLCNet_x2_5_Tanh"] = {"scale": 2.5, "tanh": True}
_LCNETV2: dict[str, dict[str, Any]] = {
    "PPLCNetV2_small": {"shitu": False, "variant_scale": 0.75, "variant_depths": (2, 2, 4, 2)},
    "PPLCNetV2_base": {"shitu": False, "variant_scale": 1.0, "variant_depths": (2, 2, 6, 2)},
    "PPLCNetV2_large": {"shitu": False, "variant_scale": 1.25, "variant_depths": (2, 2, 8, 2)},
    "PPLCNetV2_base_ShiTu": {"shitu": True, "variant_scale": 1.0, "variant_depths": (2, 2, 6, 2)},
}
_RESNETS: dict[str, dict[str, Any]] = {
    f"ResNet{depth}{suffix}": {"depth": depth, "vd": bool(suffix), "last_stride": 2}
    for depth in (18, 34, 50, 101, 152)
    for suffix in ("", "_vd")
}
_RESNETS["ResNet50_last_stage_stride1"] = {"depth": 50, "vd": False, "last_stride": 1}
_RESNETS["ResNet50_adaptive_max_pool2d"] = {"depth": 50, "vd": False, "last_stride": 2, "max_pooled": True}
_MOBILE = {
    **_widths("MobileNetV3_large_x", "0_35 0_5 0_75 1_0 1_25", size="large"),
    **_widths("MobileNetV3_small_x", "0_35 0_5 0_75 1_0 1_25", size="small"),
}


@dataclass(frozen=True)
class PPLCNet(OfPaddleClas, built_by=f"{_FILES}.pplcnet", variants=_LCNET):
    """PP-LCNet (arXiv:2109.15099): depthwise separable convolutions, fast on CPUs; `_Tanh` ends in binary features."""

    scale: float = field(init=False)
    tanh: bool = field(init=False)
    dropout_prob: Annotated[BelowOne, "chance of dropping a value before the feature"] = 0.2
    class_expand: Annotated[Count, "size of the feature"] = 1280
    lr_mult_list: Annotated[
        tuple[Rate, ...], Length(6), "factors on the learning rate of conv1 and of stages 2 to 6"
    ] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    stride_list: Annotated[tuple[Count, ...], Length(5), "strides of conv1 and of stages 3 to 6"] = (2, 2, 2, 2, 2)
    use_last_conv: Annotated[bool, "whether a last convolution makes the feature"] = True

    @property
    def published_name(self) -> str:
        return self.name.removesuffix("_Tanh")


@dataclass(frozen=True)
class PPLCNetV2(OfPaddleClas, built_by=f"{_FILES}.pplcnetv2", variants=_LCNETV2):
    """PP-LCNetV2: parallel depthwise branches that become one for deployment; PP-ShiTuV2's backbone."""

    not_supported: ClassVar[Mapping[str, Any]] = {"use_last_conv": True}
    shitu: bool = field(init=False)
    variant_scale: float = field(init=False)
    variant_depths: tuple[int, ...] = field(init=False)
    scale: Annotated[Positive | None, "factor on all widths; null: that of the name"] = None
    dropout_prob: Annotated[BelowOne, "chance of dropping a value before the feature"] = 0.2
    class_expand: Annotated[Count, "size of the feature"] = 1280
    depths: Annotated[tuple[Count, ...] | None, Length(4), "blocks of each stage; null: those of the name"] = None

    @property
    def published_name(self) -> str:
        return self.name.removesuffix("_ShiTu") if self.use_ssld else self.name


@dataclass(frozen=True)
class ResNet(OfPaddleClas, built_by=f"{_FILES}.resnet", variants=_RESNETS):
    """ResNet (arXiv:1512.03385) and its D variant (arXiv:1812.01187)."""

    depth: int = field(init=False)
    vd: bool = field(init=False)
    last_stride: int = field(init=False)
    max_pooled: bool = field(init=False, default=False)
    norm_decay: ClassVar[bool] = True  # PaddleClas decays the norms of these networks like all other weights
    first_shortcut: ClassVar[bool] = True  # PaddleClas has a convolution there, where the shape stays the same
    lr_mult_list: Annotated[
        tuple[Rate, ...], Length(5), "factors on the learning rate of the stem and of the four stages"
    ] = (1.0, 1.0, 1.0, 1.0, 1.0)
    stem_act: Annotated[Literal["relu", None], "activation of the stem"] = "relu"

    @property
    def published_name(self) -> str:
        return self.name.removesuffix("_last_stage_stride1").removesuffix("_adaptive_max_pool2d")


@dataclass(frozen=True)
class MobileNetV3(OfPaddleClas, built_by=f"{_FILES}.mobilenetv3", variants=_MOBILE):
    """MobileNetV3 (arXiv:1905.02244), large and small."""

    scale: float = field(init=False)
    size: str = field(init=False)
    class_expand: Annotated[Count, "size of the feature"] = 1280
    dropout_prob: Annotated[BelowOne, "chance of dropping a value before the feature"] = 0.2


@dataclass(frozen=True)
class MobileNetV1(
    OfPaddleClas,
    built_by=f"{_FILES}.mobilenetv1",
    variants={"MobileNetV1": {"scale": 1.0}, **_widths("MobileNetV1_x", "0_25 0_5 0_75")},
):
    """MobileNet (arXiv:1704.04861)."""

    scale: float = field(init=False)


_VGG_SIGMOID: dict[str, dict[str, Any]] = {"VGG19Sigmoid": {"depth": 19, "sigmoid": True}}


@dataclass(frozen=True)
class VGG(
    OfPaddleClas,
    built_by=f"{_FILES}.vgg",
    variants={**{f"VGG{depth}": {"depth": depth} for depth in (11, 13, 16, 19)}, **_VGG_SIGMOID},
):
    """VGG without batch norm (arXiv:1409.1556), for images of 224 pixels; Sigmoid: with codes between 0 and 1."""

    depth: int = field(init=False)
    sigmoid: bool = field(init=False, default=False)
    stop_grad_layers: Annotated[int, Range(0, 5), "stages from the first on that are not trained"] = 0

    @property
    def published_name(self) -> str:
        return self.name.removesuffix("Sigmoid")


@dataclass(frozen=True)
class AlexNet(OfPaddleClas, built_by=f"{_FILES}.alexnet"):
    """AlexNet (Krizhevsky et al. 2012), for images of 224 pixels."""


_TIMM_RESNETS = {f"resnet{depth}": {"depth": depth, "vd": False, "last_stride": 2} for depth in (18, 34, 50)}


@dataclass(frozen=True)
class TimmResNet(OfTimm, ResNet, built_by=f"{_FILES}.resnet:ResNet", variants=_TIMM_RESNETS):
    """ResNet under timm's names."""

    norm_decay: ClassVar[bool] = False
    first_shortcut: ClassVar[bool] = False


@dataclass(frozen=True)
class MobileNetV4(
    OfTimm,
    built_by=f"{_FILES}.mobilenetv4",
    variants={f"mobilenetv4_conv_{size}": {"size": size} for size in ("small", "medium")},
):
    """MobileNetV4, convolutional (arXiv:2404.10518)."""

    size: str = field(init=False)


_LITE_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
_LITES = {f"tf_efficientnet_lite{n}": {"width": width, "depth": d} for n, (width, d) in enumerate(_LITE_SCALES)}


@dataclass(frozen=True)
class EfficientNetLite(OfTimm, built_by=f"{_FILES}.efficientnet_lite", variants=_LITES):
    """EfficientNet-Lite (arXiv:1905.11946), without squeeze-excite: fast on CPUs and phones."""

    width: float = field(init=False)
    depth: float = field(init=False)


@dataclass(frozen=True)
class AdaFace(
    Backbone,
    built_by=f"{_FILES}.adaface",
    variants={f"AdaFace_IR_{depth}": {"depth": depth} for depth in (18, 34, 50, 101)},
):
    """The residual networks of AdaFace (arXiv:2204.00964), for aligned faces."""

    depth: int = field(init=False)
    input_size: Annotated[tuple[Count, ...], Length(2), "height and width of the images: 112 or 224"] = (112, 112)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.input_size not in ((112, 112), (224, 224)):
            yield "input_size", f"got {list(self.input_size)}, expected [112, 112] or [224, 224]"


@dataclass(frozen=True)
class ViTShape:
    """One transformer.

    `registers` counts tokens beside the class token that carry no position; `pre_norm` normalises before the first
    block and leaves out the bias of the patch embedding (CLIP); `layer_scale` scales what each block adds (DINOv2);
    `map_pool` pools by attention instead of by the class token, which is then absent (SigLIP). `projected` values of
    all tokens are averaged (PaddleClas's CLIP networks), with `patches_only` without the class token.
    """

    patch: int
    width: int
    heads: int
    depth: int = 12
    registers: int = 0
    pre_norm: bool = False
    layer_scale: bool = False
    map_pool: bool = False
    epsilon: float = 1e-6
    projected: int = 0
    patches_only: bool = False

    @property
    def class_token(self) -> bool:
        return not self.map_pool


_VITS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"shape": ViTShape(16, 192, 3)},
    "vit_small_patch16_224": {"shape": ViTShape(16, 384, 6)},
    "vit_small_patch32_224": {"shape": ViTShape(32, 384, 6)},
    "vit_base_patch32_clip_224": {"shape": ViTShape(32, 768, 12, pre_norm=True, epsilon=1e-5)},
    "vit_base_patch16_clip_224": {"shape": ViTShape(16, 768, 12, pre_norm=True, epsilon=1e-5)},
    "vit_small_patch14_dinov2": {"shape": ViTShape(14, 384, 6, layer_scale=True)},
    "vit_base_patch14_dinov2": {"shape": ViTShape(14, 768, 12, layer_scale=True)},
    "vit_small_patch14_reg4_dinov2": {"shape": ViTShape(14, 384, 6, layer_scale=True, registers=4)},
    "vit_base_patch14_reg4_dinov2": {"shape": ViTShape(14, 768, 12, layer_scale=True, registers=4)},
    "vit_base_patch16_siglip_224": {"shape": ViTShape(16, 768, 12, map_pool=True)},
}


@dataclass(frozen=True)
class VisionTransformer(OfTimm, built_by=f"{_FILES}.vit", variants=_VITS):
    """Plain vision transformers (arXiv:2010.11929): augreg, CLIP, DINOv2 and SigLIP."""

    shape: ViTShape = field(init=False)
    img_size: Annotated[Count, "side of the images in pixels, a multiple of the patch size"] = 224

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.img_size % self.shape.patch:
            yield "img_size", f"got {self.img_size}, expected a multiple of the patch size {self.shape.patch}"


_CLIP_VITS: dict[str, dict[str, Any]] = {
    f"CLIP_vit_{name}": {"shape": ViTShape(patch, width, heads, depth, pre_norm=True, epsilon=1e-5, projected=512,
                                           patches_only=name == "base_patch16_224"), "side": side}
    for name, patch, width, heads, depth, side in (
        ("base_patch32_224", 32, 768, 12, 12, 224),
        ("base_patch16_224", 16, 768, 12, 12, 224),
        ("large_patch14_224", 14, 1024, 16, 24, 224),
        ("large_patch14_336", 14, 1024, 16, 24, 336),
    )
}  # fmt: skip


@dataclass(frozen=True)
class CLIPViT(OfPaddleClas, built_by=f"{_FILES}.clip_vit", variants=_CLIP_VITS):
    """CLIP's transformer (arXiv:2103.00020) as PP-ShiTuV2-CLIP has it: 512 values, the mean of the projected tokens."""

    shape: ViTShape = field(init=False)
    side: int = field(init=False)
    return_embed: Annotated[Literal[True], "the feature is projected; there is no classifier here"] = True
    return_mean_embed: Annotated[Literal[True], "the feature is the mean over the tokens"] = True
