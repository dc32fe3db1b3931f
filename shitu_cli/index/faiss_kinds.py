"""The indexes of faiss, one for each kind of index."""

from __future__ import annotations

from typing import Any

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.index.store import BLOCK, unit_vectors
from shitu_cli.runtime.threads import compute_threads

PER_LIST = 40  # vectors per list to train the centres of an ivf index


def check_signs(features: np.ndarray) -> None:
    """Raise DataError if all vectors have the same signs, which is all that a binary index keeps of them."""
    first = features[:1] >= 0
    if len(features) > 1 and all(
        ((features[start : start + BLOCK] >= 0) == first).all() for start in range(0, len(features), BLOCK)
    ):
        raise DataError(
            "a binary index keeps only the signs of values, and those of all these vectors are the same: each search "
            "would find all images alike",
            hint="leave out --kind binary; it is for networks that were trained to give codes",
        )


def new_index(kind: str, features: np.ndarray) -> Any:
    """Return an empty faiss index that maps ids; an ivf index is trained on a sample of the features [N, D]."""
    import faiss

    count, size = features.shape
    if kind == "binary":
        return faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(-(-size // 8) * 8))
    lists = lists_for(count)
    name = {"flat": "Flat", "hnsw": "HNSW32", "ivf": f"IVF{lists},Flat"}[kind]
    index = faiss.IndexIDMap2(faiss.index_factory(size, name, faiss.METRIC_INNER_PRODUCT))
    if kind == "hnsw":
        faiss.downcast_index(index.index).hnsw.efConstruction = 128
    if kind == "ivf":
        faiss.omp_set_num_threads(compute_threads())
        faiss.downcast_index(index.index).cp.min_points_per_centroid = 1  # it would warn of small galleries on stderr
        rows = np.sort(np.random.default_rng(0).permutation(count)[: PER_LIST * lists])
        index.train(unit_vectors(features[rows], rows))
    return index


def without_vectors(inner: Any) -> Any:
    """Return an ivf index that keeps its centres, after freeing its vectors."""
    import faiss

    inner.reset()
    return faiss.IndexIDMap2(faiss.clone_index(inner))


def lists_for(count: int) -> int:
    """Return the number of lists of an ivf index: each gets at least the 39 vectors that faiss requires.

    For large sets, the number that is cheapest to search: a search compares with all centres and, at the usual recall,
    with about four lists, so sqrt(4 N) balances the two.
    """
    return int(min(max(1, count // 39), max(8, 2 * count**0.5), 65536))
