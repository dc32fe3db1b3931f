"""One training step of a margin head with very many classes: time and memory, side by side in one run.

    python benchmarks/large_head.py [--classes 185341 --features 512 --batch 64]

`one-hot` is the formulation as usually written (cosines and margins of every class, chosen by a one-hot matrix),
on one thread as Paddle runs by default; `one-hot, all threads` adds the settings of `setup_paddle`. `whole` and
`divided` are two processes with half of the batch each, the class centres in both or divided over them. A step is
forward, cross entropy, backward, the sum of gradients over the processes, and Momentum update. Memory is the peak
of one process above itself with the centres made. Every variant runs in processes of its own.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time

VARIANTS = (
    "one-hot",
    "one-hot, all threads",
    "shitu",
    "shitu, sample_ratio 0.1",
    "shitu, 2 processes, whole",
    "shitu, 2 processes, divided",
    "shitu, 2 processes, divided, sample_ratio 0.1",
)


def one_hot_logits(head, x, labels):
    """The ArcMargin of `head`, computed for every class."""
    import paddle
    import paddle.nn.functional as F

    unit = x / paddle.sqrt(paddle.square(x).sum(1, keepdim=True))
    cos = paddle.matmul(unit, head.weight / paddle.sqrt(paddle.square(head.weight).sum(0, keepdim=True)))
    sin = paddle.sqrt(1.0 - paddle.square(cos) + 1e-6)
    phi = cos * math.cos(head.margin) - sin * math.sin(head.margin)
    phi = paddle.where(cos > math.cos(math.pi - head.margin), phi, cos - math.sin(head.margin) * head.margin)
    hot = F.one_hot(labels, head.class_num)
    return (hot * phi + (1.0 - hot) * cos) * head.scale


def peak_mb(reset: bool = False) -> float:
    """Peak resident memory in MB since the last reset (Linux)."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(variant: str, classes: int, features: int, batch: int, steps: int) -> dict[str, float]:
    """Median seconds and peak memory of a step, and the loss of the first."""
    from shitu_cli.runtime.setup import setup_paddle

    if variant != "one-hot":
        setup_paddle("cpu")
    import paddle
    import paddle.nn.functional as F

    from shitu_cli.config.reader import make_part
    from shitu_cli.processes.collectives import join
    from shitu_cli.training.sharded_head import shard_head

    ranks, criterion = join(), make_part("loss", "CELoss").build()
    ratio = 0.1 if "sample" in variant else 1.0
    sizes = {"embedding_size": features, "sample_ratio": ratio}
    # What Python and the compiled loops take is not a step's.
    warm = make_part("head", "ArcMargin", class_num=8, **sizes).build()
    criterion({"softmax": warm.softmax(paddle.randn([2, features]), paddle.to_tensor([0, 1]))}, None).backward()
    paddle.seed(1)
    model = paddle.nn.Layer()
    shape = {"class_num": classes, "margin": 0.2, "scale": 30.0, "shard": "divided" in variant}
    head = model.head = make_part("head", "ArcMargin", **shape, **sizes).build()
    shard_head(model, None, ranks, "cpu")
    x, labels = paddle.randn([batch, features]), paddle.randint(0, classes, [batch])
    own = slice(ranks.rank * batch // ranks.world, (ranks.rank + 1) * batch // ranks.world)
    x, labels = x[own].clone().detach(), labels[own]
    x.stop_gradient = False
    parameters = head.parameters()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=parameters)
    base, seconds, first = peak_mb(reset=True), [], 0.0
    for _ in range(steps):
        start = time.perf_counter()
        if variant.startswith("one-hot"):
            loss = F.cross_entropy(one_hot_logits(head, x, labels), labels)
        else:
            loss = criterion({"softmax": head.softmax(x, labels)}, labels) / ranks.world
        first = first or ranks.sum_vector([loss.item()])[0]
        loss.backward()
        ranks.sum_gradients(parameters)
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
        x.clear_gradient()
        loss = None
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]), "memory_mb": peak_mb() - base, "loss": first}


def run(variant: str, sizes: list[int]) -> dict[str, float]:
    """`measure` in processes of its own; of several, the first one's time and the largest memory."""
    from shitu_cli.processes.launch import rank_environments
    from shitu_cli.processes.machines import alone

    names = ("--classes", "--features", "--batch", "--steps")
    pairs = [part for name, value in zip(names, sizes, strict=True) for part in (name, str(value))]
    command = [sys.executable, __file__, "--one", variant, *pairs]
    environments = rank_environments(["cpu"] * 2, alone(2)) if "2 processes" in variant else [None]
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for env in environments]
    results = [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in running]
    return {**results[0], "memory_mb": max(result["memory_mb"] for result in results)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=185341)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [options.classes, options.features, options.batch, options.steps]
    if options.one:
        print(json.dumps(measure(options.one, *sizes)))
        return
    print(f"{options.classes} classes, {options.features} features, batch {options.batch}")
    print(f"{'variant':45} {'s/step':>8} {'faster':>7} {'peak MB':>9} {'memory':>7} {'loss':>9}")
    base: dict[str, float] = {}
    for variant in VARIANTS:
        got = run(variant, sizes)
        base = base or got
        print(
            f"{variant:45} {got['seconds']:8.3f} {base['seconds'] / got['seconds']:6.1f}x {got['memory_mb']:9.0f} "
            f"{got['memory_mb'] / base['memory_mb']:6.0%} {got['loss']:9.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
