"""Chains of convolutions whose norms keep their statistics, as one operator: CPU tuning of trained networks.

Such a norm is a slope and a shift for each channel. The slope goes into the weights of the convolution before it, the
shift and the activation into the pass that follows the product, so norms cost next to nothing. And images no longer
depend on each other: a chain computes a few of them (`grouped`) from its input to its output, forward and backward,
while their maps are in the processor's cache. Only the outputs of the convolutions are kept for the backward pass: the
slope of ReLU and ReLU6 is known from its value.
"""

# mypy: disable-error-code="override,no-untyped-call"
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from shitu_cli.model import kernels
from shitu_cli.model.kernels import grouped
from shitu_cli.model.kernels.products import split
from shitu_cli.model.kernels.windows import Windows

Total = tuple[np.ndarray, np.ndarray]
COLUMNS = 192  # of a product, at least: fewer leave most of the processor idle


def chain(x: paddle.Tensor, links: Sequence[kernels.Link], shortcut: bool = False) -> paddle.Tensor:
    """Return the output of the links, one after the other; with a `shortcut`, x is added to it.

    Raises ValueError for a shortcut past an activation, whose value would be lost in the sum.
    """
    if shortcut and links[-1].act is not None:
        raise ValueError("a shortcut adds to an output without activation")
    parameters: list[paddle.Tensor] = []
    for link in links:
        parameters += link.parameters()
    recorded = paddle.is_grad_enabled() and not all(tensor.stop_gradient for tensor in (x, *parameters))
    return _Chain.apply(x, *parameters, list(links), shortcut, recorded)


def _group(height: int, width: int, count: int) -> int:
    """Return how many images to compute together: their rows are full vectors, and a product has many columns."""
    group = 1
    while group < min(count, 16) and (width * group % 8 or height * width * group < COLUMNS):
        group *= 2
    return group


class _Step:
    """A link made ready for maps of one size: weights that contain the norm's slope, its shift, the output's size."""

    def __init__(self, link: kernels.Link, height: int, width: int) -> None:
        self.weight, gamma, beta = map(kernels.array, link.parameters())
        self.inverse = 1 / np.sqrt(kernels.array(link.norm._variance) + np.float32(link.norm._epsilon))
        self.mean = np.array(kernels.array(link.norm._mean))
        self.slope = gamma * self.inverse
        self.shift = beta - self.slope * self.mean
        self.act = kernels.ACTIVATIONS[link.act]
        self.folded = self.weight * self.slope[:, None, None, None]
        self.depthwise = link.conv._groups > 1
        self.kernel, self.stride = self.weight.shape[2], link.conv.stride
        first = link.conv.first_window(height, width)
        self.above, self.before = (self.kernel // 2 - start for start in first)
        self.rows, self.columns = (
            (side - 1 - start) // self.stride + 1 for side, start in zip((height, width), first, strict=True)
        )
        self.channels = len(self.weight)
        self.size = self.channels * self.rows * self.columns  # of one image's output

    def forward(self, x: np.ndarray, y: np.ndarray, windows: Windows | None) -> None:
        """y = act(norm(convolution of x)) of maps [C, H, W, G]."""
        if self.depthwise:
            weights = self.folded[:, 0]
            grouped.depthwise_forward(x, weights, self.shift, self.act, self.stride, self.above, self.before, y)
            return
        if windows is not None:
            windows.forward(x, self.shift, self.act, y)
            return
        out = y.reshape(self.channels, -1)
        np.matmul(self.folded.reshape(self.channels, -1), x.reshape(len(x), -1), out=out)
        grouped.shift_act(out, self.shift, self.act)

    def backward(
        self, x: np.ndarray, d: np.ndarray, dx: np.ndarray | None, dw: np.ndarray | None, windows: Windows | None
    ) -> None:
        """Compute dx, and add to dw (of the folded weights), from the gradient d of what the activation took."""
        if self.depthwise:
            dx = np.empty_like(x) if dx is None else dx
            dw = self.no_gradients()[0] if dw is None else dw
            grouped.depthwise_backward(x, self.folded[:, 0], self.stride, self.above, self.before, d, dx, dw[:, 0])
            return
        if windows is not None:
            windows.backward(x, d, dx, dw)
            return
        matrix, inner = self.folded.reshape(self.channels, -1), d.reshape(self.channels, -1)
        if dw is not None:
            dw.reshape(matrix.shape)[:] += inner @ x.reshape(len(x), -1).T
        if dx is not None:
            np.matmul(matrix.T, inner, out=dx.reshape(len(x), -1))

    def windows(self, images: int) -> Windows | None:
        """Return the windows over maps of so many images; None where each is one pixel, or channels stay apart."""
        if self.depthwise or self.kernel == self.stride == 1:
            return None
        return Windows(self.folded, self.stride, self.above, self.before, self.rows, self.columns, images)

    def no_gradients(self) -> Total:
        """Return zeros for the gradients of the folded weights and of the shift."""
        precision = np.float64 if self.depthwise else np.float32
        return np.zeros(self.weight.shape, precision), np.zeros(self.channels)

    def parameter_gradients(self, dw: np.ndarray, sums: np.ndarray) -> list[paddle.Tensor]:
        """Return the gradients of weight, gamma and beta from those of the folded weights and of the shift."""
        gradient, dots = paddle.empty(self.weight.shape, dtype="float32"), np.empty(self.channels)
        matrices = (array.reshape(self.channels, -1) for array in (dw, self.weight))
        grouped.unfold(*matrices, self.slope, dots, kernels.array(gradient).reshape(self.channels, -1))
        of_norm = (self.inverse * (dots - self.mean * sums), sums)
        return [gradient, *(paddle.to_tensor(array.astype(np.float32)) for array in of_norm)]


class _Chain(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, *arguments: Any) -> paddle.Tensor:
        *parameters, links, shortcut, recorded = arguments
        steps: list[_Step] = []
        height, width = x.shape[2:]
        for link in links:
            steps.append(_Step(link, height, width))
            height, width = steps[-1].rows, steps[-1].columns
        count, group = x.shape[0], _group(height, width, x.shape[0])
        y = paddle.empty([count, steps[-1].channels, height, width], dtype="float32")
        kept = [paddle.empty([count * step.size], dtype="float32") for step in steps[:-1]] if recorded else []
        _forward(kernels.array(x), kernels.array(y), [kernels.array(maps) for maps in kept], steps, group, shortcut)
        if recorded:
            ctx.save_for_backward(x, y, *kept)
        ctx.steps, ctx.group, ctx.shortcut = steps, group, shortcut
        ctx.needs_grad = [not tensor.stop_gradient for tensor in (x, *parameters)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        saved = ctx.saved_tensor()
        needs_x, *needs = ctx.needs_grad
        dx = paddle.empty_like(saved[0]) if needs_x else None
        x, y, *kept = (kernels.array(maps) for maps in saved)
        of_x = None if dx is None else kernels.array(dx)
        totals = _backward(x, y, kept, kernels.array(dy), of_x, ctx.steps, ctx.group, ctx.shortcut, needs)
        gradients: list[paddle.Tensor | None] = [dx]
        for number, (step, total) in enumerate(zip(ctx.steps, totals, strict=True)):
            gradients += kernels.only(needs[number * 3 : number * 3 + 3], *step.parameter_gradients(*total))
        return tuple(gradients)


def _forward(
    x: np.ndarray, y: np.ndarray, kept: list[np.ndarray], steps: list[_Step], group: int, shortcut: bool
) -> None:
    """Fill y, and `kept` with the maps between the steps unless it is empty."""

    def part(start: int, stop: int) -> None:
        windows = cache(lambda number, images: steps[number].windows(images))
        spare = [] if kept else [np.empty(step.size * group, np.float32) for step in steps[:-1]]
        for a in range(start * group, min(stop * group, len(x)), group):
            b = min(a + group, len(x))
            maps = _grouped(x[a:b])
            between = _parts(kept, steps, a, b) if kept else _parts(spare, steps, 0, b - a)
            for number, out in enumerate([*between, _room(y[a:b])]):
                steps[number].forward(maps, out, windows(number, b - a))
                maps = out
            _ungroup(maps, y[a:b])
            if shortcut:
                y[a:b] += x[a:b]

    split(-(-len(x) // group), part)


def _backward(
    x: np.ndarray, y: np.ndarray, kept: list[np.ndarray], dy: np.ndarray, dx: np.ndarray | None, steps: list[_Step],
    group: int, shortcut: bool, needs: list[bool],
) -> list[Total]:  # fmt: skip
    """Fill dx, and return for each step the gradients of its folded weights and of its shift."""
    lowest = 0 if dx is not None else needs.index(True) // 3
    wanted = [any(needs[number : number + 2]) for number in range(0, len(needs), 3)]

    def part(start: int, stop: int) -> list[Total]:
        windows = cache(lambda number, images: steps[number].windows(images))
        totals = [step.no_gradients() for step in steps]
        for a in range(start * group, min(stop * group, len(x)), group):
            b = min(a + group, len(x))
            between, d = _parts(kept, steps, a, b), _grouped(dy[a:b])
            if steps[-1].act and b - a == 1:
                d = d.copy()  # it will be changed, and is Paddle's own memory
            values = [*between, _grouped(y[a:b]) if steps[-1].act else d]
            inputs = [_grouped(x[a:b]), *between]
            for number in reversed(range(lowest, len(steps))):
                step, (dw, sums) = steps[number], totals[number]
                flat, value = (maps.reshape(step.channels, -1) for maps in (d, values[number]))
                grouped.act_gradient(flat, value, step.act, sums)
                before = None
                if number > lowest:
                    before = np.empty_like(inputs[number])
                elif dx is not None:
                    before = _room(dx[a:b])
                step.backward(inputs[number], d, before, dw if wanted[number] else None, windows(number, b - a))
                d = d if before is None else before
            if dx is not None:
                _ungroup(d, dx[a:b])
                if shortcut:
                    dx[a:b] += dy[a:b]
        return totals

    first, *others = split(-(-len(x) // group), part)
    for other in others:
        for total, more in zip(first, other, strict=True):
            for array, addition in zip(total, more, strict=True):
                np.add(array, addition, out=array)
    return first


def _parts(kept: list[np.ndarray], steps: list[_Step], start: int, stop: int) -> list[np.ndarray]:
    """Return what was kept of the images start … stop, which lie side by side, as maps [C, H, W, G]."""
    return [
        maps[start * step.size : stop * step.size].reshape(step.channels, step.rows, step.columns, stop - start)
        for maps, step in zip(kept, steps, strict=False)
    ]


def _grouped(maps: np.ndarray) -> np.ndarray:
    """Return maps [G, C, H, W] as [C, H, W, G]; a view where there is one image."""
    out = _room(maps)
    if len(maps) > 1:
        grouped.gather(maps.reshape(*maps.shape[:2], -1), out.reshape(maps.shape[1], -1, len(maps)))
    return out


def _room(maps: np.ndarray) -> np.ndarray:
    """Return room for maps [G, C, H, W] as [C, H, W, G]: their own where there is one image."""
    count, *shape = maps.shape
    return maps.reshape(*shape, 1) if count == 1 else np.empty((*shape, count), np.float32)


def _ungroup(computed: np.ndarray, maps: np.ndarray) -> None:
    """Copy what was computed in _room(maps) to where it belongs."""
    if len(maps) > 1:
        grouped.scatter(computed.reshape(maps.shape[1], -1, len(maps)), maps.reshape(*maps.shape[:2], -1))
