"""Exact retrieval metrics per query, then averaged, without sorting the gallery.

All metrics follow from the ranks of a query's relevant gallery images, and a rank is a count: how many valid gallery
images come before. Order: higher similarity first, equal similarities by position in the gallery list. Excluded
images (the query itself, same label and same id) are removed from the ranking, not merely ranked low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.evaluation.intervals import wilson_interval
from shitu_cli.evaluation.similarity import Block, Similarities, largest_length, resolution
from shitu_cli.runtime.threads import compute_threads

BLOCK_VALUES = 64_000_000  # similarities held at once: 256 MB; few rows at a time would multiply slowly
UNDECIDED_SHARE = 0.1  # of the queries: the recall@1 may be off by that much
OVERFLOW = 1e38  # float32 ends at 3.4e38


@dataclass(frozen=True)
class FeatureSet:
    """Features of one list.

    `features` float32 [N, D], of unit length if the similarity is to be the cosine; `labels` int64 [N], negative:
    of no class; `ids` int64 [N] or None (camera, sequence); `identity` int64 [N] or None: equal numbers in query and
    gallery are the same image.
    """

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray | None = None
    identity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Ranking:
    """What the metrics are made of, per query: float64 [Q] each, NaN for queries without a relevant gallery image.

    `hits` bool [Q, len(topk)]: a relevant image among the first k; `relevant_found` float64 of that shape: how many;
    `top1` int64 [Q]: the nearest valid gallery image (-1: none) and `top1_score` its similarity; `margin` float64 [Q]:
    the best similarity of a relevant image minus the best of another, NaN where either is missing; `resolution`: the
    smallest margin that rounding cannot reverse (0: not known); `matches` and `others` int64 [BINS]: histograms of
    the similarities of relevant and other pairs (see ranking_loops.py).
    """

    topk: tuple[int, ...]
    first_rank: np.ndarray
    ap: np.ndarray
    ap_at_r: np.ndarray
    r_precision: np.ndarray
    inp: np.ndarray
    relevant: np.ndarray
    hits: np.ndarray
    relevant_found: np.ndarray
    top1: np.ndarray
    top1_score: np.ndarray
    margin: np.ndarray
    resolution: float
    matches: np.ndarray
    others: np.ndarray

    @property
    def answerable(self) -> np.ndarray:
        """bool [Q]: the gallery holds a relevant image."""
        return np.asarray(self.relevant > 0)

    @property
    def undecided(self) -> int:
        """The number of answerable queries for which rounding could swap the best relevant and the best other image."""
        with np.errstate(invalid="ignore"):
            return int((np.abs(self.margin[self.answerable]) < self.resolution).sum())

    @property
    def undecided_share(self) -> float:
        """The same as a share of the answerable queries, 0 without any."""
        return self.undecided / max(1, int(self.answerable.sum()))

    @property
    def decided_by_rounding(self) -> bool:
        """Whether that is more than a tenth of them; a recall then says nothing about the network."""
        return self.undecided_share > UNDECIDED_SHARE

    def coincidence(self) -> str | None:
        """Return why there is no meaningful recall: the features coincide; None if it is meaningful."""
        if not self.decided_by_rounding:
            return None
        return (
            f"the features nearly coincide: for {self.undecided:,} of {int(self.answerable.sum()):,} queries the best "
            f"right and the best wrong image are equally similar (to within {self.resolution:.1g}), so rounding would "
            "decide the recall, which would say nothing about the network"
        )

    def metrics(self) -> dict[str, float]:
        """Return the means over the answerable queries."""
        chosen = self.answerable
        values = {f"recall@{k}": self.hits[chosen, n] for n, k in enumerate(self.topk)}
        values |= {f"precision@{k}": self.relevant_found[chosen, n] / k for n, k in enumerate(self.topk)}
        values["mAP"], values["mAP@R"] = self.ap[chosen], self.ap_at_r[chosen]
        values["R-precision"], values["mINP"] = self.r_precision[chosen], self.inp[chosen]
        values["MRR"] = 1 / self.first_rank[chosen]
        return {name: float(np.mean(value, dtype=np.float64)) for name, value in values.items()}


def rank(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    topk: Sequence[int] = (1, 5, 10),
    threads: int | None = None,
    on_block: Callable[[int], None] = lambda queries: None,
    block: Block | None = None,
) -> Ranking:
    """Rank the gallery for every query by inner product, a block of queries at a time.

    `on_block` is called with the size of each block; `block` gives other similarities than the products (re-ranking).
    Raises DataError for features that are not finite or of different length.
    """
    from shitu_cli.evaluation.ranking_loops import BINS, COLUMNS, rank_rows

    check_features(query, gallery)
    count, size = len(query), len(gallery)
    values = np.full((count, len(COLUMNS) + len(topk)), np.nan)
    top1, top1_score = np.full(count, -1, np.int64), np.full(count, np.nan, np.float32)
    margin = np.full(count, np.nan)
    tables = _tables(query, gallery)
    matches, others = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    rows = max(16, min(512, BLOCK_VALUES // max(1, size)))
    workers = threads or compute_threads()
    ks = np.asarray(topk, np.int64)

    def work(sims: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
        relevant, own, same = [(order, low[part], high[part]) for order, low, high in tables]
        results = values[part], top1[part], top1_score[part], margin[part]
        histograms: tuple[np.ndarray, np.ndarray] = rank_rows(sims, relevant, own, same, ks, *results)
        return histograms

    similarities = Similarities(query.features, gallery.features, threads=workers)
    products = np.empty((min(rows, count) if block is None else 0, size), np.float32)
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            numbers = np.arange(start, stop)
            sims = similarities(numbers, products[: stop - start]) if block is None else block(numbers)
            for pair in pool.map(lambda p: work(sims[p[0]], p[1]), _parts(start, stop, workers)):  # noqa: B023
                matches += pair[0]
                others += pair[1]
            on_block(stop - start)
    columns = {name: values[:, n] for n, name in enumerate(COLUMNS)}
    columns["relevant"] = np.nan_to_num(columns["relevant"])
    counts = np.nan_to_num(values[:, len(COLUMNS) :])
    resolved = resolution(query.features, gallery.features) if block is None else 0.0
    return Ranking(tuple(topk), **columns, hits=counts > 0, relevant_found=counts, top1=top1, top1_score=top1_score,
                   margin=margin, resolution=resolved, matches=matches, others=others)  # fmt: skip


def _parts(start: int, stop: int, workers: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows of each worker's share of a block: as rows of the block, and as queries."""
    step = -(-(stop - start) // workers)
    for first in range(start, stop, step):
        last = min(first + step, stop)
        yield slice(first - start, last - start), slice(first, last)


def check_features(query: FeatureSet, gallery: FeatureSet) -> None:
    """Raise DataError for features that are not finite, of different length, or so large that products overflow."""
    if query.features.shape[1] != gallery.features.shape[1]:
        raise DataError(
            f"query features have {query.features.shape[1]} values, gallery features {gallery.features.shape[1]}",
            hint="make both with the same model",
        )
    for name, part in (("query", query), ("gallery", gallery)):
        for start in range(0, len(part), 65536):
            bad = ~np.isfinite(part.features[start : start + 65536]).all(axis=1)
            if bad.any():
                raise DataError(
                    f"the {name} features of image {start + int(np.argmax(bad)) + 1} are not finite",
                    hint="the weights hold NaN or infinity: train again with a lower learning rate",
                )
    # No sum of products, nor any part of it, is larger than the product of the lengths (Cauchy and Schwarz).
    longest = largest_length(query.features), largest_length(gallery.features)
    if longest[0] * longest[1] > OVERFLOW:
        raise DataError(
            f"the features are too large to compare: lengths up to {max(longest):.2g}, whose products are not finite",
            hint="train again with a lower learning rate; or compare directions: -o Global.feature_normalize=True",
        )


def _tables(query: FeatureSet, gallery: FeatureSet) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return relevant images, the query's own image, and those of its label and id, each as (order, low, high).

    `order[low[q]:high[q]]` are positions in the gallery, ascending.
    """
    known = query.labels >= 0
    relevant = _lookup(query.labels, gallery.labels, known)
    nothing = (np.zeros(0, np.int64), np.zeros(len(query), np.int64), np.zeros(len(query), np.int64))
    own = same = nothing
    if query.identity is not None and gallery.identity is not None:
        own = _lookup(query.identity, gallery.identity, np.ones(len(query), bool))
    if query.ids is not None and gallery.ids is not None:
        pairs = np.concatenate([np.stack([query.labels, query.ids], 1), np.stack([gallery.labels, gallery.ids], 1)])
        joint = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        same = _lookup(joint[: len(query)], joint[len(query) :], known & (query.ids >= 0))
    return [relevant, own, same]


def _lookup(keys: np.ndarray, of_gallery: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(of_gallery, kind="stable").astype(np.int64)
    ordered = of_gallery[order]
    low, high = np.searchsorted(ordered, keys, "left"), np.searchsorted(ordered, keys, "right")
    return order, low, np.where(wanted, high, low)


def nearest(
    query: FeatureSet, gallery: FeatureSet, number: int, count: int, *, block: Block | None = None
) -> list[tuple[int, float]]:
    """Return positions and similarities of the first `count` valid gallery images of one query, as `rank` orders them.

    `block` is what `rank` was given.
    """
    block = block or Similarities(query.features, gallery.features)
    similarity = block(np.asarray([number]))[0]
    places = np.flatnonzero(~excluded(query, gallery, number))
    if len(places) > count:  # only those at or above the last place are worth sorting
        bar = np.partition(similarity[places], -count)[-count]
        places = places[similarity[places] >= bar]
    order = places[np.argsort(-similarity[places], kind="stable")[:count]]
    return [(int(place), float(similarity[place])) for place in order]


def excluded(query: FeatureSet, gallery: FeatureSet, number: int) -> np.ndarray:
    """Return bool [G]: what cannot answer query `number`, the image itself and images with its label and id."""
    out = np.zeros(len(gallery), bool)
    if query.identity is not None and gallery.identity is not None:
        out |= gallery.identity == query.identity[number]
    if query.ids is not None and gallery.ids is not None and query.labels[number] >= 0 and query.ids[number] >= 0:
        out |= (gallery.labels == query.labels[number]) & (gallery.ids == query.ids[number])
    return out


def bootstrap_interval(values: np.ndarray, *, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values [Q] from 0 to 1, by drawing queries with replacement (Efron 1979).

    Values that are all equal, such as those of a few queries which all find their class, say nothing when drawn again:
    then it is the interval of a share.
    """
    if not len(values):
        return float("nan"), float("nan")
    if values.min() == values.max():
        return wilson_interval(float(values[0]), len(values))
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(rounds)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
