"""What bfloat16 and int8 give and cost: speed, cosine to float32, and recall of a trained network, side by side.

    python benchmarks/precision.py -w WORKSPACE [--calibrate 256]      a trained workspace: speed and recall
    python benchmarks/precision.py --network PPLCNet_x2_5 --size 224   random weights: speed alone

int8 is ONNX Runtime's static quantisation (QDQ, signed symmetric weights per channel, unsigned activations), calibrated
on training pictures in the ways it offers; `1x1` leaves depthwise convolutions, the first one and the last layer in
float32, as their few weights have the widest ranges. The same file is run by OpenVINO as well. `ratio` is to the better
of ONNX Runtime and Paddle Inference in float32, in the same column; below 1 is faster. All in one process on all cores,
timed in turns.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from inference import write

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu")
from shitu_cli.features.backends import BF16, ONNX_RUNTIME, OPENVINO, PADDLE, Run, Way  # noqa: E402

ROUNDS = 5
# name, onnxruntime's calibration and its options, only 1x1 convolutions
INT8 = (
    ("int8 min-max", "MinMax", {}, False),
    ("int8 entropy", "Entropy", {}, False),
    ("int8 percentile", "Percentile", {"CalibPercentile": 99.99}, False),
    ("int8 percentile 1x1", "Percentile", {"CalibPercentile": 99.99}, True),
)
SPEED_ONLY = (("int8", "MinMax", {}, False), ("int8 1x1", "MinMax", {}, True))
FLOAT = (
    ("fp32 Paddle Inference", Way("inference.pdmodel", PADDLE)),
    ("fp32 ONNX Runtime", Way("inference.onnx", ONNX_RUNTIME)),
    ("fp32 OpenVINO", Way("inference.onnx", OPENVINO)),
    ("bf16 Paddle Inference", Way("inference.json", PADDLE, BF16)),
    ("bf16 OpenVINO", Way("inference.onnx", OPENVINO, BF16)),
)


def quantise(folder: Path, out: str, method: str, extra: dict, only_1x1: bool, pictures: np.ndarray) -> None:
    """`inference.onnx` of `folder` as `out`, calibrated on float32 [N, 3, H, W]."""
    import onnx
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.parts: Iterator[np.ndarray] = (pictures[n : n + 16] for n in range(0, len(pictures), 16))

        def get_next(self) -> dict | None:
            part = next(self.parts, None)
            return None if part is None else {"x": part}

    left_out = []
    if only_1x1:
        graph = onnx.load(str(folder / "inference.onnx")).graph
        kernels = {node.name: _attribute(node, "kernel_shape") for node in graph.node if node.op_type == "Conv"}
        left_out = [name for name, kernel in kernels.items() if kernel != [1, 1]]
        left_out += [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    q.quantize_static(
        str(folder / "inference.onnx"),
        str(folder / out),
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
        calibrate_method=q.CalibrationMethod[method],
        nodes_to_exclude=left_out,
        extra_options={**extra, "ActivationSymmetric": False, "WeightSymmetric": True},
    )


def _attribute(node, name: str) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


def runs(folder: Path, pictures: np.ndarray, *, calibrated: bool) -> dict[str, Run]:
    found = {name: way.open(folder) for name, way in FLOAT if way.missing() is None}
    kinds = INT8 if calibrated else SPEED_ONLY
    for number, (name, method, extra, only_1x1) in enumerate(kinds):
        file = f"int8-{number}.onnx"
        began = time.perf_counter()
        quantise(folder, file, method, extra, only_1x1, pictures)
        print(
            f"{name}: quantised in {time.perf_counter() - began:.0f} s, {(folder / file).stat().st_size / 1e6:.1f} MB"
        )
        for program in (ONNX_RUNTIME, OPENVINO):
            way = Way(file, program)
            if way.missing() is None:
                found[f"{name} {program}"] = way.open(folder)
    return found


def timed(engines: dict[str, Run], size: tuple[int, int], seconds: float) -> dict[str, list[float]]:
    """Median ms per picture in batches of 1 and 32."""
    found: dict[str, list[float]] = {name: [] for name in engines}
    for batch in (1, 32):
        images = np.random.default_rng(0).standard_normal((batch, 3, *size)).astype(np.float32)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(ROUNDS):
            for name, run in engines.items():
                run(images)
                start = time.perf_counter()
                while (began := time.perf_counter()) - start < seconds / ROUNDS:
                    run(images)
                    times[name].append((time.perf_counter() - began) * 1000 / batch)
        for name in engines:
            found[name].append(float(np.median(times[name])))
    return found


def recall(workspace: Path, engines: dict[str, Run], manifest) -> dict[str, list[float]]:
    """Mean and smallest cosine of the gallery's features to float32, recall@1 and mAP over the workspace's lists."""
    from shitu_cli.config.load import load_config
    from shitu_cli.evaluation.evaluate import evaluate_model
    from shitu_cli.features.engine import Engine
    from shitu_cli.reporting import SilentReporter

    config = load_config(workspace / "shitu.yaml")
    found, reference = {}, None
    for name, run in engines.items():
        engine = Engine(run, manifest.feature_size, manifest.normalization, name, name)
        result = evaluate_model(engine, config, SilentReporter())
        features = result.sets[1].features
        reference = features if reference is None else reference
        cosines = np.einsum("nd,nd->n", features, reference)
        found[name] = [float(cosines.mean()), float(cosines.min()), result.metrics["recall@1"], result.metrics["mAP"]]
    return found


def calibration_pictures(workspace: Path, count: int) -> np.ndarray:
    from shitu_cli.config.load import load_config
    from shitu_cli.data.batch import to_input
    from shitu_cli.data.dataset import RecDataset

    config = load_config(workspace / "shitu.yaml")
    # Training pictures, prepared as for evaluation.
    split, train = config.DataLoader.query, config.DataLoader.train
    chosen = dataclasses.replace(
        split.dataset, image_root=train.dataset.image_root, cls_label_path=train.dataset.cls_label_path
    )
    dataset = RecDataset(chosen)
    rng = np.random.default_rng(0)
    numbers = rng.permutation(len(dataset))[:count]
    return to_input(np.stack([dataset.load(int(n), rng) for n in numbers]), dataset.normalization)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, help="trained and with a config for evaluation")
    parser.add_argument("--network", default="PPLCNet_x2_5")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--calibrate", type=int, default=256, help="pictures to calibrate on")
    parser.add_argument("--seconds", type=float, default=2.0, help="per way and batch size")
    options = parser.parse_args()
    qualities: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.workspace is None:
            write(folder, options.network)
            pictures = np.random.default_rng(1).standard_normal((32, 3, options.size, options.size)).astype(np.float32)
        else:
            folder = export(options.workspace, folder / "model")
            pictures = calibration_pictures(options.workspace, options.calibrate)
        engines = runs(folder, pictures, calibrated=options.workspace is not None)
        times = timed(engines, pictures.shape[2:], options.seconds)
        if options.workspace is not None:
            from shitu_cli.features.manifest import read_manifest

            qualities = recall(options.workspace, engines, read_manifest(folder))
    base = [min(times[name][n] for name in ("fp32 Paddle Inference", "fp32 ONNX Runtime")) for n in (0, 1)]
    heads = ["batch 1", "batch 32", *(("mean cosine", "smallest", "recall@1", "mAP") if qualities else ())]
    print(f"\n{pictures.shape[2]} px, ms per picture (median), ratio")
    print(f"{'':36}" + "".join(f"{head:>18}" if n < 2 else f"{head:>12}" for n, head in enumerate(heads)))
    for name, row in times.items():
        cells = "".join(f"{f'{ms:.2f} {ms / best:6.2f}':>18}" for ms, best in zip(row, base, strict=True))
        print(f"{name:36}{cells}" + "".join(f"{value:12.4f}" for value in qualities.get(name, ())))


def export(workspace: Path, out: Path) -> Path:
    """The workspace's best checkpoint in all formats."""
    from shitu_cli.config.load import load_config
    from shitu_cli.deployment.run import ExportOptions
    from shitu_cli.deployment.run import export as run

    config = load_config(workspace / "shitu.yaml")
    run(config, workspace / "output/best_model", out, ExportOptions(formats=("pdmodel", "pir", "onnx")))
    return out


if __name__ == "__main__":
    main()
