"""Convert the images of a batch to the input tensor of the network."""

from __future__ import annotations

import numpy as np
import paddle

from shitu_cli.data.batch import to_input
from shitu_cli.data.transforms import Normalization


def to_tensor(images: np.ndarray, normalization: Normalization | None) -> paddle.Tensor:
    """Return the images as a tensor float32 [N, 3, H, W] on the current device."""
    return paddle.to_tensor(to_input(images, normalization))
