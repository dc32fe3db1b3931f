"""The compiled loops of convolutions whose norms are fixed (`fixed`), over a few images at a time.

Arrays are float32 and C-contiguous. Maps lie as [C, H, W, G], the G images of a group innermost: a pointwise
convolution is then one product of matrices, and loops over a row of W * G numbers are long even on small maps.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

import numpy as np

from shitu_cli.model.kernels import ACT_RELU, ACT_RELU6
from shitu_cli.model.kernels.loops import U, compiled
from shitu_cli.model.kernels.planes import copy_lines, from_planes, to_planes

ZERO, SIX = np.float32(0), np.float32(6)


@compiled()
def gather(x: np.ndarray, out: np.ndarray) -> None:
    """out [C, P, G] = x [G, C, P]."""
    groups = U(x.shape[0])
    for c in range(x.shape[1]):
        target = out[c].reshape(-1)
        for b in range(x.shape[0]):
            row, start = x[b, c], U(b)
            for p in range(row.size):
                target[U(p) * groups + start] = row[p]


@compiled()
def scatter(x: np.ndarray, out: np.ndarray) -> None:
    """out [G, C, P] = x [C, P, G]."""
    groups = U(out.shape[0])
    for c in range(out.shape[1]):
        source = x[c].reshape(-1)
        for b in range(out.shape[0]):
            row, start = out[b, c], U(b)
            for p in range(row.size):
                row[p] = source[U(p) * groups + start]


@compiled(reorder=False)
def _shift_act(row: np.ndarray, shift: float, act: int) -> None:
    """row = act(row + shift)."""
    if act == ACT_RELU:
        for i in range(row.size):
            row[i] = max(row[i] + shift, ZERO)
    elif act == ACT_RELU6:
        for i in range(row.size):
            row[i] = min(max(row[i] + shift, ZERO), SIX)
    else:
        for i in range(row.size):
            row[i] += shift


@compiled()
def shift_act(y: np.ndarray, shift: np.ndarray, act: int) -> None:
    """y [A, L] = act(y + shift), a shift for each row."""
    for a in range(y.shape[0]):
        _shift_act(y[a], shift[a], act)


@compiled()
def crop_shift_act(sums: np.ndarray, shift: np.ndarray, act: int, y: np.ndarray, pitch: int) -> None:
    """y [A, H, W * G] = act(sums + shift) of sums [A, H * pitch], without what lies between the lines."""
    for a in range(y.shape[0]):
        out = y[a].reshape(-1)
        copy_lines(out, 0, y.shape[2], sums[a], 0, pitch, y.shape[1], y.shape[2])
        _shift_act(out, shift[a], act)


@compiled()
def spread_lines(d: np.ndarray, out: np.ndarray, lead: int, pitch: int) -> None:
    """Copy the lines of d [A, H, W * G] to `lead`, `lead` + `pitch` and so on in the rows of out; the rest stays."""
    for a in range(d.shape[0]):
        copy_lines(out[a], lead, pitch, d[a].reshape(-1), 0, d.shape[2], d.shape[1], d.shape[2])


@compiled()
def act_gradient(d: np.ndarray, y: np.ndarray, act: int, sums: np.ndarray) -> None:
    """d [A, L] *= act'(…), known from its value y; adds the sum of each row to `sums` float64 [A]."""
    for a in range(d.shape[0]):
        row, value = d[a], y[a]
        total = ZERO
        if act == ACT_RELU:
            for i in range(row.size):
                row[i] = row[i] if value[i] > ZERO else ZERO
                total += row[i]
        elif act == ACT_RELU6:
            for i in range(row.size):
                row[i] = row[i] if (value[i] > ZERO) & (value[i] < SIX) else ZERO
                total += row[i]
        else:
            for i in range(row.size):
                total += row[i]
        sums[a] += total


@compiled()
def _add_taps(out: np.ndarray, x: np.ndarray, w: np.ndarray, g: int) -> None:
    """out[i] += sum_j w[j] * x[i + j * g]."""
    done = 0
    while done < w.size:
        x0, x1, x2 = x[done * g :], x[(done + 1) * g :], x[(done + 2) * g :]
        w0, rest = w[done], w.size - done
        if rest >= 5:
            x3, x4 = x[(done + 3) * g :], x[(done + 4) * g :]
            w1, w2, w3, w4 = w[done + 1], w[done + 2], w[done + 3], w[done + 4]
            for i in range(out.size):
                out[i] += w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i] + w4 * x4[i]
            done += 5
        elif rest >= 3:
            w1, w2 = w[done + 1], w[done + 2]
            for i in range(out.size):
                out[i] += w0 * x0[i] + w1 * x1[i] + w2 * x2[i]
            done += 3
        elif rest == 2:
            w1 = w[done + 1]
            for i in range(out.size):
                out[i] += w0 * x0[i] + w1 * x1[i]
            done += 2
        else:
            for i in range(out.size):
                out[i] += w0 * x0[i]
            done += 1


@compiled()
def _dots(total: np.ndarray, d: np.ndarray, x: np.ndarray, g: int) -> None:
    """total[j] += sum_i d[i] * x[i + j * g]."""
    done = 0
    while done < total.size:
        x0, x1, x2 = x[done * g :], x[(done + 1) * g :], x[(done + 2) * g :]
        s0 = s1 = s2 = s3 = s4 = ZERO
        rest = total.size - done
        if rest >= 5:
            x3, x4 = x[(done + 3) * g :], x[(done + 4) * g :]
            for i in range(d.size):
                v = d[i]
                s0 += v * x0[i]
                s1 += v * x1[i]
                s2 += v * x2[i]
                s3 += v * x3[i]
                s4 += v * x4[i]
            total[done + 3] += s3
            total[done + 4] += s4
        elif rest >= 3:
            for i in range(d.size):
                v = d[i]
                s0 += v * x0[i]
                s1 += v * x1[i]
                s2 += v * x2[i]
        elif rest == 2:
            for i in range(d.size):
                s0 += d[i] * x0[i]
                s1 += d[i] * x1[i]
        else:
            for i in range(d.size):
                s0 += d[i] * x0[i]
        total[done] += s0
        if rest >= 2:
            total[done + 1] += s1
        if rest >= 3:
            total[done + 2] += s2
        done += 5 if rest >= 5 else min(rest, 3)


@compiled()
def depthwise_forward(
    x: np.ndarray, w: np.ndarray, shift: np.ndarray, act: int, stride: int, above: int, before: int, y: np.ndarray
) -> None:
    """y = act(depthwise convolution of x with w [C, k, k] + shift).

    The first window begins `above` rows and `before` columns outside of the map.
    """
    channels, height, width, g = x.shape
    rows, columns, k = y.shape[1], y.shape[2], w.shape[1]
    more = (k + stride - 1) // stride - 1  # lines and columns of a plane beyond those of the output
    pitch = (columns + more) * g
    planes = np.zeros((stride, stride, rows + more + 1, pitch), np.float32)
    sums = np.empty((rows - 1) * pitch + columns * g, np.float32)
    for c in range(channels):
        to_planes(x[c].reshape(height, width * g), planes, above, before, g)
        sums[:] = ZERO
        for i in range(k):
            for remainder in range(min(stride, k)):
                plane = planes[i % stride, remainder].reshape(-1)
                _add_taps(sums, plane[i // stride * pitch :], w[c, i, remainder::stride], g)
        out = y[c].reshape(-1)
        copy_lines(out, 0, columns * g, sums, 0, pitch, rows, columns * g)
        _shift_act(out, shift[c], act)


@compiled()
def depthwise_backward(
    x: np.ndarray, w: np.ndarray, stride: int, above: int, before: int, d: np.ndarray, dx: np.ndarray, dw: np.ndarray
) -> None:
    """Compute dx, and add to dw float64 [C, k, k], from the gradient d of the sums of depthwise_forward."""
    channels, height, width, g = x.shape
    rows, columns, k = d.shape[1], d.shape[2], w.shape[1]
    more = (k + stride - 1) // stride - 1
    pitch = (columns + more) * g
    planes = np.zeros((stride, stride, rows + more + 1, pitch), np.float32)
    lead = more * (pitch + g)  # the zeros that the first lines of dx read before d
    ds = np.zeros(lead + (rows + more + 1) * pitch, np.float32)
    inner = ds[lead : lead + (rows - 1) * pitch + columns * g]
    part = np.zeros(k, np.float32)
    for c in range(channels):
        copy_lines(ds, lead, pitch, d[c].reshape(-1), 0, columns * g, rows, columns * g)
        to_planes(x[c].reshape(height, width * g), planes, above, before, g)
        for i in range(k):
            for remainder in range(min(stride, k)):
                taps = part[: (k - remainder + stride - 1) // stride]
                taps[:] = 0
                _dots(taps, inner, planes[i % stride, remainder].reshape(-1)[i // stride * pitch :], g)
                for j in range(taps.size):
                    dw[c, i, remainder + j * stride] += taps[j]
        _spread_gradient(w[c], ds, lead, planes, stride, height, above, pitch, g)
        from_planes(dx[c].reshape(height, width * g), planes, above, before, g)
        # What lies outside of the map has taken gradients, too; as padding it has to be 0 for the next channel.
        planes[:] = 0


@compiled()
def _spread_gradient(
    w: np.ndarray, ds: np.ndarray, lead: int, planes: np.ndarray, stride: int, height: int, above: int, pitch: int,
    g: int,
) -> None:  # fmt: skip
    """Fill the planes of a channel's dx: each pixel takes from the windows that it lies in."""
    k, lines = w.shape[0], planes.shape[2] - 1
    for row in range(stride):
        first = max(0, (above - row + stride - 1) // stride)
        last = min(lines, (above + height - row + stride - 1) // stride)
        for remainder in range(stride):
            out = planes[row, remainder].reshape(-1)[first * pitch : last * pitch]
            out[:] = 0
            for i in range(row, k, stride):
                taps = np.ascontiguousarray(w[i, remainder::stride][::-1])
                start = lead + first * pitch - i // stride * pitch - (taps.size - 1) * g
                _add_taps(out, ds[start:], taps, g)


@compiled()
def unfold(dw: np.ndarray, w: np.ndarray, slope: np.ndarray, dots: np.ndarray, out: np.ndarray) -> None:
    """dots [A] = sum dw * w, and out = slope * dw, of the rows of [A, B]."""
    for a in range(w.shape[0]):
        row, weights, target, factor = dw[a], w[a], out[a], slope[a]
        total = 0.0
        for i in range(row.size):
            total += np.float64(row[i]) * np.float64(weights[i])
            target[i] = row[i] * factor
        dots[a] = total
