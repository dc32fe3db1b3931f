"""Networks that are functions, for tests of what calls them."""

from __future__ import annotations

import threading
import time

import numpy as np


class CountedNetwork:
    """Returns each image as its feature after ten milliseconds; `most` is how many images it held at once."""

    def __init__(self) -> None:
        self.most = 0
        self._inside, self._lock = 0, threading.Lock()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(0.01)
        with self._lock:
            self._inside -= 1
        return image.reshape(1, -1)
