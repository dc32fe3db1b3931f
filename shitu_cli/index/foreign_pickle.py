"""Read PaddleClas's `id_map.pkl`, which only indexes without a map in YAML need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.index.foreign import MAX_MAP, map_id, map_text
from shitu_cli.index.store import AGAIN
from shitu_cli.inputs import open_input
from shitu_cli.inputs.pickles import PickleProblem, StandIn, read_pickle_stream
from shitu_cli.weights.arrays import Budget, array_of, stand_ins


def read_pickle_map(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Read PaddleClas's map: id → the line `path label` of its list, split where its own code splits it."""
    names = stand_ins(Budget(MAX_MAP))
    for core in ("numpy.core", "numpy._core"):  # PaddleClas's ids are numpy's int64
        names[f"{core}.multiarray", "scalar"] = StandIn("scalar", _number)
    with open_input(file, limit=MAX_MAP, hint=AGAIN) as stream:
        try:
            values = read_pickle_stream(stream, names)
        except PickleProblem as problem:
            raise DataError(f"{file} is not a plain map from numbers to text: {problem}", hint=AGAIN) from None
    if not isinstance(values, dict):
        raise DataError(f"{file} is not a plain map from numbers to text", hint=AGAIN)
    lines = {map_id(key, file): map_text(line, file).split() for key, line in values.items()}
    short = next((number for number, words in lines.items() if len(words) < 2), None)
    if short is not None:
        raise DataError(f"{file} is damaged: item {short} has no path and label", hint=AGAIN)
    return {n: words[1] for n, words in lines.items()}, {n: words[0] for n, words in lines.items()}


def _number(dtype: object, data: object) -> Any:
    return array_of(data, dtype, ()).item()
