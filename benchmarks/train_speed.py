"""Training throughput on the CPU, with the compiled kernels and with plain Paddle, side by side in one run.

    python benchmarks/train_speed.py [--steps 8] [--network PPLCNet_x0_5 --size 96 --batch 64] [--torch PYTHON]

Whole steps (forward, ArcMargin loss, backward, Momentum update) on random images already in memory. `plain` is
Paddle's own operators on one thread, as it runs by default; `plain, all threads` adds threads and the allocator
settings of `setup_paddle`. Every variant runs in its own process, because these settings cannot be undone, and starts
from the same weights: the losses of the third step show that all compute the same. `--torch` names a Python that has
PyTorch; PP-LCNet then runs there too, as it is, with channels last, and with channels last in bfloat16.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = ("plain", "plain, all threads", "shitu")
TORCH_VARIANTS = ("PyTorch", "PyTorch, channels last", "PyTorch, bf16 channels last")
DEFAULT_CASES = [("PPLCNet_x0_5", 96, 64), ("PPLCNet_x2_5", 224, 32)]


def measure(network: str, size: int, batch: int, variant: str, steps: int, start: str) -> dict[str, float]:
    """Median images/s over `steps` after two steps of warm-up, the seconds of the first, and the losses.

    What the first variant starts from is written to the file `start`.
    """
    from shitu_cli.runtime.setup import setup_paddle

    if variant != "plain":
        setup_paddle("cpu")
    import numpy as np
    import paddle
    import paddle.nn.functional as F

    from shitu_cli.model import build_rec_model

    paddle.seed(1)
    model = build_rec_model(
        {
            "Backbone": {"name": network, "dropout_prob": 0.0} if "PPLCNet" in network else {"name": network},
            "BackboneStopLayer": {"name": "flatten"},
            "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 512},
            "Head": {"name": "ArcMargin", "embedding_size": 512, "class_num": 81, "margin": 0.2, "scale": 30},
        }
    )
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=1e-5)
    random = np.random.default_rng(1)
    pictures, classes = random.normal(size=(batch, 3, size, size)).astype("float32"), random.integers(0, 81, batch)
    if not Path(start).exists():
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        np.savez(start, images=pictures, labels=classes, **weights)
    images, labels = paddle.to_tensor(pictures), paddle.to_tensor(classes)
    seconds, losses = [], []
    for _ in range(steps + 2):
        begun = time.perf_counter()
        loss = F.cross_entropy(model(images, labels)["logits"], labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begun)
    return {
        "images_per_s": batch / statistics.median(seconds[2:]),
        "first_step_s": seconds[0],
        "third_loss": losses[2],
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(case: tuple[str, int, int], variant: str, steps: int, start: Path, torch: str | None) -> dict[str, float]:
    if variant in TORCH_VARIANTS:
        script = Path(__file__).with_name("train_speed_torch.py")
        command = [str(torch), str(script), str(start), str(steps), variant, str(len(os.sched_getaffinity(0)))]
    else:
        command = [sys.executable, __file__, "--one", json.dumps([*case, variant, steps, str(start)])]
    environment = dict(os.environ, SHITU_KERNELS="on" if variant == "shitu" else "off")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--network")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    cases = [(options.network, options.size, options.batch)] if options.network else DEFAULT_CASES
    columns = f"{'images/s':>9} {'ratio':>6} {'first s':>8} {'peak MB':>8} loss"
    print(f"{'network':16} {'px':>4} batch  {'variant':27} {columns}")
    for network, size, batch in cases:
        variants = VARIANTS + (TORCH_VARIANTS if options.torch and "PPLCNet_x" in network else ())
        plain = 0.0
        with tempfile.TemporaryDirectory() as directory:
            for variant in variants:
                start = Path(directory) / "start.npz"
                got = run_apart((network, size, batch), variant, options.steps, start, options.torch)
                plain = plain or got["images_per_s"]
                print(
                    f"{network:16} {size:4} {batch:5}  {variant:27} {got['images_per_s']:9.1f} "
                    f"{got['images_per_s'] / plain:6.2f} {got['first_step_s']:8.2f} {got['peak_mb']:8.0f} "
                    f"{got['third_loss']:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
