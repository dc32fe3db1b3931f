"""Dense convolutions as products with a matrix whose columns are windows, of which a small part exists at a time.

A row of that matrix, one tap of a channel for all windows, is a part of a plane (see `planes`) that begins at a certain
place: one copy without a look at lines and borders. The gradient of the maps is such a product, too, as each pixel
takes from the windows that it lies in, so nothing has to be added up in memory.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from shitu_cli.model.kernels import grouped, planes
from shitu_cli.model.kernels.loops import compiled

PART = 1 << 16  # numbers of a part of the matrix: 256 KB, half of a core's cache
COLUMNS = 256  # of a part, at least: fewer leave most of the processor idle


class Windows:
    """The windows of a convolution over the maps of a few images, in memory that serves one thread again and again."""

    def __init__(
        self, weight: np.ndarray, stride: int, above: int, before: int, rows: int, columns: int, images: int
    ) -> None:
        self._weight, self._stride, self._above, self._before, self._images = weight, stride, above, before, images
        outputs, channels, kernel, _ = weight.shape
        self._more = -(-kernel // stride) - 1  # lines and columns of a plane beyond those of the output
        self._pitch, self._lines = (columns + self._more) * images, rows + self._more
        self._sums = np.empty((outputs, rows * self._pitch), np.float32)
        self._planes = np.zeros((channels, stride, stride, self._lines + 1, self._pitch), np.float32)
        c, i, j = np.indices(weight.shape[1:]).reshape(3, -1)
        plane = (c * stride + i % stride) * stride + j % stride
        self._starts = (plane * (self._lines + 1) + i // stride) * self._pitch + j // stride * images

    def forward(self, x: np.ndarray, shift: np.ndarray, act: int, y: np.ndarray) -> None:
        """y = act(convolution of x + shift) of maps [C, H, W, G]."""
        matrix = self._weight.reshape(len(y), -1)
        for first, columns in self._parts_of(x):
            np.matmul(matrix, columns, out=self._sums[:, first : first + columns.shape[1]])
        grouped.crop_shift_act(self._sums, shift, act, y.reshape(*y.shape[:2], -1), self._pitch)

    def backward(self, x: np.ndarray, d: np.ndarray, dx: np.ndarray | None, dw: np.ndarray | None) -> None:
        """Compute dx, and add to dw, from the gradient d of the sums of `forward`."""
        grouped.spread_lines(d.reshape(*d.shape[:2], -1), self._gradients, self._lead, self._pitch)
        if dw is not None:
            total, inner = dw.reshape(len(dw), -1), self._gradients[:, self._lead :]
            for first, columns in self._parts_of(x):
                total += inner[:, first : first + columns.shape[1]] @ columns.T
        if dx is None:
            return
        if self._stride > 1:
            dx[:] = 0  # some pixels may lie in no window
        start, stop = self._above // self._stride, -(-(self._above + dx.shape[1]) // self._stride)
        plane = np.empty((len(dx), (min(stop, self._lines) - start) * self._pitch), np.float32)
        for row, column, matrix, starts in self._transposed:
            for first, columns in _parts(starts.size, plane.shape[1]):
                copy_rows(self._gradients.reshape(-1), starts, start * self._pitch + first, columns)
                np.matmul(matrix, columns, out=plane[:, first : first + columns.shape[1]])
            planes.all_from_plane(dx, plane, start, row, column, self._stride, self._above, self._before, self._pitch)

    def _parts_of(self, x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the matrix of the windows of x in parts, each with the number of its first column."""
        planes.all_to_planes(x, self._planes, self._above, self._before)
        for first, columns in _parts(self._starts.size, self._sums.shape[1]):
            copy_rows(self._planes.reshape(-1), self._starts, first, columns)
            yield first, columns

    @property
    def _lead(self) -> int:
        """How many zeros the first pixels of a plane take before the gradients of the outputs."""
        return self._more * (self._pitch + self._images)

    @cached_property
    def _gradients(self) -> np.ndarray:
        """The zeros that the gradients of the outputs are copied into, a row for each output."""
        return np.zeros((len(self._weight), self._lead + self._lines * self._pitch), np.float32)

    @cached_property
    def _transposed(self) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
        """For each plane its row, its column, the weights that its pixels are multiplied with, and what they take."""
        parts, stride, size = [], self._stride, self._gradients.shape[1]
        for row, column in np.ndindex(stride, stride):
            taps = self._weight[:, :, row::stride, column::stride].transpose(1, 0, 2, 3)
            a, i, j = np.indices(taps.shape[1:]).reshape(3, -1)
            if a.size:
                starts = a * size + self._lead - i * self._pitch - j * self._images
                parts.append((row, column, taps.reshape(len(taps), -1), starts))
        return parts


def _parts(rows: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the first column of each part of a matrix [rows, count], and room for the part."""
    size = max(COLUMNS, PART // rows)
    room = np.empty(rows * min(size, count), np.float32)
    for first in range(0, count, size):
        yield first, room[: rows * min(size, count - first)].reshape(rows, -1)


@compiled()
def copy_rows(x: np.ndarray, starts: np.ndarray, first: int, out: np.ndarray) -> None:
    """out [K, n]: row k is x[starts[k] + first :]."""
    for k in range(starts.size):
        planes.copy_lines(out[k], 0, 0, x, starts[k] + first, 0, 1, out.shape[1])
