"""Read `.npz`: a zip archive with one array of numpy's format for each name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from shitu_cli.inputs import MIB
from shitu_cli.inputs.npy_files import read_npy
from shitu_cli.weights.opening import damaged, open_weights


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of numbers in a file of `numpy.savez` by name; objects are never unpickled.

    Raises DataError for a damaged archive, and for one that expands to more than sixteen times its size.
    """
    path = Path(path)
    with open_weights(path) as (stream, size), zipfile.ZipFile(stream) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if sum(info.file_size for info in members) > 16 * size + MIB:
            raise damaged(path, "it expands to many times its size, as no weights do")
        return {
            info.filename.removesuffix(".npy"): read_npy(
                io.BytesIO(archive.read(info)), info.file_size, f"{path}: {info.filename[:80]}"
            )
            for info in members
        }
