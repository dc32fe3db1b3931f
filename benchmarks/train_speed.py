"""Training throughput on the CPU, with the compiled kernels and with plain Paddle, side by side in one run.

    python benchmarks/train_speed.py [--steps 8] [--network PPLCNet_x0_5 --size 96 --batch 64] [--torch PYTHON]
    python benchmarks/train_speed.py --tuned [--freeze-at 3] [--rounds 3] [--torch PYTHON]

Whole steps (forward, loss, backward, Momentum update) on random images already in memory: networks from nothing with
an ArcMargin head, or with `--tuned` as they are tuned from trained weights: the norms keep their statistics, the first
`--freeze-at` layers stay as they are, and a cosine classifier follows. `plain` is Paddle's own operators on one
thread, as it runs by default; `plain, all threads` adds threads and the allocator settings of `setup_paddle`. Every
variant runs in its own process, because these settings cannot be undone, and starts from the same weights: the losses
of the third step show that all compute the same. `--torch` names a Python that has PyTorch (for `--tuned` also timm and
torchvision); the networks then run there too, as they are, with channels last, and with channels last in bfloat16.

Images per CPU second count the time of all threads, which other work on the machine disturbs less than the clock; the
variants take turns, `--rounds` times, and the best round counts.
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
from typing import Any, NamedTuple

VARIANTS = ("plain", "plain, all threads", "shitu")
TORCH_VARIANTS = ("PyTorch", "PyTorch, channels last", "PyTorch, bf16 channels last")


class Case(NamedTuple):
    network: str
    size: int
    batch: int
    tuned: bool = False
    freeze_at: int = 0


SCRATCH = [Case("PPLCNet_x0_5", 96, 64), Case("PPLCNet_x2_5", 224, 32)]
TUNED = [
    Case("tf_efficientnet_lite0", 160, 48, tuned=True),
    Case("mobilenetv4_conv_small", 224, 32, tuned=True),
    Case("vit_small_patch14_dinov2", 224, 16, tuned=True),
]


def architecture(case: Case) -> dict[str, Any]:
    if not case.tuned:
        dropout = {"dropout_prob": 0.0} if "PPLCNet" in case.network else {}
        return {
            "Backbone": {"name": case.network, **dropout},
            "BackboneStopLayer": {"name": "flatten"},
            "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 512},
            "Head": {"name": "ArcMargin", "embedding_size": 512, "class_num": 81, "margin": 0.2, "scale": 30},
        }
    transformer = case.network.startswith("vit_small")
    keys, size = ({"img_size": case.size}, 384) if transformer else ({"freeze_norm": True}, 1280)
    return {
        "Backbone": {"name": case.network, "freeze_at": case.freeze_at, **keys},
        "Head": {"name": "CosMargin", "embedding_size": size, "class_num": 81, "margin": 0.0, "scale": 16},
    }


def measure(case: Case, variant: str, steps: int, start: str) -> dict[str, float]:
    """Measure `steps` steps after two of warm-up, the seconds of the first, and the losses.

    What the first variant starts from is written to the file `start`.
    """
    from shitu_cli.runtime.setup import setup_paddle

    if variant != "plain":
        setup_paddle("cpu")
    import numpy as np
    import paddle
    import paddle.nn.functional as F

    from shitu_cli.config.load import parse_arch
    from shitu_cli.model import build_rec_model
    from shitu_cli.training.layer_rates import set_layer_rates

    paddle.seed(1)
    arch = parse_arch(architecture(case))
    model = build_rec_model(arch)
    model.train()
    random = np.random.default_rng(1)
    pictures = random.normal(size=(case.batch, 3, case.size, case.size)).astype("float32")
    classes = random.integers(0, 81, case.batch)
    images, labels = paddle.to_tensor(pictures), paddle.to_tensor(classes)
    if case.tuned:
        set_statistics(model, images[:8])
        set_layer_rates(model.backbone, arch.backbone)
    trained = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    optimizer = paddle.optimizer.Momentum(0.001 if case.tuned else 0.01, parameters=trained, weight_decay=1e-5)
    if not Path(start).exists():
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        fixed = [name for name, parameter in model.named_parameters() if parameter.stop_gradient]
        np.savez(start, images=pictures, labels=classes, fixed=np.array(fixed, dtype=str), **weights)
    else:
        with np.load(start) as arrays:
            model.set_state_dict({name: arrays[name] for name in model.state_dict()})
    seconds, cpu, losses = [], [], []
    for _ in range(steps + 2):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        loss = F.cross_entropy(model(images, labels)["logits"], labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - cpu_begun)
    return {
        "images_per_s": case.batch / statistics.median(seconds[2:]),
        "images_per_cpu_s": case.batch / statistics.median(cpu[2:]),
        "first_step_s": seconds[0],
        "third_loss": losses[2],
        "peak_mb": peak_mb(),
    }


def set_statistics(model: Any, images: Any) -> None:
    """Give the norms the statistics of some images, so that values keep the size that trained weights give them."""
    import paddle

    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = 0.0
    with paddle.no_grad():
        model.backbone(images)


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(case: Case, variant: str, steps: int, start: Path, torch: str | None) -> dict[str, float]:
    if variant in TORCH_VARIANTS:
        script = Path(__file__).with_name("train_speed_torch.py")
        network = case.network if case.tuned else ""
        command = [str(torch), str(script), str(start), str(steps), variant, str(len(os.sched_getaffinity(0))), network]
    else:
        command = [sys.executable, __file__, "--one", json.dumps([case, variant, steps, str(start)])]
    environment = dict(os.environ, SHITU_KERNELS="on" if variant == "shitu" else "off")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(case: Case, variants: list[str], steps: int, rounds: int, torch: str | None) -> None:
    """Let the variants take turns, and print the best round of each."""
    with tempfile.TemporaryDirectory() as directory:
        start = Path(directory) / "start.npz"
        turns = [[run_apart(case, variant, steps, start, torch) for variant in variants] for _ in range(rounds)]
    best = [max(runs, key=lambda run: run["images_per_cpu_s"]) for runs in zip(*turns, strict=True)]
    for variant, run in zip(variants, best, strict=True):
        print(
            f"{case.network:24} {case.size:4} {case.batch:5} {case.freeze_at:6}  {variant:27} "
            f"{run['images_per_s']:9.1f} {run['images_per_cpu_s']:11.1f} "
            f"{run['images_per_cpu_s'] / best[0]['images_per_cpu_s']:6.2f} "
            f"{run['first_step_s']:8.2f} {run['peak_mb']:8.0f} {run['third_loss']:.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--network")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--tuned", action="store_true", help="as networks are tuned from trained weights")
    parser.add_argument("--freeze-at", type=int, default=0, help="layers that are not trained, with --tuned")
    parser.add_argument("--only", action="append", metavar="VARIANT", help="this variant; may be repeated")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, *rest = json.loads(options.one)
        print(json.dumps(measure(Case(*case), *rest)))
        return
    cases = TUNED if options.tuned else SCRATCH
    if options.network:
        cases = [Case(options.network, options.size, options.batch, options.tuned)]
    columns = f"{'images/s':>9} {'/CPU second':>11} {'ratio':>6} {'first s':>8} {'peak MB':>8} loss"
    print(f"{'network':24} {'px':>4} batch freeze  {'variant':27} {columns}")
    for case in cases:
        in_torch = options.torch and (case.tuned or "PPLCNet_x" in case.network)
        variants = [*VARIANTS, *(TORCH_VARIANTS if in_torch else ())]
        if options.only:
            variants = [variant for variant in variants if variant in options.only]
        own = case._replace(freeze_at=options.freeze_at)
        compare(own, variants, options.steps, options.rounds, options.torch)


if __name__ == "__main__":
    main()
