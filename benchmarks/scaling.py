"""How cost grows: time and memory of each step at 10^3, 10^4, ... images or classes, and the exponent of the growth.

    python benchmarks/scaling.py [--largest 1000000 --size 128 --columns prepare,links,...] [--json]

prepare     `shitu prepare --quick` of so many small files in classes of 20
links       the same of hard links to 100 files, all of whose copies are alike
loader      reading the list of so many images, and the first batch of training
step        a training step against so many classes (ArcMargin on features, batch 64)
ranking     exact metrics of 500 queries in a gallery of so many features
re-ranking  the same re-ranked; stops at --most-pairs images, as it compares all pairs
build       a flat index of so many features, with its files
search      one query in that index

Each figure comes from a process of its own: CPU seconds of the step alone, in all its threads (so that what else runs
on the machine does not count), and the most memory beyond what its imports hold. The exponent is that of the last two
sizes: 1.0 is linear, 2.0 quadratic; small sizes are ruled by what is spent once. The table is Markdown, a line as soon
as it is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

LEAST = {"seconds": 1e-4, "mb": 4.0}  # below which a figure says nothing about growth
Measure = Callable[[int, int, Path], float]  # count, feature size, scratch folder → seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=128, help="values of a feature")
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("--most-pairs", type=int, default=100_000, help="largest size for re-ranking")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # column and count: measure in this process
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], int(options.one[1]), options.size)))
        return
    sizes = [10**power for power in range(3, 10) if 10**power <= options.largest]
    results: dict[str, dict[int, dict[str, float]]] = {}
    if not options.json:
        print(f"| step | {' | '.join(f'{size:,}' for size in sizes)} | time grows with n to the | memory |")
        print(f"|---|{'---|' * (len(sizes) + 2)}", flush=True)
    for column in options.columns.split(","):
        results[column] = {}
        for count in sizes:
            if column == "re-ranking" and count > options.most_pairs:
                continue
            command = [sys.executable, __file__, "--size", str(options.size), "--one", column, str(count)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[column][count] = json.loads(done.stdout.splitlines()[-1])
        if not options.json:
            show(column, results[column], sizes)
    if options.json:
        print(json.dumps({name: [{"count": n, **row} for n, row in rows.items()] for name, rows in results.items()}))


def show(column: str, rows: dict[int, dict[str, float]], sizes: list[int]) -> None:
    """Print one step as a row of the table: seconds and MB at each size, and the exponents."""
    cells = [f"{rows[n]['seconds']:.2g} s, {rows[n]['mb']:.0f} MB" if n in rows else "–" for n in sizes]
    growth = [f"{power:.2f}" if math.isfinite(power := exponent(rows, key)) else "–" for key in ("seconds", "mb")]
    print(f"| {column} | {' | '.join(cells)} | {' | '.join(growth)} |", flush=True)


def exponent(rows: dict[int, dict[str, float]], key: str) -> float:
    """Return the power of the count with which the last two figures grow; nan where one says nothing."""
    if len(rows) < 2:
        return math.nan
    (small, before), (large, after) = list(rows.items())[-2:]
    if min(before[key], after[key]) < LEAST[key]:
        return math.nan
    return math.log(after[key] / before[key]) / math.log(large / small)


def measured(column: str, count: int, size: int) -> dict[str, float]:
    """Return seconds and MB of one step at one size, in this process."""
    with tempfile.TemporaryDirectory(prefix="shitu-scaling-") as name:
        COLUMNS[column](1000, size, Path(name) / "warm")  # imports and compiled loops
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = COLUMNS[column](count, size, Path(name) / "real")
        return {"seconds": seconds, "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds of all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def draw(folder: Path, count: int, kinds: int) -> None:
    """Write `count` images in classes of 20: hard links to `kinds` different files."""
    import cv2

    (folder / "sources").mkdir(parents=True)
    names = []
    for kind in range(kinds):
        name = folder / f"sources/{kind}.jpg"
        base = np.random.default_rng(kind).integers(0, 256, (5, 5, 3)).astype(np.uint8)
        name.write_bytes(cv2.imencode(".jpg", cv2.resize(base, (40, 40)))[1].tobytes())
        names.append(name)
    for number in range(count):
        place = folder / f"data/class_{number // 20:07d}"
        if number % 20 == 0:
            place.mkdir(parents=True)
        os.link(names[number % kinds], place / f"{number}.jpg")


def prepare(count: int, size: int, folder: Path) -> float:
    return _prepare(count, min(count, 30_000), folder)


def links(count: int, size: int, folder: Path) -> float:
    return _prepare(count, 100, folder)


def _prepare(count: int, kinds: int, folder: Path) -> float:
    from shitu_cli import prepare as run

    draw(folder, count, kinds)
    return timed(lambda: run(folder / "data", folder / "space", quick=True, template="quick", compare=0))


def loader(count: int, size: int, folder: Path) -> float:
    from shitu_cli import load_config
    from shitu_cli.data.dataset import RecDataset
    from shitu_cli.data.loader import BatchLoader
    from shitu_cli.data.samplers import Feed, build_sampler

    _prepare(1000, 100, folder)
    source = (folder / "space/lists/train_list.txt").read_text().splitlines()
    lines = "\n".join(f"{source[n % len(source)].split(chr(9))[0]}\t{n // 20}" for n in range(count))
    (folder / "space/lists/train_list.txt").write_text(f"{lines}\n")
    split = load_config(folder / "space/shitu.yaml").DataLoader.train
    assert split is not None

    def start() -> None:
        dataset = RecDataset(split.dataset)
        sampler = build_sampler(split.sampler, Feed(dataset.labels, dataset.ids, 0, 0, 1))
        next(BatchLoader(dataset, sampler, seed=0).epoch(0))

    return timed(start)


def step(count: int, size: int, folder: Path) -> float:
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")
    import paddle

    from shitu_cli.config.reader import make_part

    head = make_part("head", "ArcMargin", embedding_size=size, class_num=count).build()
    loss = make_part("loss", "CELoss").build()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=head.parameters())
    x, labels = paddle.randn([64, size]), paddle.randint(0, count, [64])

    def run() -> None:
        loss({"softmax": head.softmax(x, labels)}, labels).backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)

    run()
    return min(timed(run) for _ in range(3))


def _features(count: int, size: int) -> np.ndarray:
    features = np.random.default_rng(count).standard_normal((count, size), np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def ranking(count: int, size: int, folder: Path) -> float:
    from shitu_cli.evaluation.metrics import rank

    sets = _sets(count, size)
    return timed(lambda: rank(*sets))


def reranking(count: int, size: int, folder: Path) -> float:
    from shitu_cli.evaluation.metrics import rank
    from shitu_cli.evaluation.rerank import reranked

    query, gallery = _sets(count, size)
    return timed(lambda: rank(query, gallery, block=reranked(query.features, gallery.features)))


def _sets(count: int, size: int) -> tuple:
    from shitu_cli.evaluation.metrics import FeatureSet

    queries = 500
    return tuple(
        FeatureSet(_features(n, size), np.arange(n) % max(2, n // 20), None, np.arange(n) + at)
        for n, at in ((queries, 0), (count, queries))
    )


def build(count: int, size: int, folder: Path) -> float:
    return timed(lambda: _index(count, size, folder))


def _index(count: int, size: int, folder: Path) -> object:
    from contextlib import closing

    from shitu_cli.index import open_index
    from shitu_cli.index.store import BuildOptions, FeatureTable
    from shitu_cli.reporting import SilentReporter

    names = [str(number) for number in range(count)]
    table = FeatureTable(_features(count, size), [name[-4:] for name in names], names)
    with closing(open_index(folder)) as store, store.writing():
        store.build(table, BuildOptions("flat"), SilentReporter())


def search(count: int, size: int, folder: Path) -> float:
    from contextlib import closing

    from shitu_cli.index import open_index

    _index(count, size, folder)
    query = _features(1, size)
    with closing(open_index(folder)) as store:
        store.search(query, 10)
        return min(timed(lambda: store.search(query, 10)) for _ in range(10))


COLUMNS: dict[str, Measure] = {
    "prepare": prepare,
    "links": links,
    "loader": loader,
    "step": step,
    "ranking": ranking,
    "re-ranking": reranking,
    "build": build,
    "search": search,
}

if __name__ == "__main__":
    main()
