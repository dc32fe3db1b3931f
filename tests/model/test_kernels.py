"""The compiled CPU kernels against Paddle's own operators: values, gradients, running statistics."""

import os
import subprocess
import sys

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402
import paddle.nn.functional as F  # noqa: E402

from shitu_cli.model import build_rec_model, kernels  # noqa: E402
from shitu_cli.model.layers import ConvBNAct  # noqa: E402

needs_kernels = pytest.mark.skipif(not kernels.available(), reason="numba or writable DLPack is missing")


def gradients(function, tensors, seed=0):
    """Output and gradients of sum(function(tensors) * random) as arrays."""
    copies = [paddle.to_tensor(t) for t in tensors]
    for copy in copies:
        copy.stop_gradient = False
    y = function(*copies)
    direction = np.random.RandomState(seed).standard_normal(y.shape).astype("float32")
    (y * paddle.to_tensor(direction)).sum().backward()
    return [y.numpy()] + [copy.grad.numpy() for copy in copies]


def assert_close(got, want, tolerance=2e-5):
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3), index


@needs_kernels
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(2, 2), (3, 4), (7, 7), (12, 9), (16, 16)])
def test_depthwise_conv_is_paddles(kernel, stride, size):
    random = np.random.RandomState(1)
    x = random.standard_normal((3, 5, *size)).astype("float32")
    w = random.standard_normal((5, 1, kernel, kernel)).astype("float32")
    got = gradients(lambda x, w: kernels.depthwise_conv(x, w, stride), [x, w])
    want = gradients(lambda x, w: F.conv2d(x, w, stride=stride, padding=kernel // 2, groups=5), [x, w])
    assert_close(got, want)


@needs_kernels
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (16, 13)])
def test_conv_is_paddles(kernel, stride, size):
    random = np.random.RandomState(1)
    x = random.standard_normal((3, 5, *size)).astype("float32")
    w = random.standard_normal((4, 5, kernel, kernel)).astype("float32")
    got = gradients(lambda x, w: kernels.conv(x, w, stride), [x, w])
    want = gradients(lambda x, w: F.conv2d(x, w, stride=stride, padding=kernel // 2), [x, w])
    assert_close(got, want)


@needs_kernels
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(6, 6), (7, 12), (24, 16)])
@pytest.mark.parametrize("depthwise", [True, False])
def test_a_first_window_one_pixel_further_is_another_padding(kernel, size, depthwise):
    random = np.random.RandomState(1)
    first = (1 - size[0] % 2, 1 - size[1] % 2)
    x = random.standard_normal((3, 4, *size)).astype("float32")
    w = random.standard_normal((4, 1 if depthwise else 4, kernel, kernel)).astype("float32")
    run = kernels.depthwise_conv if depthwise else kernels.conv
    pad = kernel // 2
    pads = [pad - first[0], pad, pad - first[1], pad]
    got = gradients(lambda x, w: run(x, w, 2, first), [x, w])
    want = gradients(lambda x, w: F.conv2d(x, w, stride=2, padding=pads, groups=4 if depthwise else 1), [x, w])
    assert_close(got, want)


@needs_kernels
def test_linear_is_paddles():
    random = np.random.RandomState(1)
    x, w = random.standard_normal((5, 7)).astype("float32"), random.standard_normal((7, 3)).astype("float32")
    assert_close(gradients(kernels.linear, [x, w]), gradients(F.linear, [x, w]))


@needs_kernels
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_of_pictures_gives_the_weights_gradient_alone(kernel):
    x, w = paddle.randn([2, 3, 8, 8]), paddle.randn([4, 3, kernel, kernel])
    w.stop_gradient = False
    kernels.conv(x, w, 1).sum().backward()
    got = w.grad.numpy()
    w.clear_gradient()
    F.conv2d(x, w, padding=kernel // 2).sum().backward()
    assert x.grad is None
    assert_close([got], [w.grad.numpy()])


@needs_kernels
def test_several_threads_give_paddles_values_and_the_same_bits_again(tmp_path):
    code = (
        "from shitu_cli.runtime.setup import setup_paddle; setup_paddle('cpu', threads=3)\n"
        "import paddle, paddle.nn.functional as F; from shitu_cli.model import kernels\n"
        "x, w, d = paddle.randn([7, 6, 5, 5]), paddle.randn([8, 6, 3, 3]), paddle.randn([6, 1, 5, 5])\n"
        "w.stop_gradient = d.stop_gradient = False\n"
        "def run(conv, depthwise):\n"
        "    (conv(depthwise(x, d), w) ** 2).sum().backward()\n"
        "    grads = [w.grad.clone(), d.grad.clone()]; w.clear_grad(); d.clear_grad(); return grads\n"
        "ours = [run(lambda x, w: kernels.conv(x, w, 1), lambda x, d: kernels.depthwise_conv(x, d, 1)) for _ in '12']\n"
        "want = run(lambda x, w: F.conv2d(x, w, padding=1), lambda x, d: F.conv2d(x, d, padding=2, groups=6))\n"
        "assert all((a == b).all().item() for a, b in zip(*ours))\n"
        "assert all(float((a - b).abs().max() / b.abs().max()) < 1e-5 for a, b in zip(ours[0], want)); print('equal')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


@needs_kernels
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("act", [None, "relu", "hardswish", "relu6"])
def test_batch_norm_with_activation_is_paddles(act, fixed):
    random = np.random.RandomState(2)
    x = (random.standard_normal((4, 6, 5, 7)) * 4 + 10).astype("float32")
    gamma, beta = random.uniform(0.5, 3, 6).astype("float32"), random.standard_normal(6).astype("float32")
    act_of = {None: lambda v: v, "relu": F.relu, "hardswish": F.hardswish, "relu6": F.relu6}[act]

    def run(fused):
        bn = paddle.nn.BatchNorm2D(6)
        bn.weight.set_value(gamma)
        bn.bias.set_value(beta)
        bn._mean.set_value(gamma * 3)
        bn._use_global_stats = fixed
        values = gradients(lambda x: kernels.batch_norm_act(x, bn, act) if fused else act_of(bn(x)), [x])
        return [*values, bn.weight.grad.numpy(), bn.bias.grad.numpy(), bn._mean.numpy(), bn._variance.numpy()]

    assert_close(run(fused=True), run(fused=False), 5e-5)
    if fixed:  # by statistics that stay as they are
        assert np.array_equal(run(fused=True)[-2], gamma * 3)


@needs_kernels
def test_a_training_step_of_the_network_is_paddles(monkeypatch):
    arch = {
        "Backbone": {"name": "PPLCNet_x0_25", "dropout_prob": 0.0},
        "BackboneStopLayer": {"name": "flatten"},
        "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 16},
        "Head": {"name": "ArcMargin", "embedding_size": 16, "class_num": 4},
    }
    paddle.seed(3)
    model = build_rec_model(arch)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    x = paddle.to_tensor(np.random.RandomState(3).standard_normal((8, 3, 64, 64)).astype("float32"))
    labels = paddle.to_tensor(np.arange(8) % 4)

    def step():
        model.set_state_dict(state)
        model.clear_gradients()
        loss = F.cross_entropy(model(x, labels)["logits"], labels)
        loss.backward()
        return loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters() if not p.stop_gradient}

    fast_loss, fast = step()
    monkeypatch.setattr(kernels, "available", lambda: False)
    slow_loss, slow = step()
    assert fast_loss == pytest.approx(slow_loss, rel=1e-4)
    for name in slow:
        scale = np.abs(slow[name]).max()
        assert np.abs(fast[name] - slow[name]).max() <= 2e-2 * scale + 1e-6, name


@needs_kernels
def test_frozen_weights_get_no_gradient():
    block = ConvBNAct(4, 4, 3, groups=4)
    for parameter in block.parameters():
        parameter.stop_gradient = True
    x = paddle.randn([2, 4, 6, 6])
    x.stop_gradient = False
    block(x).sum().backward()
    assert x.grad is not None and block.conv.weight.grad is None


def test_only_training_on_float32_uses_them():
    block = ConvBNAct(4, 4, 3, groups=4)
    x = paddle.randn([2, 4, 6, 6])
    assert kernels.usable(block, x) == kernels.available()
    assert not kernels.usable(block, x.astype("float64"))
    block.eval()
    assert not kernels.usable(block, x)


def test_training_works_without_numba(tmp_path):
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from shitu_cli.runtime.setup import setup_paddle; setup_paddle('cpu')\n"
        "import paddle; from shitu_cli.model.layers import ConvBNAct; from shitu_cli.model import kernels\n"
        "block = ConvBNAct(4, 4, 3, groups=4); block(paddle.randn([2, 4, 6, 6])).sum().backward()\n"
        "assert not kernels.available() and block.conv.weight.grad is not None; print('trained')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "trained", done.stderr


@needs_kernels
def test_forward_only_in_training_mode_works():
    block, x = ConvBNAct(4, 4, 3, groups=4), paddle.randn([2, 4, 6, 6])
    with paddle.no_grad():
        assert block(x).stop_gradient
    for parameter in block.parameters():
        parameter.stop_gradient = True
    assert block(x).stop_gradient


@needs_kernels
def test_not_a_number_comes_through():
    x = paddle.randn([2, 4, 6, 6])
    x[0, 0, 0, 0] = float("nan")
    assert paddle.isnan(ConvBNAct(4, 4, 3, groups=4)(x)).any().item()


_EVERY_KERNEL = """
import hashlib
import numpy as np
from shitu_cli.runtime.setup import setup_paddle
setup_paddle("cpu", threads=1)
from shitu_cli.model.kernels import grouped, loops, products, small_maps, tokens

rng = np.random.default_rng(0)
digest = hashlib.sha256()

def draw(*shape):
    return rng.standard_normal(shape).astype("float32")

def take(*arrays):
    for array in arrays:
        digest.update(array.tobytes())

x, w = draw(4, 16, 28, 28), draw(16, 1, 3, 3)
small, wide = draw(4, 16, 6, 6), draw(16, 1, 5, 5)
for forward, backward, x_, w_ in (
    (loops.depthwise_forward, loops.depthwise_backward, x, w),
    (small_maps.forward, small_maps.backward, small, wide),
):
    for stride in (1, 2):
        y = np.empty_like(x_[:, :, ::stride, ::stride], order="C")
        forward(x_, w_, stride, y)
        dx, dw = np.empty_like(x_), np.empty_like(w_)
        backward(x_, w_, stride, y, dx, dw)
        take(y, dx, dw)
dense, y = draw(8, 16, 3, 3), draw(4, 8, 14, 14)
products.dense_forward(x, dense, 2, (1, 1), y)
dx, dw = np.empty_like(x), np.empty_like(dense)
products.dense_backward(x, dense, 2, (1, 1), y, dx, dw)
take(y, dx, dw)
flat, gamma, beta = x.reshape(4, 16, -1), draw(16), draw(16)
for act in (0, 1, 2):
    out, grad = np.empty_like(flat), np.empty_like(flat)
    mean, inverse, variance, dgamma, dbeta = (np.empty(16, "float32") for _ in range(5))
    loops.norm_act_forward(flat, gamma, beta, 1e-5, act, out, mean, inverse, variance)
    loops.norm_act_backward(flat, gamma, beta, act, mean, inverse, out, grad, dgamma, dbeta)
    take(out, mean, inverse, variance, grad, dgamma, dbeta)
maps, taps, shift = draw(6, 12, 12, 4), draw(6, 3, 3), draw(6)
out, grad, dtaps, sums = np.empty_like(maps), np.empty_like(maps), np.zeros((6, 3, 3)), np.zeros(6)
grouped.depthwise_forward(maps, taps, shift, 3, 1, 1, 1, out)
grouped.depthwise_backward(maps, taps, 1, 1, 1, out, grad, dtaps)
grouped.act_gradient(grad.reshape(6, -1), out.reshape(6, -1), 3, sums)
take(out, grad, dtaps, sums)
rows, other, grad, out = draw(40, 50), draw(40, 50), np.empty((40, 50), "float32"), np.empty((40, 50), "float32")
tokens.gelu_backward(*(array.reshape(-1) for array in (rows, other, grad, out)))
take(grad, out)
tokens.norm_forward(rows, draw(50), draw(50), 1e-5, out)
tokens.softmax(rows, rows.max(axis=1))
tokens.softmax_backward(other, rows)
take(out, rows, other)
print(digest.hexdigest(), loops.norm_act_backward.stats.cache_hits.total())
"""


@pytest.mark.slow
@needs_kernels
def test_the_process_that_compiles_gets_the_bits_of_those_that_read_the_cache(tmp_path):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    told = []
    for _ in range(2):
        argv = [sys.executable, "-c", _EVERY_KERNEL]
        told.append(subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.split())
    (compiled, no_hits), (read, hits) = told
    assert no_hits == "0" and hits != "0"  # so the first has compiled, and the second has not
    assert compiled == read


@pytest.mark.parametrize("numbers", [[5], [-1], [0, 4, 1 << 40], [-(1 << 40)]])
def test_columns_that_are_not_there_are_no_memory_of_others(numbers):
    from shitu_cli.model.cosine import put_columns, take_columns
    from shitu_cli.model.margin_softmax import _sums

    weight, chosen = paddle.ones([3, 5]), np.asarray(numbers, np.int64)
    with pytest.raises(ValueError, match="there are 5"):
        take_columns(weight, chosen)
    with pytest.raises(ValueError, match="there are 5"):
        put_columns(weight, chosen, paddle.ones([3, len(numbers)]))
    places = chosen if numbers != [-1] else np.asarray([-2])  # -1: no column of this process
    with pytest.raises(ValueError, match="there are 5"):
        _sums(paddle.ones([len(places), 5]), paddle.ones([1, 5]), places, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_no_value_leads_a_loop_out_of_its_arrays(value):
    """Sums of margins, their gradients and neighbours take any values; only what comes out may be without sense."""
    from shitu_cli.evaluation.rerank import _Best
    from shitu_cli.model.margin_softmax import _gradients, _sums

    cosines, inverse, places = paddle.full([3, 7], value), paddle.ones([1, 7]), np.array([-1, 0, 6])
    rest, total, target = _sums(cosines, inverse, places, 30.0)
    assert rest.shape == total.shape == target.shape == [3, 1] and target[0].item() == 0
    assert _gradients(cosines, inverse, places, 30.0, rest, paddle.ones([3, 3])).shape == [1, 7]
    best = _Best(4, 3)
    best.take(np.full((4, 9), value, np.float32), 0, 0)
    assert ((best.numbers >= -1) & (best.numbers < 9)).all()
