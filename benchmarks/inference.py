"""Features on the CPU by way of computing: milliseconds per picture, side by side in one run.

    python benchmarks/inference.py [--network PPLCNet_x2_5 --size 224] [--rounds 3] [--seconds 1]

Random weights, one network, its files written on the spot. Every way and number of threads runs in a process of its
own, in several rounds one after the other, of which the fastest counts: other work on the machine then touches all
alike. `ratio` is to the best of the two programs that are always installed (Paddle Inference with inference.pdmodel,
ONNX Runtime), in the same column; below 1 is faster. `layers` is the network as it trains, in eval mode.
`whole batches` are the programs as they come, all threads on one batch: what features that do not depend on what is
computed beside them (shitu_cli/features/exact.py) cost is the line of the same file against that one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DEFAULTS = ("Paddle Inference inference.pdmodel fp32", "ONNX Runtime inference.onnx fp32")
BATCHES = (1, 8, 32)
WHOLE = "whole batches by "


def write(folder: Path, network: str) -> None:
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")
    from shitu_cli.deployment.onnx_model import write_onnx_model
    from shitu_cli.model.tracing import write_paddle_model

    model = _network(network)
    write_paddle_model(model, folder / "inference", form="pir")
    write_paddle_model(model, folder / "inference", form="pdmodel")
    write_onnx_model(folder / "inference.pdmodel", folder / "inference.onnx")


def _network(name: str):
    from shitu_cli.model import build_rec_model

    neck = {"name": "FC", "embedding_size": 1280, "class_num": 512}
    return build_rec_model({"Backbone": {"name": name}, "BackboneStopLayer": {"name": "flatten"}, "Neck": neck})


def ways(folder: Path) -> list[str]:
    from shitu_cli.features.backends import MODEL_FILES, ways_of

    found = [way for name in MODEL_FILES for way in ways_of(folder / name) if way.missing() is None]
    names = [f"{way.program} {way.file} {way.precision}" for way in found]
    return ["layers", *names, *(WHOLE + name for name in names if name.endswith("fp32"))]


def whole_batches(file: Path, program: str, threads: int):
    """The program as it comes: float32 [N, 3, H, W] → float32 [N, D], all threads on one call."""
    from shitu_cli.features import backends

    if program == backends.PADDLE:
        return backends.paddle_predictor(file, threads=threads)
    if program == backends.ONNX_RUNTIME:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return lambda images: np.array(request.infer([images], share_inputs=True)[0])


def measure(folder: Path, network: str, size: int, what: str, threads: int, seconds: float) -> dict[int, float]:
    """Median ms per picture by batch size."""
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu", threads)
    from shitu_cli.features.backends import Way

    if what == "layers":
        import paddle

        model = _network(network)
        model.eval()

        def run(images: np.ndarray) -> np.ndarray:
            with paddle.no_grad():
                return model(paddle.to_tensor(images))["features"].numpy()

    elif what.startswith(WHOLE):
        program, file, _ = what.removeprefix(WHOLE).rsplit(" ", 2)
        run = whole_batches(folder / file, program, threads)
    else:
        program, file, precision = what.rsplit(" ", 2)
        run = Way(file, program, precision).open(folder, threads=threads)
    found = {}
    for batch in BATCHES:
        images = np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)
        run(images)
        times, start = [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            run(images)
            times.append((time.perf_counter() - began) * 1000 / batch)
        found[batch] = float(np.median(times))
    return found


def show(results: dict[str, dict[tuple[int, int], float]], columns: list[tuple[int, int]]) -> None:
    heads = [f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}" for threads, batch in columns]
    print(f"{'':56}" + "".join(f"{head:>22}" for head in heads))
    best = {column: min(results[name][column] for name in DEFAULTS) for column in columns}
    for name, row in results.items():
        cells = [f"{row[column]:.2f} ms {row[column] / best[column]:6.2f}" for column in columns]
        print(f"{name:56}" + "".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="PPLCNet_x2_5")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per batch size, way, number of threads and round")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, what, threads = json.loads(options.one)
        print(json.dumps(measure(Path(folder), options.network, options.size, what, threads, options.seconds)))
        return
    from shitu_cli.runtime.threads import available_cores

    columns = [(threads, batch) for threads in sorted({1, available_cores()}) for batch in BATCHES]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.network)
        results: dict[str, dict[tuple[int, int], float]] = {}
        for _ in range(options.rounds):
            for what in ways(Path(folder)):
                for threads in sorted({threads for threads, _ in columns}):
                    argv = [sys.executable, __file__, "--network", options.network, "--size", str(options.size)]
                    argv += ["--seconds", str(options.seconds), "--one", json.dumps([folder, what, threads])]
                    done = subprocess.run(argv, capture_output=True, text=True, check=True)
                    row = results.setdefault(what, {})
                    for batch, ms in json.loads(done.stdout.splitlines()[-1]).items():
                        key = (threads, int(batch))
                        row[key] = min(ms, row.get(key, float("inf")))
    print(f"{options.network}, {options.size} px: ms per picture (median of the fastest round), ratio")
    show(results, columns)


if __name__ == "__main__":
    main()
