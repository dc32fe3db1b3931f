"""CLIP's image transformer (Radford et al. 2021, arXiv:2103.00020) with PaddleClas's names and pooling.

Other than in vit.py, the feature is the mean of all tokens after the projection; PaddleClas's base network of patch 16
leaves the class token out of it.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Step
from shitu_cli.model.backbones.vit import PatchEmbed, TransformerBlock
from shitu_cli.model.positions import is_resampling, resample_positions


class CLIPViT(Backbone):
    """A transformer whose feature is 512 values, the mean of its projected tokens."""

    classifiers = ("head.",)
    last_parameters = ("proj",)

    def __init__(self, part: parts.CLIPViT) -> None:
        super().__init__()
        shape = part.shape
        self.shape, self.input_size, self.levels = shape, part.side, []
        small = nn.initializer.TruncatedNormal(std=0.02)
        tokens = (part.side // shape.patch) ** 2 + 1
        self.cls_token = self.create_parameter([1, 1, shape.width], default_initializer=small)
        self.pos_embed = self.create_parameter([1, tokens, shape.width], default_initializer=small)
        spread = nn.initializer.Normal(std=shape.width**-0.5)
        self.proj = self.create_parameter([shape.width, shape.projected], default_initializer=spread)
        self.patch_embed = PatchEmbed(shape)
        self.ln_pre = nn.LayerNorm(shape.width)
        self.blocks = nn.Sequential(*[TransformerBlock(shape) for _ in range(shape.depth)])
        self.norm = nn.LayerNorm(shape.width, epsilon=shape.epsilon)
        for layer in self.sublayers():
            if isinstance(layer, nn.Linear):
                small(layer.weight)
                nn.initializer.Constant(0.0)(layer.bias)
        self.feature_size = shape.projected

    def adapted(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tokens, positions = self.pos_embed.shape[1], state.get("pos_embed")
        if positions is None or not is_resampling(positions, tokens, 1):
            return state
        return {**state, "pos_embed": resample_positions(positions, tokens, 1)}

    def steps(self) -> list[Step]:
        steps: list[Step] = [("patch_embed", self._embed), ("ln_pre", self.ln_pre), ("blocks", self.blocks)]
        return [*steps, ("norm", self._normed), ("flatten", self._projected)]

    def sizes(self) -> dict[str, int]:
        return {"flatten": self.shape.projected}

    def _embed(self, images: paddle.Tensor) -> paddle.Tensor:
        self.require_size(images)
        x = self.patch_embed(images)
        # Added to nothing, the token takes the batch's size: see vit.py.
        token = self.cls_token + x[:, :1] * 0.0
        return paddle.concat([token, x], axis=1) + self.pos_embed

    def _normed(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.norm(x[:, 1:] if self.shape.patches_only else x)

    def _projected(self, x: paddle.Tensor) -> paddle.Tensor:
        return (x @ self.proj).mean(1)
