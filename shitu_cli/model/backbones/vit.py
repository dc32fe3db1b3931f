"""Plain vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929) under timm's names.

Among them: augreg (arXiv:2106.10270), CLIP (arXiv:2103.00020), DINOv2 (arXiv:2304.07193) with and without registers
(arXiv:2309.16588), and SigLIP (arXiv:2303.15343). They differ in what `ViTShape` says.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.config.parts.backbones import ViTShape
from shitu_cli.model import kernels
from shitu_cli.model.backbones.base import Backbone, Step
from shitu_cli.model.backbones.blocks import LayerNorm, TokenLinear
from shitu_cli.model.layers import Linear, gelu
from shitu_cli.model.positions import is_resampling, resample_positions


def _constant(value: float) -> paddle.nn.initializer.Initializer:
    return nn.initializer.Constant(value)


def _attention(q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor) -> paddle.Tensor:
    """softmax(q kᵀ / sqrt(d)) v of [N, heads, T, d]."""
    # Operators, not paddle.matmul: that cannot be traced into a .pdmodel.
    weights = F.softmax((q * q.shape[-1] ** -0.5) @ k.transpose([0, 1, 3, 2]), axis=-1)
    return weights @ v


class Attention(nn.Layer):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = TokenLinear(width, 3 * width)
        self.proj = TokenLinear(width, width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        width, qkv = x.shape[2], self.qkv(x)
        parts = qkv.reshape([0, x.shape[1], 3, self.heads, width // self.heads]).transpose([2, 0, 3, 1, 4])
        y = _attention(parts[0], parts[1], parts[2])
        return self.proj(y.transpose([0, 2, 1, 3]).reshape([0, x.shape[1], width]))

    def branch(self, norm: LayerNorm, scale: paddle.Tensor | None) -> kernels.Branch:
        """Return the layer, after a norm and before a scale, as the kernels take it."""
        return kernels.Branch(norm, self.qkv, self.proj, scale, self.heads)


class Mlp(nn.Layer):
    """Two linear layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(width, 4 * width)
        self.fc2 = TokenLinear(4 * width, width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc2(gelu(self.fc1(x)))

    def branch(self, norm: LayerNorm, scale: paddle.Tensor | None) -> kernels.Branch:
        """Return the layer, after a norm and before a scale, as the kernels take it."""
        return kernels.Branch(norm, self.fc1, self.fc2, scale)


class LayerScale(nn.Layer):
    """Multiply each channel by a learned number, small at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = self.create_parameter([width], default_initializer=_constant(1e-5))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * self.gamma


class TransformerBlock(nn.Layer):
    """Attention and MLP, each after a layer norm and added to its input.

    Only the first token leaves a block that is `pooled`: where nothing reads the others, their MLP is spared.
    """

    def __init__(self, shape: ViTShape, pooled: bool = False) -> None:
        super().__init__()
        self.pooled = pooled
        self.norm1 = LayerNorm(shape.width, epsilon=shape.epsilon)
        self.attn = Attention(shape.width, shape.heads)
        self.norm2 = LayerNorm(shape.width, epsilon=shape.epsilon)
        self.mlp = Mlp(shape.width)
        self.ls1, self.ls2 = (LayerScale(shape.width) if shape.layer_scale else None for _ in range(2))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self._add(x, self.norm1, self.attn, self.ls1)
        return self._add(x[:, :1] if self.pooled else x, self.norm2, self.mlp, self.ls2)

    def _add(
        self, x: paddle.Tensor, norm: LayerNorm, layer: Attention | Mlp, scale: LayerScale | None
    ) -> paddle.Tensor:
        if kernels.usable(self, x):
            return kernels.branch(x, layer.branch(norm, None if scale is None else scale.gamma))
        y = layer(norm(x))
        return x + (y if scale is None else scale(y))


class AttentionPool(nn.Layer):
    """Pool tokens by attention from one learned query, then an MLP (SigLIP's head)."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.latent = self.create_parameter([1, 1, width], default_initializer=nn.initializer.TruncatedNormal(std=0.02))
        self.q = TokenLinear(width, width)
        self.kv = TokenLinear(width, 2 * width)
        self.proj = TokenLinear(width, width)
        self.norm = LayerNorm(width, epsilon=shape.epsilon)
        self.mlp = Mlp(width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        tokens, width = x.shape[1], x.shape[2]
        size = width // self.heads
        q = self.q(self.latent).reshape([1, 1, self.heads, size]).transpose([0, 2, 1, 3])
        kv = self.kv(x).reshape([0, tokens, 2, self.heads, size]).transpose([2, 0, 3, 1, 4])
        y = _attention(q, kv[0], kv[1]).transpose([0, 2, 1, 3]).reshape([0, 1, width])
        y = self.proj(y)
        return (y + self.mlp(self.norm(y)))[:, 0]


class PatchEmbed(nn.Layer):
    """Image [N, 3, H, W] → tokens [N, H/patch · W/patch, width]."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.proj = nn.Conv2D(
            3, shape.width, shape.patch, stride=shape.patch, bias_attr=False if shape.pre_norm else None
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._maps(x).flatten(2).transpose([0, 2, 1])

    def _maps(self, x: paddle.Tensor) -> paddle.Tensor:
        side = self.proj.weight.shape[2]
        if x.shape[2] % side or x.shape[3] % side or not kernels.usable(self, x):
            return self.proj(x)
        y = kernels.conv(x, self.proj.weight, side, (side // 2, side // 2))  # the first window begins at the edge
        return y if self.proj.bias is None else y + self.proj.bias.reshape([1, -1, 1, 1])


class VisionTransformer(Backbone):
    """A plain transformer for images of `img_size` pixels; a classifier only if `class_num` is above 0."""

    # OpenCLIP's projection into the space that text shares is not part of the pooled feature.
    classifiers = ("head.", "visual.proj", "transformer.", "token_embedding.", "positional_embedding", "ln_final.",
                   "text_projection", "logit_scale", "logit_bias")  # fmt: skip

    def __init__(self, part: parts.VisionTransformer) -> None:
        super().__init__()
        shape, img_size = part.shape, part.img_size
        self.shape, self.input_size = shape, img_size
        self.levels = []
        width = shape.width
        small = nn.initializer.TruncatedNormal(std=0.02)
        if shape.class_token:
            self.cls_token = self.create_parameter([1, 1, width], default_initializer=small)
        if shape.registers:
            self.reg_token = self.create_parameter([1, shape.registers, width], default_initializer=small)
        self.pos_embed = self.create_parameter(
            [1, (img_size // shape.patch) ** 2 + self.positioned, width], default_initializer=small
        )
        self.patch_embed = PatchEmbed(shape)
        if shape.pre_norm:
            self.norm_pre = LayerNorm(width, epsilon=shape.epsilon)
        self.blocks = nn.Sequential(
            *[TransformerBlock(shape) for _ in range(shape.depth - 1)], TransformerBlock(shape, not shape.map_pool)
        )
        self.norm = LayerNorm(width, epsilon=shape.epsilon)
        if shape.map_pool:
            self.attn_pool = AttentionPool(shape)
        self.feature_size = width
        if part.class_num:
            self.head = Linear(width, part.class_num)
            self.feature_size = part.class_num

    @property
    def positioned(self) -> int:
        """Tokens before the patches that have a position embedding: the class token, unless there are registers."""
        return int(self.shape.class_token and not self.shape.registers)

    def adapted(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tokens, positions = self.pos_embed.shape[1], state.get("pos_embed")
        if positions is None or not is_resampling(positions, tokens, self.positioned):
            return state
        return {**state, "pos_embed": resample_positions(positions, tokens, self.positioned)}

    def steps(self) -> list[Step]:
        steps: list[Step] = [("patch_embed", self._embed)]
        if self.shape.pre_norm:
            steps.append(("norm_pre", self.norm_pre))
        steps += [("blocks", self.blocks), ("norm", self.norm)]
        steps.append(("attn_pool", self.attn_pool) if self.shape.map_pool else ("pool", _class_token))
        return [*steps, ("head", self.head)] if "head" in self._sub_layers else steps

    def sizes(self) -> dict[str, int]:
        return {"attn_pool" if self.shape.map_pool else "pool": self.shape.width}

    def _embed(self, images: paddle.Tensor) -> paddle.Tensor:
        self.require_size(images, f"-o Arch.Backbone.img_size={images.shape[2]}, and the same size in the transforms")
        x = self.patch_embed(images)
        tokens = [self.cls_token] if self.shape.class_token else []
        tokens += [self.reg_token] if self.shape.registers else []
        if not tokens:
            return x + self.pos_embed
        # Added to nothing, the tokens take the batch's size: an exported program cannot expand to one that it does not
        # know yet.
        prefix = paddle.concat(tokens, axis=1) + x[:, :1] * 0.0
        if self.positioned:
            return paddle.concat([prefix, x], axis=1) + self.pos_embed
        return paddle.concat([prefix, x + self.pos_embed], axis=1)


def _class_token(x: paddle.Tensor) -> paddle.Tensor:
    return x[:, 0]
