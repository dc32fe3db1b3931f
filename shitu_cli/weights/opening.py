"""Open a weights file, and turn all errors that its bytes cause into one kind."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shitu_cli.errors import DataError
from shitu_cli.inputs import open_input
from shitu_cli.inputs.damage import DAMAGE
from shitu_cli.inputs.pickles import PickleProblem

MAX_BYTES = 64 << 30
# How long the program of a pickle of weights may be; a tensor takes about 30 steps.
MAX_OPERATIONS = 500_000


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a weights file for reading; yield it with its size in bytes.

    Errors inside the context that come from damaged content become a DataError that names the file.
    """
    with open_input(path, limit=MAX_BYTES) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        try:
            yield stream, size
        except PickleProblem as problem:
            raise damaged(path, str(problem)) from None
        except (*DAMAGE, MemoryError) as problem:
            raise damaged(path, f"it is damaged ({problem or type(problem).__name__})") from None


def damaged(path: Path, reason: str) -> DataError:
    """Return the error for a file whose weights cannot be read."""
    return DataError(f"{path} cannot be read as weights: {reason}", hint="is the file complete?")
