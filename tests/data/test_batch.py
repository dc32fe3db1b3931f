"""Bytes become the input of networks, with the same bits whichever way is quicker."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from shitu_cli.data import batch
from shitu_cli.data.transforms import Normalization

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)


@pytest.mark.parametrize("normalization", [None, IMAGENET, Normalization((0.5, 0.1, 0.9), (0.3, 0.7, 0.011), 0.004)])
def test_a_few_images_have_the_bits_that_many_have(normalization: Normalization | None) -> None:
    pixels = np.stack([np.roll(np.arange(256, dtype=np.uint8), shift) for shift in (0, 7, 91)], axis=1)
    images = np.stack([pixels.reshape(16, 16, 3), pixels[::-1].reshape(16, 16, 3)])
    compiled = batch.to_input(np.repeat(images, batch.FEW, axis=0), normalization)[:: batch.FEW]
    few = batch.normalize_by_table(images, *(normalization or batch.IDENTITY).affine())
    assert few.dtype == compiled.dtype == np.float32 and few.flags.c_contiguous
    assert np.array_equal(few, compiled)


def test_a_few_images_need_no_compiler() -> None:
    code = (
        "import sys, numpy as np; from shitu_cli.data.batch import to_input\n"
        "to_input(np.zeros((1, 8, 8, 3), np.uint8), None)\n"
        "print(sorted({'numba', 'scipy', 'paddle'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
