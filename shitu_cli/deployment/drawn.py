"""Drawn images on which an export is proven where there are no real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shitu_cli.config.parts.transforms import Transform
from shitu_cli.data.batch import to_input
from shitu_cli.data.transforms import build_transforms
from shitu_cli.preparation.synthetic import make_product, photograph

PRODUCTS, VIEWS = 8, 4


def drawn_images(transform_ops: Sequence[Transform]) -> tuple[np.ndarray, np.ndarray]:
    """Return drawn images of a few products as network input [N, 3, H, W], and the product of each [N]."""
    rng = np.random.default_rng(0)
    transform = build_transforms(transform_ops)
    products = [make_product(seed) for seed in range(PRODUCTS)]
    images = [transform(photograph(product, rng), rng) for product in products for _ in range(VIEWS)]
    return to_input(np.stack(images), transform.normalize), np.repeat(np.arange(PRODUCTS), VIEWS)
