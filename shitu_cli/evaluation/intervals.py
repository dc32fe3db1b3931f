"""How sure a share is that was observed in few draws."""

from __future__ import annotations

import math


def wilson_interval(share: float, draws: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of a share that was observed in `draws` independent draws (Wilson 1927)."""
    if not draws or math.isnan(share):
        return 0.0, 1.0
    centre = share + z * z / (2 * draws)
    half = z * math.sqrt(share * (1 - share) / draws + z * z / (4 * draws * draws))
    scale = 1 + z * z / draws
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
