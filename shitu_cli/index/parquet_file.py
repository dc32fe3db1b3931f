"""Read features from Parquet, as `shitu extract --out features.parquet` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import DataError, require_package
from shitu_cli.index.store import EXTRACT, FeatureTable
from shitu_cli.inputs import open_input
from shitu_cli.runtime.memory import require_room
from shitu_cli.stores.parquet_pages import check_size, look_into
from shitu_cli.stores.ranges import OpenFile, Ranged

ROWS = 8192  # read at once
WHAT = "features"
_TEXTS = ("path", "label")


def read_parquet(path: Path) -> FeatureTable:
    """Return the vectors float32 [N, D], labels and paths of a file.

    Raises DataError for damage, other columns, and more than such a file unpacks to, before memory is taken for it.
    """
    require_package("pyarrow", "parquet", "parquet")
    import pyarrow.parquet

    try:
        with open_input(path, hint=EXTRACT) as source:
            _check_columns(pyarrow, pyarrow.parquet.read_schema(source), path)
            file = pyarrow.parquet.ParquetFile(source, read_dictionary=list(_TEXTS))
            return _read(file, OpenFile(source, str(path)), path)
    except pyarrow.ArrowException as error:
        raise DataError(f"cannot read {path}: {error}", hint=EXTRACT) from None


def _read(file: Any, source: Ranged, path: Path) -> FeatureTable:
    import pyarrow.compute

    names = [file.schema.column(number).path.partition(".")[0] for number in range(len(file.schema))]
    numbers = [names.index(name) for name in ("feature", *_TEXTS)]
    held = look_into(source, numbers, what=WHAT)
    unpacked = held.values[numbers[0]] * 4
    check_size(source, unpacked, what=WHAT)
    require_room(unpacked, path)
    texts = _Texts(source)
    labels: list[str] = []
    paths: list[str] = []
    features, rows = np.empty((0, 0), np.float32), 0
    for batch in file.iter_batches(ROWS, columns=["path", "label", "feature"]):
        column = batch.column("feature")
        sizes = np.unique(pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False))
        if column.null_count or len(sizes) != 1 or sizes[0] != (features.shape[1] if rows else sizes[0]):
            raise DataError(f"{path}: its vectors are not all of one length", hint=EXTRACT)
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
        if rows == 0:
            if held.rows * vectors.shape[1] != held.values[numbers[0]]:
                raise DataError(f"{path}: its vectors are not all of one length", hint=EXTRACT)
            features = np.empty((held.rows, vectors.shape[1]), np.float32)
        features[rows : rows + len(batch)] = vectors
        rows += len(batch)
        labels += texts.of(batch.column("label"))
        paths += texts.of(batch.column("path"))
    if rows != len(features):
        raise DataError(f"{path} is damaged: {rows} rows, but it claims {len(features)}", hint=EXTRACT)
    return FeatureTable(features, labels, paths)


class _Texts:
    """Unpacks columns of texts, as long as all of them are no more than such a file unpacks to."""

    def __init__(self, file: Ranged) -> None:
        self._file, self._bytes = file, 0

    def of(self, column: Any) -> list[str]:
        """Return the texts of a column that was read as numbers of a dictionary; "" where there is none."""
        import pyarrow.compute as compute

        sizes = compute.binary_length(column.dictionary).take(column.indices)
        self._bytes += compute.sum(sizes).as_py() or 0
        check_size(self._file, self._bytes, what=WHAT)
        if 2 * len(column.dictionary) < len(column):  # equal texts become one object, which is faster too
            names = column.dictionary.to_pylist()
            return ["" if number is None else names[number] or "" for number in column.indices.to_pylist()]
        return [text or "" for text in column.dictionary.take(column.indices).to_pylist()]


def _check_columns(pyarrow: Any, schema: Any, path: Path) -> None:
    types = pyarrow.types
    missing = [name for name in ("path", "label", "feature") if schema.get_field_index(name) < 0]
    if missing:
        raise DataError(f"{path}: it has no column {', '.join(missing)}", hint=EXTRACT)
    texts = [schema.field(name).type for name in _TEXTS]
    if not all(types.is_string(text) or types.is_large_string(text) for text in texts):
        raise DataError(f"{path}: its columns path and label are not text", hint=EXTRACT)
    lists = schema.field("feature").type
    if not (types.is_fixed_size_list(lists) or types.is_list(lists)) or not types.is_floating(lists.value_type):
        raise DataError(f"{path}: its column feature does not hold lists of real numbers", hint=EXTRACT)
