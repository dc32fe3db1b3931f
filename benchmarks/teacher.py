"""What a teacher brings: recall@1 of a small network that starts from nothing, with and without `train --teacher`.

    python benchmarks/teacher.py DATA [--images 10] [--student PPLCNet_x0_5] [--seeds 3] [--epochs 100]

DATA is a list or a folder that `shitu prepare` reads; at most so many images of each class are trained on and searched,
as few images are what a teacher is for; 0 takes all. Both runs go through the same number of steps, so the CPU seconds
of the one with a teacher are more by what its features of the training images cost. Recall@1 is that of the last epoch,
as no run may choose its best one on the queries.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from starts import shitu, train


class Run(NamedTuple):
    recall: float
    cpu: float


def shorten(path: Path, most: int) -> None:
    """Keep the first `most` images of each class in a list of `prepare`."""
    counts: Counter[str] = Counter()
    lines = []
    for line in path.read_text().splitlines(keepends=True):
        label = line.split("\t")[1].strip()
        counts[label] += 1
        if counts[label] <= most:
            lines.append(line)
    path.write_text("".join(lines))


def measure(data: Path, options: argparse.Namespace, seed: int, extra: list[str]) -> Run:
    """Prepare a workspace of its own and train in it."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shitu("prepare", str(data.resolve()), "--template", "quick", "--seed", str(seed), workspace=workspace)
        if options.images:
            for name in ("train", "gallery"):
                shorten(workspace / "lists" / f"{name}_list.txt", options.images)
        changes = [
            f"Arch.Backbone.name={options.student}",
            f"DataLoader.Train.dataset.transform_ops.RandCropImage.size={options.size}",
            f"DataLoader.Eval.Query.dataset.transform_ops.ResizeImage.size={options.size * 5 // 4}",
            f"DataLoader.Eval.Gallery.dataset.transform_ops.ResizeImage.size={options.size * 5 // 4}",
            f"Global.eval_interval={options.epochs}",
            f"Global.save_interval={options.epochs}",
        ]
        run = ["--epochs", str(options.epochs), "--batch-size", str(options.batch_size), "--seed", str(seed)]
        words = [word for change in changes for word in ("-o", change)]
        result, cpu, _ = train(*run, *words, *extra, workspace=workspace)
        return Run(result["evaluations"][-1]["recall@1"], cpu)


def row(name: str, values: list[float]) -> str:
    """Return a line of the table: recall and CPU seconds without a teacher, then with one."""
    return f"{name:4s} {values[0]:8.3f} {values[1]:6.0f} {values[2]:7.3f} {values[3]:6.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--teacher", default="efficientnet-lite0")
    parser.add_argument("--student", default="PPLCNet_x0_5", help="a PPLCNet, as the template quick has")
    parser.add_argument("--images", type=int, default=10, help="of each class at most; 0: all")
    parser.add_argument("--size", type=int, default=64, help="side of the student's crops")
    parser.add_argument("--set", nargs="*", default=[], help="keys of TeacherLoss, such as features=2 soft_labels=0.9")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    changes = [word for change in options.set for word in ("-o", f"Loss.Train.TeacherLoss.{change}")]
    taught = ["--teacher", options.teacher, *changes]
    print("seed  without  CPU s    with  CPU s")
    pairs = []
    for seed in range(options.seeds):
        pair = [measure(options.data, options, seed, extra) for extra in ([], taught)]
        pairs.append(pair)
        print(row(str(seed), [value for run in pair for value in run]), flush=True)
    print(row("mean", [statistics.mean(run[way][n] for run in pairs) for way in (0, 1) for n in (0, 1)]))


if __name__ == "__main__":
    main()
