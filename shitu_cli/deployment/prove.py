"""Prove an export: run its files on real images in a new process, and compare with the trained network."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.errors import ShituError
from shitu_cli.features.backends import BF16, FP32, Run, Way, ways_in
from shitu_cli.processes.child import run_module
from shitu_cli.runtime.threads import available_cores

if TYPE_CHECKING:
    from shitu_cli.evaluation.metrics import Ranking

# Smallest cosine, and largest difference relative to the largest absolute feature value. The limits of bfloat16 only
# tell a wrong result from a coarse one: how much it may cost is decided by the recall. The two allow the same: an error
# of 0.2 of a feature's length is a cosine of 0.98, and four standard deviations of it are 0.3 of the largest value.
# CPUs that keep bfloat16 between layers (AMX) come to 0.13 where those that only multiply in it stay below 0.1.
LIMITS = {FP32: (0.9999, 1e-3), BF16: (0.98, 0.3)}
SECONDS_PER_TIMING = 0.2
ROUNDS = 3  # of timings, each over all ways, so that other work on the machine affects all of them alike


def prove(
    folder: Path, images: np.ndarray, features: np.ndarray, labels: np.ndarray, *, max_recall_drop: float
) -> list[dict[str, Any]]:
    """Run the model files of `folder` on `images` float32 [N, 3, H, W], in a new process and in every way.

    `features` [N, D] are the trained network's. Returns one row per way: difference, cosine, recall@1 among the
    images of both (None if no two are of the same class), latency in ms, and the reason if the way is refused.
    Raises ShituError if a file cannot be run, or differs too much in float32.
    """
    inputs = folder / ".proof.npz"
    np.savez(inputs, images=images, features=features, labels=labels)
    try:
        done = run_module("shitu_cli.deployment.prove", str(folder), str(inputs))
    finally:
        inputs.unlink(missing_ok=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ShituError("the exported model does not run", details=lines[-6:])
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        row["refused"] = _refusal(row, max_recall_drop)
    wrong = [f"{Way.of(r)} {r['file']}: {r['refused']}" for r in rows if r["precision"] == FP32 and r["refused"]]
    if wrong:
        raise ShituError("the exported model differs from the trained network; nothing was written", details=wrong)
    return rows


def _refusal(row: Mapping[str, Any], max_recall_drop: float) -> str | None:
    """Return why this way must not be used, None if it may."""
    cosine, difference = LIMITS[row["precision"]]
    if not (row["min_cosine"] >= cosine and row["difference"] <= difference):  # so that NaN is refused
        return f"smallest cosine {row['min_cosine']:.6f}, difference {row['difference']:.2g}"
    if row["precision"] == FP32:
        return None
    if row.get("coincide"):
        return "the features of different images nearly coincide, so the loss of recall cannot be measured"
    if row["recall@1"] is None or row["recall@1_trained"] is None:
        return "no two images have the same class, so the loss of recall cannot be measured"
    if row["recall@1_trained"] - row["recall@1"] > max_recall_drop:
        return (
            f"recall@1 among {row['images']} images falls from {row['recall@1_trained']:.4f} to "
            f"{row['recall@1']:.4f}, more than the {max_recall_drop:g} of --max-recall-drop"
        )
    return None


def _main(folder: Path, inputs: Path) -> None:
    with np.load(inputs) as data:
        images, features, labels = data["images"], data["features"], data["labels"]
    ways = ways_in(folder)
    timings, opening, runs = _latencies(ways, folder, images)
    rows = []
    for way, open_ms, latency, run in zip(ways, opening, timings, runs, strict=True):
        output = np.concatenate([run(images[start : start + 32]) for start in range(0, len(images), 32)])
        names = {"file": way.file, "program": way.program, "precision": way.precision}
        rows.append({**names, **_compare(output, features, labels), "latency_ms": latency, "open_ms": open_ms})
    print(json.dumps(rows))  # noqa: T201


def _compare(output: np.ndarray, features: np.ndarray, labels: np.ndarray) -> dict[str, float | int | str | None]:
    from shitu_cli.features.unit_length import normalized

    a, b = normalized(output), normalized(features)
    scale = float(np.abs(features).max()) or 1.0
    return {
        "images": len(output),
        "difference": float(np.abs(output - features).max()) / scale,
        "min_cosine": float(np.einsum("nd,nd->n", a, b).min()),
        "recall@1": _recall(a, labels),
        "recall@1_trained": _recall(b, labels),
        "same_answers": same_answers(a, b),
        "coincide": _rank(b, labels).coincidence(),
    }


def same_answers(file: np.ndarray, network: np.ndarray) -> int | None:
    """Return how many images have the same most similar other image by both features; None for a single image.

    Two images that are equally similar to within rounding are the same answer.
    """
    if len(network) < 2:
        return None
    everywhere = np.zeros(len(network), np.int64)
    expected, answers = _rank(network, everywhere), _rank(file, everywhere).top1
    best = np.einsum("nd,nd->n", network, network[expected.top1])
    chosen = np.einsum("nd,nd->n", network, network[answers])
    return int(((answers == expected.top1) | (best - chosen < expected.resolution)).sum())


def _recall(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the recall@1 of images among all others; None if no two share a class, or rounding would decide it."""
    ranking = _rank(features, labels)
    if not ranking.answerable.any() or ranking.decided_by_rounding:
        return None
    return ranking.metrics()["recall@1"]


def _rank(features: np.ndarray, labels: np.ndarray) -> Ranking:
    from shitu_cli.evaluation.metrics import FeatureSet, rank

    part = FeatureSet(features, labels.astype(np.int64), identity=np.arange(len(labels)))
    return rank(part, part)


def _latencies(
    ways: Sequence[Way], folder: Path, images: np.ndarray
) -> tuple[list[dict[str, list[float]]], list[float], list[Run]]:
    """Return for each way [median, 95th percentile] in ms per image: batches of 1 and 32, one and all threads.

    The second list holds how many ms each took to open on one thread, the third each way opened on all threads.
    """

    latencies: list[dict[str, list[float]]] = [{} for _ in ways]
    opening: list[float] = []
    runs: list[Run] = []
    for threads in sorted({1, available_cores()}):
        opened = [_open(way, folder, threads) for way in ways]
        runs = [run for run, _ in opened]
        opening = opening or [ms for _, ms in opened]
        for batch in (1, 32):
            block = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
            times: list[list[float]] = [[] for _ in ways]
            for _ in range(ROUNDS):
                for run, seconds in zip(runs, times, strict=True):
                    seconds += _time(run, block)
            for row, seconds in zip(latencies, times, strict=True):
                ms = np.percentile(seconds, (50, 95)) * 1000 / batch
                row[f"batch {batch}, threads {threads}"] = [round(float(value), 3) for value in ms]
    return latencies, opening, runs


def _open(way: Way, folder: Path, threads: int) -> tuple[Run, float]:
    """Return the engine of a way, and the ms until it was open, its libraries included if they were not loaded."""
    start = time.perf_counter()
    run = way.open(folder, threads=threads)
    return run, round((time.perf_counter() - start) * 1000, 1)


def _time(run: Run, images: np.ndarray) -> list[float]:
    """Return the seconds of each call within a round, without the first."""
    run(images)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - start < SECONDS_PER_TIMING / ROUNDS:
        began = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
