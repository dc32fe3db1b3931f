"""Each row at unit length is what it is alone, whatever lies beside it."""

from __future__ import annotations

import numpy as np
import pytest

from shitu_cli.features.unit_length import lengths, normalized
from shitu_cli.index.store import unit_vectors


@pytest.mark.parametrize("change", [normalized, unit_vectors])
@pytest.mark.parametrize("size", [1, 3, 7, 33, 128, 640, 1280, 9000, 20_001])
def test_a_row_does_not_depend_on_the_rows_beside_it(change, size: int) -> None:
    rows = np.random.default_rng(size).standard_normal((37, size)).astype(np.float32) * 3
    alone = np.concatenate([change(rows[n : n + 1]) for n in range(len(rows))])
    shifted = np.empty(rows.size + 1, np.float32)[1:].reshape(rows.shape)  # at another place in memory
    shifted[:] = rows
    for same in (rows, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], shifted):
        assert np.array_equal(change(same), alone)
    assert np.array_equal(change(rows[::-1]), alone[::-1])
    assert np.allclose(lengths(alone), 1, atol=1e-6)


def test_an_index_brings_to_the_unit_length_of_evaluation() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    assert np.array_equal(unit_vectors(rows), normalized(rows))
    assert np.array_equal(unit_vectors(normalized(rows)), normalized(rows))


def test_zeros_stay_and_no_finite_row_is_too_long() -> None:
    rows = np.array([[0, 0], [3e38, 3e38], [1e-30, 0], [np.nan, 1], [np.inf, 1]], np.float32)
    assert np.array_equal(normalized(rows[:1]), rows[:1])
    assert np.allclose(normalized(rows[1:2]), np.sqrt(0.5))
    assert np.array_equal(np.isfinite(lengths(rows)), [True, True, True, False, False])
    assert lengths(rows[:0]).shape == (0,)
