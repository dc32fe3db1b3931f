"""The vector index, kind by kind: building, memory, disk, and queries per second at the recall it was tuned to.

    python benchmarks/index.py [--vectors 100000 --size 512 --kinds flat,ivf,hnsw,binary --recall 0.99]

The vectors lie as features do: categories, in them classes of very different sizes, in them pictures; the first
directions vary most. Queries are further pictures of the same classes. Each kind works in a process of its own, on
vectors in a file.

build s       with tuning           peak MB   most memory held, the mapped file of vectors included
held MB       memory of the index   disk MB   its directory
recall@10     share of the ten true neighbours that the queries find     at build   what tuning measured, and chose
queries/s     1,000 queries in one call     × flat   how many times those of flat     ms alone   one query in a call
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.store import BuildOptions, FeatureTable, unit_vectors
from shitu_cli.index.tune import BLOCK, recall_of, true_neighbours
from shitu_cli.index.vectors import VectorIndex

QUERIES = 1000
COLUMNS = "{:7} {:>8} {:>8} {:>8} {:>8} {:>7} {:>10} {:>22} {:>10} {:>7} {:>9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--kinds", default="flat,ivf,hnsw,binary")
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # kind and directory: measure in this process
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], Path(options.one[1]), options.recall)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, options.vectors, options.size)
        print(f"{options.vectors:,} vectors of {options.size}, recall wanted {options.recall}")
        titles = ("build s", "peak MB", "held MB", "disk MB", "load s", "recall@10", "at build", "queries/s", "× flat")
        print(COLUMNS.format("kind", *titles, "ms alone"), flush=True)
        for kind in options.kinds.split(","):
            command = [sys.executable, __file__, "--recall", str(options.recall), "--one", kind, name]
            subprocess.run(command, check=True)


def draw(folder: Path, count: int, size: int) -> None:
    """Write `vectors.npy`, `queries.npy` and `truth.npy` (rows of the ten nearest)."""
    rng = np.random.default_rng(0)
    spread = (1 + np.arange(size, dtype=np.float32)) ** -0.4  # a spectrum that falls as those of trained networks do

    def normal(rows: int) -> np.ndarray:
        return rng.standard_normal((rows, size), np.float32) * spread

    classes = max(10, count // 20)
    centres = normal(max(5, classes // 50))[rng.integers(0, max(5, classes // 50), classes)] + normal(classes)

    def pictures(rows: int) -> np.ndarray:
        chosen = (rng.random(rows) ** 2 * classes).astype(np.int64)  # few classes are large, many small
        return unit_vectors(centres[chosen] + np.float32(0.8) * normal(rows))

    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, size))
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = pictures(min(BLOCK, count - start))
    queries = pictures(QUERIES)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", true_neighbours(queries, vectors))


def measure(kind: str, folder: Path, recall: float) -> None:
    """Build, save, load and ask one kind; print its row."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    names = [f"class/{n}.jpg" for n in range(len(vectors))]
    start = time.perf_counter()
    index = VectorIndex.build(FeatureTable(vectors, names, names), BuildOptions(kind, recall))
    built = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    held = held_megabytes()
    save_index(index, folder / kind)
    del index
    disk = sum(file.stat().st_size for file in (folder / kind).iterdir()) / 1e6
    start = time.perf_counter()
    index = load_index(folder / kind)
    loaded = time.perf_counter() - start
    index.search(queries[:10], 10)
    start = time.perf_counter()
    answers = index.search(queries, 10)
    rate = len(queries) / (time.perf_counter() - start)
    start = time.perf_counter()
    for query in queries[:50]:
        index.search(query[None], 10)
    alone = (time.perf_counter() - start) / 50 * 1000
    ids = np.asarray([([m.id for m in row] + [-1] * 10)[:10] for row in answers])
    chosen = ", ".join(f"{name} {value}" for name, value in index.manifest.search.items())
    at_build = "" if index.manifest.recall is None else f"{index.manifest.recall:.4f} {chosen}"
    beside = folder / "flat.rate"
    if kind == "flat":
        beside.write_text(str(rate))
    ratio = f"{rate / float(beside.read_text()):.1f}" if beside.is_file() else ""
    figures = (f"{built:.1f}", f"{peak:.0f}", f"{held:.0f}", f"{disk:.0f}", f"{loaded:.1f}")
    found = f"{recall_of(ids, truth):.4f}"
    print(COLUMNS.format(kind, *figures, found, at_build, f"{rate:.0f}", ratio, f"{alone:.2f}"), flush=True)
    for file in (folder / kind).iterdir():
        file.unlink()


def held_megabytes() -> float:
    """Memory that is this process's own, without mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
