"""What a teacher brings: recall@1 of a small network that starts from nothing, without and with `train --teacher`.

    python benchmarks/teacher.py DATA [--images 10] [--student PPLCNet_x0_5] [--seeds 3] [--epochs 100]

DATA is a list or a folder that `shitu prepare` reads; at most so many images of each class are trained on and searched,
as few images are what a teacher is for; 0 takes all. A third run gets the other training images without their labels
(`--unlabelled`). All runs go through the same number of steps, so the CPU seconds of those with a teacher are more by
what its features cost, and where there are images without labels, by what these cost in each step. Recall@1 is that of
the last epoch, as no run may choose its best one on the queries.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from starts import shitu, train

from shitu_cli.config.load import load_config
from shitu_cli.stores import join


class Run(NamedTuple):
    recall: float
    cpu: float


def shorten(path: Path, most: int) -> list[str]:
    """Keep the first `most` images of each class in a list of `prepare`; return the paths of the others."""
    counts: Counter[str] = Counter()
    lines, others = [], []
    for line in path.read_text().splitlines(keepends=True):
        name, label = line.rstrip("\n").split("\t")[:2]
        counts[label] += 1
        if counts[label] <= most:
            lines.append(line)
        else:
            others.append(name)
    path.write_text("".join(lines))
    return others


def measure(data: Path, options: argparse.Namespace, seed: int, extra: list[str], *, with_others: bool) -> Run:
    """Prepare a workspace of its own and train in it, if asked also on the images that lose their labels."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shitu("prepare", str(data.resolve()), "--template", "quick", "--seed", str(seed), workspace=workspace)
        if options.images:
            others = shorten(workspace / "lists" / "train_list.txt", options.images)
            shorten(workspace / "lists" / "gallery_list.txt", options.images)
            if with_others:
                train_split = load_config(workspace / "shitu.yaml").DataLoader.train
                assert train_split is not None
                listed, root = workspace / "others.txt", train_split.dataset.image_root
                listed.write_text("".join(f"{join(root, name)}\n" for name in others))
                extra = [*extra, "--unlabelled", str(listed)]
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


def cell(run: Run) -> str:
    return f" {run.recall:10.3f} {run.cpu:6.0f}"


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
    names = ("labels", "teacher", "unlabelled")
    parser.add_argument("--ways", nargs="+", choices=names, default=names, help="runs of each seed")
    options = parser.parse_args()
    changes = [word for change in options.set for word in ("-o", f"Loss.Train.TeacherLoss.{change}")]
    taught = ["--teacher", options.teacher, *changes]
    every = {"labels": ([], False), "teacher": (taught, False), "unlabelled": (taught, True)}
    ways = {name: every[name] for name in options.ways if options.images or name != "unlabelled"}
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    print("seed", *(f" {name:>10s}  CPU s" for name in ways), sep="")
    for seed in range(options.seeds):
        print(f"{seed:<4d}", end="", flush=True)
        for name, (extra, with_others) in ways.items():
            runs[name].append(measure(options.data, options, seed, extra, with_others=with_others))
            print(cell(runs[name][-1]), end="", flush=True)
        print(flush=True)
    means = (Run(*map(statistics.mean, zip(*runs[name], strict=True))) for name in ways)
    print("mean", *map(cell, means), sep="")


if __name__ == "__main__":
    main()
