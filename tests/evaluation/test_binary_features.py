"""Binary features are ranked by their Hamming distances, whatever their length: equal distances tie."""

from __future__ import annotations

import numpy as np
import pytest

from shitu_cli.evaluation.metrics import FeatureSet, rank
from shitu_cli.evaluation.similarity import equal_bits
from shitu_cli.features.unit_length import normalized


@pytest.mark.parametrize("bits", [48, 64, 100, 512])
def test_pairs_that_differ_in_equally_many_bits_tie(bits: int) -> None:
    rng = np.random.default_rng(bits)
    query, gallery = (np.where(rng.random((rows, bits)) < 0.5, -1, 1) for rows in (30, 300))
    sets = [normalized(rows.astype(np.float32)) for rows in (query, gallery)]
    similar = equal_bits(*sets)(np.arange(30))
    distance = (query[:, None] != gallery[None]).sum(2)
    assert np.allclose(similar, 1 - 2 * distance / bits, atol=1e-6)
    assert all(len(np.unique(similar[distance == value])) == 1 for value in np.unique(distance))

    labels = rng.integers(0, 3, 330)
    parts = [
        FeatureSet(features, part, None, identity)
        for features, part, identity in zip(
            sets, (labels[:30], labels[30:]), (np.arange(30), np.arange(30, 330)), strict=True
        )
    ]
    ranking = rank(*parts, topk=(1, 5), block=equal_bits(*sets))
    order = np.lexsort((np.broadcast_to(np.arange(300), distance.shape), distance), axis=1)  # ties by position
    first = labels[30:][order[:, 0]] == labels[:30]
    assert ranking.metrics()["recall@1"] == pytest.approx(first.mean())
