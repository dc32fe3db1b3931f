"""Training throughput on the CPU, with the compiled kernels and with plain Paddle, side by side in one run.

    python benchmarks/train_speed.py [--steps 8] [--network PPLCNet_x0_5 --size 96 --batch 64]

Whole steps (forward, ArcMargin loss, backward, Momentum update) on random images already in memory. `plain` is
Paddle's own operators on one thread, as it runs by default; `plain, all threads` adds threads and the allocator
settings of `setup_paddle`. Every variant runs in its own process, because these settings cannot be undone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

VARIANTS = ("plain", "plain, all threads", "shitu")
DEFAULT_CASES = [("PPLCNet_x0_5", 96, 64), ("PPLCNet_x2_5", 224, 32)]


def measure(network: str, size: int, batch: int, variant: str, steps: int) -> dict[str, float]:
    """Median images/s over `steps` after two steps of warm-up, the seconds of the first, and the losses."""
    from shitu_cli.model.runtime import setup_paddle

    if variant != "plain":
        setup_paddle("cpu")
    import paddle
    import paddle.nn.functional as F

    from shitu_cli.model import build_rec_model

    paddle.seed(1)
    model = build_rec_model(
        {
            "Backbone": {"name": network},
            "BackboneStopLayer": {"name": "flatten"},
            "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 512},
            "Head": {"name": "ArcMargin", "embedding_size": 512, "class_num": 81, "margin": 0.2, "scale": 30},
        }
    )
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=1e-5)
    images, labels = paddle.randn([batch, 3, size, size]), paddle.randint(0, 81, [batch])
    seconds, losses = [], []
    for _ in range(steps + 2):
        start = time.perf_counter()
        loss = F.cross_entropy(model(images, labels)["logits"], labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return {
        "images_per_s": batch / statistics.median(seconds[2:]),
        "first_step_s": seconds[0],
        "third_loss": losses[2],
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(network: str, size: int, batch: int, variant: str, steps: int) -> dict[str, float]:
    environment = dict(os.environ, SHITU_KERNELS="on" if variant == "shitu" else "off")
    command = [sys.executable, __file__, "--one", json.dumps([network, size, batch, variant, steps])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--network")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    cases = [(options.network, options.size, options.batch)] if options.network else DEFAULT_CASES
    print(f"{'network':16} {'px':>4} batch  {'variant':20} {'images/s':>9} {'first s':>8} {'peak MB':>8} {'loss':>9}")
    for network, size, batch in cases:
        for variant in VARIANTS:
            got = run_apart(network, size, batch, variant, options.steps)
            print(
                f"{network:16} {size:4} {batch:5}  {variant:20} {got['images_per_s']:9.1f} {got['first_step_s']:8.2f} "
                f"{got['peak_mb']:8.0f} {got['third_loss']:9.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
