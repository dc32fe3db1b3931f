"""All retrieval metrics at a large gallery: this program beside the usual ways, in one run.

    python benchmarks/evaluate.py [--queries 10000 --gallery 100000 --size 512] [--without-sorting]

Random features around class centres (hard: recall@1 about 0.3). `sorting` is a full argsort of every row, as
evaluation in blocks does it today; `ranks` sorts similarities and looks the relevant ones up; `faiss flat` finds the
first ten only, so it knows no mAP. Every way runs in its own process; memory is above the features.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WAYS = ("shitu", "ranks", "faiss flat", "sorting")


def data(queries: int, gallery: int, size: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(2, gallery // 20), size), dtype=np.float32)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, len(centres), count)
        features = centres[labels] + 3 * rng.standard_normal((count, size), dtype=np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return features, labels

    return (*draw(queries), *draw(gallery))


def by_sorting(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    hits, aps = [], []
    for start in range(0, len(query), 64):
        order = np.argsort(-(query[start : start + 64] @ gallery.T), axis=1)
        right = gallery_labels[order] == labels[start : start + 64, None]
        precision = np.cumsum(right, 1) / np.arange(1, right.shape[1] + 1)
        hits += right[:, 0].tolist()
        aps += ((precision * right).sum(1) / np.maximum(1, right.sum(1)))[right.any(1)].tolist()
    return {"recall@1": float(np.mean(hits)), "mAP": float(np.mean(aps))}


def by_ranks(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    hits, aps = [], []
    order = np.argsort(gallery_labels, kind="stable")
    low = np.searchsorted(gallery_labels[order], labels, "left")
    high = np.searchsorted(gallery_labels[order], labels, "right")
    for start in range(0, len(query), 256):
        block = query[start : start + 256] @ gallery.T
        for row, q in zip(block, range(start, start + len(block)), strict=True):
            scores = row[order[low[q] : high[q]]]
            if not len(scores):
                continue
            above = np.sort(row[row >= scores.min()])
            ranks = np.sort(len(above) - np.searchsorted(above, scores, side="right") + 1)
            hits.append(ranks[0] <= 1)
            aps.append((np.arange(1, len(ranks) + 1) / ranks).mean())
    return {"recall@1": float(np.mean(hits)), "mAP": float(np.mean(aps))}


def by_faiss(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    import faiss

    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    found = index.search(query, 10)[1]
    return {"recall@1": float((gallery_labels[found[:, 0]] == labels).mean()), "mAP": float("nan")}


def by_shitu(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    from shitu_cli.retrieval.metrics import FeatureSet, rank

    found = rank(FeatureSet(query, labels), FeatureSet(gallery, gallery_labels)).metrics()
    return {"recall@1": found["recall@1"], "mAP": found["mAP"]}


def measure(way: str, queries: int, gallery: int, size: int) -> dict:
    """Seconds and memory of one way; compiled code is loaded by a first tiny run."""
    function = {"shitu": by_shitu, "ranks": by_ranks, "faiss flat": by_faiss, "sorting": by_sorting}[way]
    function(*data(20, 100, size))
    made = data(queries, gallery, size)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of memory counts from here
    before = _peak()
    start = time.perf_counter()
    found = function(*made)
    seconds = time.perf_counter() - start
    return {"s": seconds, "mb": _peak() - before, **found}


def _peak() -> float:
    """Largest resident size in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--without-sorting", action="store_true", help="leave out the slow one")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.queries, options.gallery, options.size)))
        return
    print(f"{options.queries:,} queries x {options.gallery:,} gallery x {options.size}")
    print(f"{'way':12} {'s':>8} {'MB above':>9} {'recall@1':>9} {'mAP':>9} {'x shitu':>8}")
    base = None
    for way in WAYS[: 3 if options.without_sorting else 4]:
        argv = [sys.executable, __file__, "--one", way, "--queries", str(options.queries)]
        argv += ["--gallery", str(options.gallery), "--size", str(options.size)]
        got = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        base = base or got["s"]
        print(
            f"{way:12} {got['s']:8.1f} {got['mb']:9.0f} {got['recall@1']:9.4f} {got['mAP']:9.5f} "
            f"{got['s'] / base:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
