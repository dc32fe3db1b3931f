"""Pictures of a batch as the tensor that the network takes."""

from __future__ import annotations

import numpy as np
import paddle

from shitu_cli.data.batch import to_input
from shitu_cli.data.transforms import Normalization


def to_tensor(images: np.ndarray, normalization: Normalization | None) -> paddle.Tensor:
    """float32 [N, 3, H, W] on the current device."""
    return paddle.to_tensor(to_input(images, normalization))
