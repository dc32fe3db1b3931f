"""What readers of weights may do with damaged files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.weights.files import read_state


def give_arrays_or_a_data_error(path: Path, versions: Iterable[bytes]) -> None:
    """Read each of these contents at `path`: arrays come back, or an error that names the file."""
    for data in versions:
        path.write_bytes(data)
        try:
            state = read_state(path)
        except DataError as error:
            assert str(path) in error.message
        else:
            assert all(isinstance(array, np.ndarray) for array in state.values())
