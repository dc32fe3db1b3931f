"""The proof of an export: its files run in a fresh process on real pictures, beside what the trained network gives."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import ShituError

MIN_COSINE = 0.9999
MAX_DIFFERENCE = 1e-3  # of the largest absolute feature value
SECONDS_PER_TIMING = 0.7


def prove(folder: Path, images: np.ndarray, features: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Run every model file of `folder` on `images` float32 [N, 3, H, W] in a new process.

    `features` [N, D] is what the trained network gives. Returns one row per file: difference, cosine, recall@1 within
    the pictures of both, latency in ms. Raises ShituError when a file cannot be run or differs too much.
    """
    inputs = folder / ".proof.npz"
    np.savez(inputs, images=images, features=features, labels=labels)
    try:
        command = [sys.executable, "-m", "shitu_cli.export.prove", str(folder), str(inputs)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    finally:
        inputs.unlink(missing_ok=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ShituError("the exported model does not run", details=lines[-6:])
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    bad = [row for row in rows if row["min_cosine"] < MIN_COSINE or row["difference"] > MAX_DIFFERENCE]
    if bad:
        raise ShituError(
            "the exported model differs from the trained network; nothing was kept",
            details=[
                f"{r['file']}: smallest cosine {r['min_cosine']:.6f}, difference {r['difference']:.2g}" for r in bad
            ],
        )
    return rows


def _main(folder: Path, inputs: Path) -> None:
    from shitu_cli.infer.engine import onnx_session, paddle_predictor

    with np.load(inputs) as data:
        images, features, labels = data["images"], data["features"], data["labels"]
    rows = []
    for name in ("inference.pdmodel", "inference.json", "inference.onnx"):
        if not (folder / name).is_file():
            continue
        make: Callable[..., Callable[[np.ndarray], np.ndarray]] = (
            onnx_session if name.endswith("x") else paddle_predictor
        )
        run = make(folder / name)
        got = np.concatenate([run(images[start : start + 32]) for start in range(0, len(images), 32)])
        rows.append(
            {"file": name, **_compare(got, features, labels), "latency_ms": _latencies(make, folder / name, images)}
        )
    print(json.dumps(rows))  # noqa: T201


def _compare(got: np.ndarray, features: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    from shitu_cli.retrieval.evaluate import normalized

    a, b = normalized(got), normalized(features)
    scale = float(np.abs(features).max()) or 1.0
    return {
        "pictures": len(got),
        "difference": float(np.abs(got - features).max()) / scale,
        "min_cosine": float(np.einsum("nd,nd->n", a, b).min()),
        "recall@1": _recall(a, labels),
        "recall@1_trained": _recall(b, labels),
    }


def _recall(features: np.ndarray, labels: np.ndarray) -> float:
    """Each picture among all others."""
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    return float((labels[similarity.argmax(axis=1)] == labels).mean())


def _latencies(make: Callable[..., Any], file: Path, images: np.ndarray) -> dict[str, list[float]]:
    """[median, 95th percentile] per picture for batch 1 and 32 with one and with all threads."""
    from shitu_cli.model.runtime import available_cores

    found = {}
    for threads in sorted({1, available_cores()}):
        run = make(file, threads=threads)
        for batch in (1, 32):
            pictures = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
            run(pictures)
            times: list[float] = []
            start = time.perf_counter()
            while len(times) < 5 or time.perf_counter() - start < SECONDS_PER_TIMING:
                began = time.perf_counter()
                run(pictures)
                times.append((time.perf_counter() - began) * 1000 / batch)
            found[f"batch {batch}, threads {threads}"] = [round(float(np.percentile(times, p)), 3) for p in (50, 95)]
    return found


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
