"""Engines: pictures in, features out, whichever program computes them.

A trained network is traced and run by Paddle Inference, which is several times faster on CPUs than the layers
themselves (oneDNN); exported models and ONNX files are run as they are.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.schema import Config
from shitu_cli.data.batch import to_input
from shitu_cli.data.transforms import Normalization, build_transforms
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.workspace import sha256_of


@dataclass(frozen=True)
class Engine:
    """`engine(images)` → float32 [N, feature_size], of any length (not normalised).

    images: uint8 [N, H, W, 3] RGB, or float32 [N, 3, H, W] already normalised. `normalization` is applied to bytes;
    `description` says what computes; `fingerprint` identifies the weights and which features, in whatever format.
    """

    run: Callable[[np.ndarray], np.ndarray]
    feature_size: int
    normalization: Normalization | None
    description: str
    fingerprint: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.run(to_input(images, self.normalization)), np.float32)


def engine_from_model(model: Any, config: Config, *, weights: str | None = None) -> Engine:
    """The engine of a network in memory (a RecModel), which itself stays as it is; on a GPU its layers run directly.

    `weights` identifies them where that is known already (the hash of their file).
    """
    import paddle

    feature = config.Global.retrieval_feature_from
    size = int(model.backbone.feature_size if feature == "backbone" else model.feature_size)
    normalization = eval_normalization(config)
    fingerprint = f"{weights or weights_fingerprint(model)}/{feature}"
    if paddle.get_device() != "cpu":
        return Engine(_layers(model, feature), size, normalization, f"layers on {paddle.get_device()}", fingerprint)
    from shitu_cli.export.paddle_model import write_paddle_model

    with tempfile.TemporaryDirectory(prefix="shitu-") as folder:
        write_paddle_model(model, Path(folder) / "inference", feature=feature)
        run = paddle_predictor(Path(folder) / "inference.pdmodel", threads=_threads())
    return Engine(run, size, normalization, "Paddle Inference with oneDNN", fingerprint)


def eval_normalization(config: Config) -> Normalization | None:
    """What the query's pictures are normalised with."""
    split = config.DataLoader.query or config.DataLoader.gallery or config.DataLoader.train
    return build_transforms(split.dataset.transform_ops).normalize if split is not None else None


def weights_fingerprint(model: Any) -> str:
    """SHA-256 over names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()


def _layers(model: Any, feature: str) -> Callable[[np.ndarray], np.ndarray]:
    import paddle

    def run(images: np.ndarray) -> np.ndarray:
        model.eval()
        with paddle.no_grad():
            return np.asarray(model(paddle.to_tensor(images))[feature].astype("float32").numpy())

    return run


def _threads() -> int:
    # Ranks of a run share the machine: each is told its number of threads.
    told = os.environ.get("SHITU_RANK_THREADS")
    if told:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def paddle_predictor(
    model_file: Path, *, threads: int | None = None, bf16: bool = False, gpu: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Paddle Inference over `inference.pdmodel` or `inference.json` with the parameters beside it.

    Raises DataError when the files are missing or damaged.
    """
    from shitu_cli.model.runtime import setup_paddle

    params = model_file.with_suffix(".pdiparams")
    for file in (model_file, params):
        if not file.is_file() or not file.stat().st_size:
            raise DataError(f"{file}: {'empty' if file.is_file() else 'missing'}", hint="shitu export --out inference/")
    setup_paddle("cpu" if gpu is None else f"gpu:{gpu}", threads)
    from paddle import inference

    settings = inference.Config(str(model_file), str(params))
    settings.disable_glog_info()
    if gpu is None:
        settings.set_cpu_math_library_num_threads(threads or _threads())
        settings.enable_mkldnn()
    else:
        settings.enable_use_gpu(256, gpu)
    if model_file.suffix == ".json":
        # Without these, memory optimisation looks for a pass that the new format does not have.
        settings.enable_new_ir(True)
        settings.enable_new_executor(True)
        if bf16:
            settings.enable_mkldnn_bfloat16()
    try:
        predictor = inference.create_predictor(settings)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"{model_file} cannot be loaded: {_first_line(error)}",
            hint="export it again: shitu export --out inference/",
        ) from None
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    result = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(images: np.ndarray) -> np.ndarray:
        source.copy_from_cpu(np.ascontiguousarray(images))
        predictor.run()
        return np.asarray(result.copy_to_cpu())

    return run


def onnx_session(model_file: Path, *, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime over a file; raises DataError when it cannot be loaded."""
    try:
        import onnxruntime
    except ImportError:
        raise EnvironmentProblem("onnxruntime is not installed", hint="pip install onnxruntime") from None
    if not model_file.is_file():
        raise DataError(f"{model_file}: missing", hint="shitu export --format onnx --out inference/")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _threads()
    options.log_severity_level = 3
    # Threads that spin between calls take the cores from the decoding of pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        raise DataError(
            f"{model_file} cannot be loaded: {_first_line(error)}",
            hint="export it again: shitu export --format onnx --out inference/",
        ) from None
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {name: np.ascontiguousarray(images)})[0])

    return run


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line and not line.startswith(("C++", "Error Message", "---"))]
    return (told or lines or [type(error).__name__])[0][:200]


def engine_from_checkpoint(prefix: Path, config: Config) -> Engine:
    """The engine of trained weights (`output/best_model`); raises UsageError when there are none."""
    from shitu_cli.export.paddle_model import load_trained
    from shitu_cli.model.weights import find_weights

    model = load_trained(prefix, config)
    return engine_from_model(model, config, weights=sha256_of(find_weights(prefix)))
