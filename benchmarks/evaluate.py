"""All retrieval metrics at a large gallery: this program beside the usual ways, in one run.

    python benchmarks/evaluate.py [--queries 10000 --gallery 100000 --size 512] [--ways shitu ranks "faiss flat"]
    python benchmarks/evaluate.py --queries 2000 --gallery 1000000 --ways shitu
    python benchmarks/evaluate.py --queries 5000 --gallery 200000 --ways shitu expanded re-ranked
    python benchmarks/evaluate.py --ways products "BLAS products"

Random features around class centres (hard: recall@1 about 0.3), written to files and mapped into memory, so that "MB
above" is what a way needs besides them. `sorting` is a full argsort of every row, as evaluation in blocks does it
today; `ranks` sorts similarities and looks the relevant ones up; `faiss flat` finds the first ten only, so it knows no
mAP; `expanded` and `re-ranked` are this program's rankings by neighbours; `products` are its similarities alone, which
do not depend on what is computed beside them, and `BLAS products` those of numpy, on as many threads. Every way runs in
its own process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # query, its labels, gallery, its labels
CHUNK = 50_000


def write_data(folder: Path, queries: int, gallery: int, size: int) -> None:
    """query.npy and gallery.npy, float32 of unit length, with their labels."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(2, gallery // 20), size), dtype=np.float32)
    for name, count in (("query", queries), ("gallery", gallery)):
        labels = rng.integers(0, len(centres), count)
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (count, size))
        for start in range(0, count, CHUNK):
            part = centres[labels[start : start + CHUNK]]
            part += 3 * rng.standard_normal(part.shape, dtype=np.float32)
            file[start : start + CHUNK] = part / np.linalg.norm(part, axis=1, keepdims=True)
        file.flush()
        np.save(folder / f"{name}_labels.npy", labels)


def read_data(folder: Path) -> Arrays:
    query, gallery = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("query", "gallery"))
    return query, np.load(folder / "query_labels.npy"), gallery, np.load(folder / "gallery_labels.npy")


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
    from shitu_cli.evaluation.metrics import FeatureSet, rank

    return rank(FeatureSet(query, labels), FeatureSet(gallery, gallery_labels)).metrics()


def expanded(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    from shitu_cli.evaluation.rerank import expand_queries

    return by_shitu(expand_queries(query, gallery), labels, gallery, gallery_labels)


def re_ranked(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    from shitu_cli.evaluation.metrics import FeatureSet, rank
    from shitu_cli.evaluation.rerank import reranked

    block = reranked(query, gallery)
    return rank(FeatureSet(query, labels), FeatureSet(gallery, gallery_labels), block=block).metrics()


def products(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    from shitu_cli.evaluation.similarity import Similarities

    similarities = Similarities(query, gallery)
    return _first(lambda start, stop: similarities(np.arange(start, stop)), labels, gallery_labels)


def blas_products(query: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> dict:
    return _first(lambda start, stop: query[start:stop] @ gallery.T, labels, gallery_labels)


def _first(block: Callable[[int, int], np.ndarray], labels: np.ndarray, gallery_labels: np.ndarray) -> dict:
    hits = []
    for start in range(0, len(labels), 512):
        stop = min(start + 512, len(labels))
        hits += (gallery_labels[block(start, stop).argmax(axis=1)] == labels[start:stop]).tolist()
    return {"recall@1": float(np.mean(hits)), "mAP": float("nan")}


WAYS = {"shitu": by_shitu, "ranks": by_ranks, "faiss flat": by_faiss, "sorting": by_sorting,
        "expanded": expanded, "re-ranked": re_ranked, "products": products, "BLAS products": blas_products}  # fmt: skip


def measure(way: str, folder: Path) -> dict:
    """Seconds and memory of one way; compiled code is loaded by a first tiny run."""
    data = read_data(folder)
    few, their_labels = np.array(data[2][:100]), data[3][:100]
    WAYS[way](few, their_labels, few, their_labels)
    with _Peak() as peak:
        start = time.perf_counter()
        found = WAYS[way](*data)
        seconds = time.perf_counter() - start
    return {"s": seconds, "mb": peak.above, "recall@1": found["recall@1"], "mAP": found["mAP"]}


class _Peak:
    """The largest memory of this process that is not a mapped file, above that at the start, in MB."""

    def __enter__(self) -> "_Peak":
        self._done, self._start, self.above = threading.Event(), _anonymous(), 0.0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.above = max(self.above, _anonymous() - self._start)


def _anonymous() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["shitu", "ranks", "faiss flat", "sorting"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]))))
        return
    print(f"{options.queries:,} queries x {options.gallery:,} gallery x {options.size}")
    print(f"{'way':12} {'s':>8} {'MB above':>9} {'recall@1':>9} {'mAP':>9} {'x first':>8}")
    base = None
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), options.queries, options.gallery, options.size)
        for way in options.ways:
            argv = [sys.executable, __file__, "--one", way, folder]
            got = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
            base = base or got["s"]
            figures = f"{got['s']:8.1f} {got['mb']:9.0f} {got['recall@1']:9.4f} {got['mAP']:9.5f}"
            print(f"{way:12} {figures} {got['s'] / base:8.1f}", flush=True)


if __name__ == "__main__":
    main()
