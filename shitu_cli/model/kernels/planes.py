"""The compiled loops that lay maps out for windows, see `grouped`: by what a stride leaves of row and column.

Windows of a stride s are taken from s * s planes, one for each remainder of the padded row and column: tap (i, j) of
all windows lies in the plane (i % s, j % s), at one constant shift. A plane is one long row, `pitch` numbers from line
to line and a line longer than windows reach, so every tap is one loop of full vector instructions; the few columns
that mix two lines are not used.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

import numpy as np

from shitu_cli.model.kernels.loops import U, compiled


@compiled()
def copy_lines(
    out: np.ndarray, start: int, pitch: int, x: np.ndarray, first: int, step: int, count: int, size: int
) -> None:
    """out[start + r * pitch + i] = x[first + r * step + i] of flat arrays, for `count` lines r of `size` numbers i.

    No line becomes an array of its own: for a short one, that takes longer than its numbers.
    """
    for r in range(count):
        target, source = U(start + r * pitch), U(first + r * step)
        for i in range(size):
            out[target + U(i)] = x[source + U(i)]


@compiled()
def _take_every_second(
    out: np.ndarray, start: int, pitch: int, x: np.ndarray, first: int, step: int, count: int, size: int
) -> None:
    """out[start + r * pitch + i] = x[first + r * step + 2 * i]."""
    for r in range(count):
        target, source = U(start + r * pitch), U(first + r * step)
        for i in range(size):
            out[target + U(i)] = x[source + U(2) * U(i)]


@compiled()
def _fill_every_second(
    out: np.ndarray, start: int, pitch: int, x: np.ndarray, first: int, step: int, count: int, size: int
) -> None:
    """out[start + r * pitch + 2 * i] = x[first + r * step + i]."""
    for r in range(count):
        target, source = U(start + r * pitch), U(first + r * step)
        for i in range(size):
            out[target + U(2) * U(i)] = x[source + U(i)]


@compiled()
def _overlap(size: int, stride: int, remainder: int, pad: int, start: int, stop: int) -> tuple[int, int, int]:
    """Return the first of `size` pixels with this remainder at the places start … stop, its place, and their number."""
    first = (remainder - pad) % stride
    place = (first + pad) // stride
    skipped = max(0, start - place)
    first, place = first + skipped * stride, place + skipped
    return first, place, max(0, min((size - first + stride - 1) // stride, stop - place))


@compiled()
def to_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int, g: int) -> None:
    """Copy a map [H, W * g] into planes [s, s, lines + 1, pitch], whose padding stays as it is."""
    stride, pitch, size = planes.shape[0], planes.shape[3], x.shape[1]
    pixels = x.reshape(-1)
    for row in range(stride):
        top, line, rows = _overlap(x.shape[0], stride, row, above, 0, planes.shape[2] - 1)
        for column in range(stride):
            left, place, columns = _overlap(size // g, stride, column, before, 0, pitch // g)
            plane, target = planes[row, column].reshape(-1), line * pitch + place * g
            source = top * size + left * g
            if stride == 1:
                copy_lines(plane, target, pitch, pixels, source, size, rows, columns * g)
            elif stride == 2 and g == 1:
                _take_every_second(plane, target, pitch, pixels, source, 2 * size, rows, columns)
            else:
                for r in range(rows):
                    copy_lines(plane, target + r * pitch, g, pixels, source + r * stride * size, stride * g, columns, g)


@compiled()
def _from_plane(
    x: np.ndarray, plane: np.ndarray, start: int, row: int, column: int, stride: int, above: int, before: int,
    pitch: int, g: int,
) -> None:  # fmt: skip
    """Copy those pixels of a map [H, W * g] that lie in the plane of a row and a column, which begins with `start`."""
    size, pixels = x.shape[1], x.reshape(-1)
    top, line, rows = _overlap(x.shape[0], stride, row, above, start, start + plane.size // pitch)
    left, place, columns = _overlap(size // g, stride, column, before, 0, pitch // g)
    target, source = top * size + left * g, (line - start) * pitch + place * g
    if stride == 1:
        copy_lines(pixels, target, size, plane, source, pitch, rows, columns * g)
    elif stride == 2 and g == 1:
        _fill_every_second(pixels, target, 2 * size, plane, source, pitch, rows, columns)
    else:
        for r in range(rows):
            copy_lines(pixels, target + r * stride * size, stride * g, plane, source + r * pitch, g, columns, g)


@compiled()
def from_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int, g: int) -> None:
    """Copy a map out of its planes, the reverse of to_planes; what no window reads becomes 0."""
    stride, pitch = planes.shape[0], planes.shape[3]
    if stride > 1:
        x[:] = 0
    for row in range(stride):
        for column in range(stride):
            plane = planes[row, column, : planes.shape[2] - 1].reshape(-1)
            _from_plane(x, plane, 0, row, column, stride, above, before, pitch, g)


@compiled()
def all_to_planes(x: np.ndarray, planes: np.ndarray, above: int, before: int) -> None:
    """Copy maps [C, H, W, G] into planes [C, s, s, lines + 1, pitch]."""
    for c in range(x.shape[0]):
        to_planes(x[c].reshape(x.shape[1], x.shape[2] * x.shape[3]), planes[c], above, before, x.shape[3])


@compiled()
def all_from_plane(
    x: np.ndarray, plane: np.ndarray, start: int, row: int, column: int, stride: int, above: int, before: int,
    pitch: int,
) -> None:  # fmt: skip
    """Copy those pixels of maps [C, H, W, G] that lie in the plane [C, lines * pitch] of a row and a column.

    The plane begins with its line `start`.
    """
    for c in range(x.shape[0]):
        maps = x[c].reshape(x.shape[1], x.shape[2] * x.shape[3])
        _from_plane(maps, plane[c], start, row, column, stride, above, before, pitch, x.shape[3])
