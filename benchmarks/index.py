"""Building and asking the vector index, kind by kind.

    python benchmarks/index.py [--vectors 200000 --size 512]

Unit vectors around class centres. Build time includes tuning the approximate kinds to find 99 % of the true
neighbours; queries/s are single searches of 1,000 vectors in one call; `true top-1` is the share of queries whose
first answer is the exact first.
"""

import argparse
import resource
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--kinds", default="flat,ivf,hnsw,binary")
    options = parser.parse_args()
    from shitu_cli.retrieval.index import VectorIndex

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((options.vectors // 20, options.size), dtype=np.float32)

    def draw(count: int) -> np.ndarray:
        x = centres[rng.integers(0, len(centres), count)]
        x = x + 0.7 * rng.standard_normal(x.shape, dtype=np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    vectors, queries = draw(options.vectors), draw(1000)
    names = [str(n) for n in range(options.vectors)]
    truth = None
    print(f"{options.vectors:,} vectors of {options.size}")
    print(f"{'kind':8} {'build s':>8} {'queries/s':>10} {'true top-1':>11} {'recall@10 at build':>19} {'peak MB':>8}")
    for kind in options.kinds.split(","):
        start = time.perf_counter()
        index = VectorIndex.build(vectors, names, names, kind=kind)
        built = time.perf_counter() - start
        start = time.perf_counter()
        found = [matches[0].id for matches in index.search(queries, top=10)]
        rate = len(queries) / (time.perf_counter() - start)
        truth = truth or found
        same = float(np.mean([a == b for a, b in zip(found, truth, strict=True)]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        recall = "" if index.manifest.recall is None else f"{index.manifest.recall:.4f} {index.manifest.search}"
        print(f"{kind:8} {built:8.1f} {rate:10.0f} {same:11.4f} {recall:>19} {peak:8.0f}", flush=True)
        del index


if __name__ == "__main__":
    main()
