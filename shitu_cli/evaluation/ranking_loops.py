"""The compiled loop behind `metrics.rank`: the ranks of a query's relevant gallery images by counting, not by sorting.

Only the few relevant images are sorted. Each of the others is counted into a bin of its similarity; a bin is a monotone
function of the similarity, so that whole bins lie before or behind a relevant image, and only in a bin that holds a
relevant image are similarities compared one by one.

Import it where it is used: compiling imports numba.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

import numpy as np

from shitu_cli.runtime.compilation import compiled

BINS = 2001  # of the similarity histograms, 0.001 wide over [-1, 1]
COLUMNS = ("first_rank", "ap", "ap_at_r", "r_precision", "inp", "relevant")  # of `values`; one for each k follows

_LAST = BINS - 1
_PER_UNIT, _MIDDLE = np.float32(1000), np.float32(1000.001)
_EXCLUDED = np.float32(-np.inf)  # a similarity that takes part in no ranking
_HITS = len(COLUMNS)


@compiled(nogil=True)
def rank_rows(
    sims: np.ndarray,
    relevant: tuple[np.ndarray, np.ndarray, np.ndarray],
    own: tuple[np.ndarray, np.ndarray, np.ndarray],
    same: tuple[np.ndarray, np.ndarray, np.ndarray],
    ks: np.ndarray,
    values: np.ndarray,
    top1: np.ndarray,
    top1_score: np.ndarray,
    margin: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the gallery for the queries of `sims` float32 [Q, G], which it overwrites.

    `relevant` and the excluded `own` and `same` are (order, low, high): of query q, the gallery positions
    `order[low[q]:high[q]]`, ascending. Fills `values` float64 [Q, columns and ks], `top1` int64 [Q], `top1_score`
    float32 [Q] and `margin` float64 [Q]; returns histograms int64 [BINS] of the similarities of relevant and of other
    pairs.
    """
    order, low, high = relevant
    matches, others = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    counts, shared = np.zeros(BINS, np.int64), np.zeros(BINS, np.bool_)
    for r in range(sims.shape[0]):
        row = sims[r]
        _exclude(row, own, r)
        _exclude(row, same, r)
        positions = order[low[r] : high[r]]
        positions = positions[row[positions] != _EXCLUDED]
        scores = row[positions]
        # Positions ascend, and a stable sort keeps that order among equal scores.
        ranking = np.argsort(-scores, kind="mergesort")
        scores, positions = scores[ranking], positions[ranking]
        bins = np.empty(len(scores), np.int64)
        shared[:] = False
        for at in range(len(scores)):
            row[positions[at]] = _EXCLUDED  # what is left in the row are the others
            bins[at] = _bin(scores[at])
            matches[bins[at]] += 1
            shared[bins[at]] = True
        counts[:] = 0
        before = np.zeros(len(scores) + 1, np.int64)
        best, best_at = _count_others(row, scores, positions, bins, shared, counts, before)
        for b in range(BINS):
            others[b] += counts[b]
        top1[r], top1_score[r] = best_at, best
        if len(scores):
            if best_at >= 0:
                margin[r] = np.float64(scores[0]) - np.float64(best)
            _summarise(values[r], bins, before, counts, ks)
            if values[r, 0] == 1:
                top1[r], top1_score[r] = positions[0], scores[0]
    return matches, others


@compiled(nogil=True)
def _exclude(row: np.ndarray, table: tuple[np.ndarray, np.ndarray, np.ndarray], query: int) -> None:
    order, low, high = table
    for at in range(low[query], high[query]):
        row[order[at]] = _EXCLUDED


@compiled(nogil=True)
def _bin(similarity: np.float32) -> int:
    place = similarity * _PER_UNIT + _MIDDLE
    return int(place) if np.float32(0) <= place < np.float32(_LAST) else (_LAST if place > 0 else 0)


@compiled(nogil=True)
def _count_others(
    row: np.ndarray,
    scores: np.ndarray,
    positions: np.ndarray,
    bins: np.ndarray,
    shared: np.ndarray,
    counts: np.ndarray,
    before: np.ndarray,
) -> tuple[np.float32, int]:
    """Count the other images of a row by bin, and within a relevant image's bin those that come before it.

    Fills `counts` [BINS] and `before` [relevant images]; returns the best similarity and its position (-1: none).
    """
    best, best_at = _EXCLUDED, -1
    for g in range(row.shape[0]):
        value = row[g]
        if value == _EXCLUDED:
            continue
        if value > best:
            best, best_at = value, g
        b = _bin(value)
        counts[b] += 1
        if shared[b]:
            left, right = 0, len(scores)
            while left < right:  # the first relevant image that this one comes before
                middle = (left + right) >> 1
                if scores[middle] > value or (scores[middle] == value and positions[middle] < g):
                    left = middle + 1
                else:
                    right = middle
            if left < len(scores) and bins[left] == b:
                before[left] += 1
    return best, best_at


@compiled(nogil=True)
def _summarise(values: np.ndarray, bins: np.ndarray, before: np.ndarray, counts: np.ndarray, ks: np.ndarray) -> None:
    """Fill a query's row of `values` from the bins of its relevant images, best first, and the counts of others."""
    count = len(bins)
    precision, at_r, in_r, first, last = 0.0, 0.0, 0, 0, 0
    above, upto, inside = 0, BINS, 0
    values[_HITS:] = 0
    for i in range(count):
        while upto > bins[i] + 1:  # all of the bins above this image's
            upto -= 1
            above += counts[upto]
            inside = 0
        inside += before[i]
        last = i + 1 + above + inside  # the rank of this image
        if i == 0:
            first = last
        precision += (i + 1) / last
        if last <= count:
            at_r += (i + 1) / last
            in_r += 1
        for n in range(len(ks)):
            if last <= ks[n]:
                values[_HITS + n] += 1
    values[0], values[1], values[2] = first, precision / count, at_r / count
    values[3], values[4], values[5] = in_r / count, count / last, count
