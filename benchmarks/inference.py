"""Features on the CPU by engine: milliseconds per picture, side by side in one run.

    python benchmarks/inference.py [--network PPLCNet_x2_5 --size 224] [--seconds 2]

Random weights, one network, its files written on the spot. `layers` is the network as it trains, in eval mode. Every
engine and number of threads runs in its own process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ENGINES = ("layers", "Paddle Inference pdmodel", "Paddle Inference json", "ONNX Runtime")


def write(folder: Path, network: str) -> None:
    from shitu_cli.model.runtime import setup_paddle

    setup_paddle("cpu")
    from shitu_cli.export.onnx_model import write_onnx_model
    from shitu_cli.export.paddle_model import write_paddle_model

    model = _network(network)
    write_paddle_model(model, folder / "inference", form="pir")
    write_paddle_model(model, folder / "inference", form="pdmodel")
    write_onnx_model(folder / "inference.pdmodel", folder / "inference.onnx")


def _network(name: str):
    from shitu_cli.model import build_rec_model

    neck = {"name": "FC", "embedding_size": 1280, "class_num": 512}
    return build_rec_model({"Backbone": {"name": name}, "BackboneStopLayer": {"name": "flatten"}, "Neck": neck})


def measure(folder: Path, network: str, size: int, engine: str, threads: int, seconds: float) -> dict:
    """{batch: [median, 95th percentile]} in ms per picture."""
    from shitu_cli.model.runtime import setup_paddle

    setup_paddle("cpu", threads)
    from shitu_cli.infer.engine import onnx_session, paddle_predictor

    if engine == "layers":
        import paddle

        model = _network(network)
        model.eval()

        def run(images: np.ndarray) -> np.ndarray:
            with paddle.no_grad():
                return model(paddle.to_tensor(images))["features"].numpy()

    elif engine == "ONNX Runtime":
        run = onnx_session(folder / "inference.onnx", threads=threads)
    else:
        run = paddle_predictor(folder / f"inference.{engine.split()[-1]}", threads=threads)
    found = {}
    for batch in (1, 32):
        images = np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)
        run(images)
        times, start = [], time.perf_counter()
        while len(times) < 5 or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            run(images)
            times.append((time.perf_counter() - began) * 1000 / batch)
        found[batch] = [float(np.percentile(times, p)) for p in (50, 95)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="PPLCNet_x2_5")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, engine, threads = json.loads(options.one)
        print(json.dumps(measure(Path(folder), options.network, options.size, engine, threads, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.network)
        print(f"{options.network}, {options.size} px: ms per picture, median (95 %)")
        print(f"{'engine':26} {'threads':>7} {'batch 1':>16} {'batch 32':>16}")
        for engine in ENGINES:
            for threads in (1, 2):
                argv = [sys.executable, __file__, "--network", options.network, "--size", str(options.size)]
                argv += ["--seconds", str(options.seconds), "--one", json.dumps([folder, engine, threads])]
                done = subprocess.run(argv, capture_output=True, text=True, check=True)
                got = json.loads(done.stdout.splitlines()[-1])
                cells = [f"{got[b][0]:.1f} ({got[b][1]:.1f})" for b in ("1", "32")]
                print(f"{engine:26} {threads:7} {cells[0]:>16} {cells[1]:>16}", flush=True)


if __name__ == "__main__":
    main()
