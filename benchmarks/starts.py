"""What each way to begin reaches, and what it costs: a projection of trained features, tuning, and from nothing.

    python benchmarks/starts.py [DATA ...] [--split open] [--ways frozen,tuned,scratch] [--seeds 3] [--epochs 4]

DATA is anything that `shitu prepare` reads, such as a folder of class folders; without it, handwritten characters are
drawn in the manner of Omniglot, so that figures tuned on photos are tried on something unlike them. `--split open`
keeps the classes that are searched out of training; `--epochs` trains shorter than `prepare` would. Every way runs as a
user would run it: prepare, then train, in processes of their own. Recall@1 is what `train` reports on the evaluation
lists: its mean over the seeds, with the lowest and the highest; seconds are those of `train` alone.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

SIDE = 105
WAYS = {
    "frozen": ("tuned", ["--frozen"]),
    "tuned": ("tuned", []),
    "scratch": ("quick", []),
}


class Run(NamedTuple):
    before: float
    recall: float
    wall: float
    cpu: float


def draw_characters(folder: Path, classes: int, images: int) -> Path:
    """Draw some characters, each several times by a hand that is never quite the same; return the folder."""
    for number in range(classes):
        rng = np.random.default_rng(number)
        strokes = [rng.uniform(0.15, 0.85, (int(rng.integers(3, 6)), 2)) for _ in range(int(rng.integers(2, 4)))]
        (folder / f"character_{number:02d}").mkdir(parents=True)
        for copy in range(images):
            image = np.full((SIDE, SIDE), 255, np.uint8)
            turn, scale = rng.normal(0, 0.4), rng.uniform(0.6, 1.1)
            rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            shift = rng.normal(0, 0.06, 2)
            for stroke in strokes:
                points = (stroke + rng.normal(0, 0.07, stroke.shape) - 0.5) @ rotation.T + 0.5 + shift
                cv2.polylines(image, [curve(points)], False, 0, int(rng.integers(2, 4)), cv2.LINE_AA)
            cv2.imwrite(str(folder / f"character_{number:02d}" / f"{copy:02d}.png"), image)
    return folder


def curve(points: np.ndarray) -> np.ndarray:
    """Return the Bézier curve of `points` [P, 2], fractions of the side, as pixels int32 [100, 2]."""
    t, degree = np.linspace(0, 1, 100), len(points) - 1
    weights = [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)]
    return (np.stack(weights, axis=1) @ points * SIDE).round().astype(np.int32)


def shitu(*arguments: str, workspace: Path) -> str:
    command = [sys.executable, "-m", "shitu_cli", *arguments, "-w", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def train(*arguments: str, workspace: Path) -> tuple[dict[str, Any], float, float]:
    """Train; return the result, and the seconds of the processor and on the clock."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(shitu("train", *arguments, "--json", workspace=workspace))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - started


def measure(data: Path, way: str, seed: int, split: str, epochs: int | None) -> Run:
    """Prepare a workspace of its own and train in it."""
    template, options = WAYS[way]
    if epochs and way != "frozen":
        options = [*options, "--epochs", str(epochs)]
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        how = ("--template", template, "--seed", str(seed), "--split", split)
        shitu("prepare", str(data.resolve()), *how, workspace=workspace)
        result, cpu, wall = train(*options, "--seed", str(seed), workspace=workspace)
        if way == "frozen":
            recalls = result["before"]["recall@1"], max(result[name]["recall@1"] for name in ("before", "after"))
        else:
            recalls = result["score_before"] or float("nan"), result["best_score"]
        return Run(*recalls, wall, cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--split", default="auto", choices=("auto", "open", "closed"))
    parser.add_argument("--ways", default="frozen,tuned,scratch")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--draw", type=int, nargs=2, default=(60, 20), metavar=("CLASSES", "IMAGES"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = options.data or [draw_characters(Path(folder) / "characters", *options.draw)]
        print("data         way       before  recall@1  lowest  highest  wall s   CPU s")
        for data in sources:
            for way in options.ways.split(","):
                runs = [measure(data, way, seed, options.split, options.epochs) for seed in range(options.seeds)]
                recalls = [run.recall for run in runs]
                wall, cpu = (statistics.mean(times) for times in zip(*(run[2:] for run in runs), strict=True))
                reached = f"{statistics.mean(recalls):9.3f} {min(recalls):7.3f} {max(recalls):8.3f}"
                print(f"{data.name:12s} {way:8s} {runs[0].before:7.3f} {reached} {wall:7.0f} {cpu:7.0f}", flush=True)


if __name__ == "__main__":
    main()
