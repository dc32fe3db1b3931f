"""Engines: images in, features out, whichever program computes them.

A trained network is traced and run by Paddle Inference, which is several times faster on CPUs than the layers
themselves (oneDNN); exported models and ONNX files are run as they are.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.config.parts import plain
from shitu_cli.config.parts.transforms import Transform
from shitu_cli.config.places import weights_of
from shitu_cli.data.batch import to_input
from shitu_cli.data.transforms import Normalization, build_transforms
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features.backends import BF16, EXPORT_AGAIN, FP32, OPENVINO, PADDLE, Way, is_installed
from shitu_cli.files import load_with_hash

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config
    from shitu_cli.model.tracing import TracedNetwork


@dataclass(frozen=True)
class Engine:
    """`engine(images)` → float32 [N, feature_size], of any length (not normalised).

    images: uint8 [N, H, W, 3] RGB, or float32 [N, 3, H, W] already normalised. `normalization` is applied to bytes;
    `description` says what computes and `reason` why it was chosen. `fingerprint` identifies the weights, which
    features, and their precision, in whatever format and by whatever program: features of two programs differ by about
    1e-6 in float32, and in bfloat16 by as much as either differs from float32. With `side_by_side`, threads that call
    it with an image each do not wait for each other, and are as fast as one that calls it with all of them.
    """

    run: Callable[[np.ndarray], np.ndarray]
    feature_size: int
    normalization: Normalization | None
    description: str
    fingerprint: str
    reason: str = ""
    side_by_side: bool = False

    def summary(self) -> str:
        """Return what computes, and why that."""
        return f"{self.description}: {self.reason}" if self.reason else self.description

    def __call__(self, images: np.ndarray) -> np.ndarray:
        features = np.asarray(self.run(to_input(images, self.normalization)), np.float32)
        if features.shape != (len(images), self.feature_size):
            raise DataError(
                f"the model gives {features.shape[-1]} numbers for an image, its description says {self.feature_size}",
                hint=EXPORT_AGAIN,
            )
        return features


def engine_from_model(
    model: Any,
    config: Config,
    *,
    weights: str | None = None,
    precision: str = FP32,
    traced: TracedNetwork | None = None,
) -> Engine:
    """Return the engine of a network in memory (a RecModel), which stays as it is; on a GPU its layers run directly.

    `weights` identifies them if that is known already (the hash of their file); `traced` is what `trace_for_engine`
    gave for this network, which saves the tracing. Raises EnvironmentProblem when the machine does not compute in
    `precision`.
    """
    import paddle

    feature = config.Global.retrieval_feature_from
    size = int(model.backbone.feature_size if feature == "backbone" else model.feature_size)
    normalization = eval_normalization(config)
    fingerprint = fingerprint_of(weights or weights_fingerprint(model), feature, precision)
    if paddle.get_device() != "cpu":
        if precision != FP32:
            raise EnvironmentProblem("layers on a GPU run in float32", hint="--precision fp32, or --device cpu")
        return Engine(_layers(model, feature), size, normalization, f"layers on {paddle.get_device()}", fingerprint)
    way = _way_of_a_network(precision)
    traced = traced or trace_for_engine(model, config, precision=precision)
    with tempfile.TemporaryDirectory(prefix="shitu-") as folder:
        traced.write(Path(folder) / "inference")
        run = way.open(Path(folder))
    return Engine(run, size, normalization, str(way), fingerprint)


def trace_for_engine(model: Any, config: Config, *, precision: str = FP32) -> TracedNetwork:
    """Prepare a network whose weights change for many calls of `engine_from_model`, which then trace it only once."""
    from shitu_cli.model.tracing import TracedNetwork

    form = "pir" if _way_of_a_network(precision).file.endswith(".json") else "pdmodel"
    return TracedNetwork(model, feature=config.Global.retrieval_feature_from, form=form)


def _way_of_a_network(precision: str) -> Way:
    """Return how to run a network that is not exported: nothing is measured yet, and ONNX takes seconds."""
    if precision == FP32:
        return Way("inference.pdmodel", PADDLE)
    if is_installed(OPENVINO):
        return Way("inference.pdmodel", OPENVINO, BF16)
    return Way("inference.json", PADDLE, BF16)


def fingerprint_of(weights: str, feature: str, precision: str) -> str:
    """Return the fingerprint in a precision: an index must not mix features in bfloat16 and in float32."""
    return f"{weights}/{feature}" if precision == FP32 else f"{weights}/{feature}/{precision}"


def features_fingerprint(engine: str, transform_ops: Sequence[Transform]) -> str:
    """Identify features: `engine` is the fingerprint of what computes them, the ops are how images become input."""
    decisive = [op for op in transform_ops if op.name != "DecodeImage" or op.args.get("reduced")]
    return f"{engine}/{';'.join(f'{op.name}{sorted(plain(op.args).items())}' for op in decisive)}"


def eval_normalization(config: Config) -> Normalization | None:
    """Return what the query's images are normalised with."""
    split = config.DataLoader.as_deployed
    return build_transforms(split.dataset.transform_ops).normalize if split is not None else None


def weights_fingerprint(model: Any) -> str:
    """Return the SHA-256 over names and values of all parameters and buffers."""
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


def engine_from_checkpoint(prefix: Path, config: Config, *, precision: str = FP32) -> Engine:
    """Return the engine of trained weights (`output/best_model`); raises UsageError when there are none."""
    from shitu_cli.model.tracing import load_trained

    # A training may replace the file meanwhile.
    model, digest = load_with_hash(weights_of(prefix), lambda: load_trained(prefix, config))
    return engine_from_model(model, config, weights=digest, precision=precision)
