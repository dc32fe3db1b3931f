"""The compiled loops that lay maps out for windows, see `grouped`: by what a stride leaves of row and column.

Windows of a stride s are taken from s * s planes, one for each remainder of the padded row and column: tap (i, j) of
all windows lies in the plane (i % s, j % s), at one constant shift. A plane is one long row, `pitch` numbers from line
to line, so every tap is one loop of full vector instructions; the few columns that mix two lines are not used.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

import numpy as np

from shitu_cli.model.kernels.loops import U, compiled


@compiled()
def copy(out: np.ndarray, x: np.ndarray) -> None:
    """out = x; numba's own assignment looks for common memory first, which takes longer than a short row."""
    for i in range(out.size):
        out[i] = x[i]


@compiled()
def to_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int, g: int) -> None:
    """Copy a map [H, W * g] into planes [s, s, lines, pitch], whose padding stays as it is."""
    stride, lines, wide = planes.shape[0], planes.shape[2], planes.shape[3] // g
    width = x.shape[1] // g
    for r in range(x.shape[0]):
        line, source = (r + above) // stride, x[r]
        if line >= lines:
            break
        for remainder in range(stride):
            first = (remainder - before) % stride
            start = (first + before) // stride
            count = min((width - first + stride - 1) // stride, wide - start)
            target = planes[(r + above) % stride, remainder, line, start * g :]
            if stride == 1:
                copy(target[: count * g], source[: count * g])
            elif stride == 2 and g == 1:
                for q in range(count):
                    target[q] = source[U(first) + U(q) * U(2)]
            else:
                for q in range(count):
                    for b in range(g):
                        target[q * g + b] = source[(first + q * stride) * g + b]


@compiled()
def from_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int, g: int) -> None:
    """Copy a map out of its planes, the reverse of to_planes; what no window reads becomes 0."""
    stride, lines, wide = planes.shape[0], planes.shape[2], planes.shape[3] // g
    width = x.shape[1] // g
    for r in range(x.shape[0]):
        line, target = (r + above) // stride, x[r]
        if line >= lines:
            target[:] = 0
            continue
        if stride > 1:
            target[-(stride - 1) * g :] = 0
        for remainder in range(stride):
            first = (remainder - before) % stride
            start = (first + before) // stride
            count = min((width - first + stride - 1) // stride, wide - start)
            source = planes[(r + above) % stride, remainder, line, start * g :]
            if stride == 1:
                copy(target[: count * g], source[: count * g])
            elif stride == 2 and g == 1:
                for q in range(count):
                    target[U(first) + U(q) * U(2)] = source[q]
            else:
                for q in range(count):
                    for b in range(g):
                        target[(first + q * stride) * g + b] = source[q * g + b]


@compiled()
def all_to_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int) -> None:
    """Copy maps [C, H, W, G] into planes [C, s, s, lines, pitch]."""
    for c in range(x.shape[0]):
        to_planes(x[c].reshape(x.shape[1], x.shape[2] * x.shape[3]), planes[c], above, before, x.shape[3])


@compiled()
def all_from_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int) -> None:
    """Copy maps [C, H, W, G] out of planes [C, s, s, lines, pitch]."""
    for c in range(x.shape[0]):
        from_planes(x[c].reshape(x.shape[1], x.shape[2] * x.shape[3]), planes[c], above, before, x.shape[3])


@compiled()
def to_columns(planes: np.ndarray, kernel: int, start: int, stop: int, columns: int, g: int, out: np.ndarray) -> None:
    """Copy the windows of output rows start … stop from all channels to out [C * k * k, rows * columns * g]."""
    stride, line, size = planes.shape[1], 0, columns * g
    for c in range(planes.shape[0]):
        for i in range(kernel):
            for j in range(kernel):
                plane, target, shift = planes[c, i % stride, j % stride], out[line], j // stride * g
                line += 1
                for r in range(start, stop):
                    copy(target[(r - start) * size : (r - start + 1) * size], plane[r + i // stride, shift:])


@compiled()
def from_columns(planes: np.ndarray, kernel: int, start: int, stop: int, columns: int, g: int, out: np.ndarray) -> None:
    """Add every entry of `out` to the pixel it came from, the transpose of to_columns."""
    stride, line, size = planes.shape[1], 0, columns * g
    for c in range(planes.shape[0]):
        for i in range(kernel):
            for j in range(kernel):
                plane, source, shift = planes[c, i % stride, j % stride], out[line], j // stride * g
                line += 1
                for r in range(start, stop):
                    target = plane[r + i // stride, shift : shift + size]
                    values = source[(r - start) * size : (r - start + 1) * size]
                    for q in range(size):
                        target[q] += values[q]
