"""Read PaddleClas's `id_map.pkl`, which only indexes without a map in YAML need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.index.foreign import MAX_MAP, map_id, map_text
from shitu_cli.index.store import AGAIN
from shitu_cli.inputs import open_input
from shitu_cli.inputs.pickles import PickleProblem, StandIn, Unfinished, read_pickle_stream


def read_pickle_map(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Read PaddleClas's map: id → the line `path label` of its list, split where its own code splits it."""
    with open_input(file, limit=MAX_MAP, hint=AGAIN) as stream:
        try:
            values = read_pickle_stream(stream, _STAND_INS)
        except PickleProblem as problem:
            raise DataError(f"{file} is not a plain map from numbers to text: {problem}", hint=AGAIN) from None
    if not isinstance(values, dict):
        raise DataError(f"{file} is not a plain map from numbers to text", hint=AGAIN)
    lines = {map_id(key, file): map_text(line, file).split() for key, line in values.items()}
    short = next((number for number, words in lines.items() if len(words) < 2), None)
    if short is not None:
        raise DataError(f"{file} is damaged: item {short} has no path and label", hint=AGAIN)
    return {n: words[1] for n, words in lines.items()}, {n: words[0] for n, words in lines.items()}


def _int64(name: object = None, *options: object) -> Unfinished:
    """Replace numpy's type of a key; its byte order comes in a second step."""
    if name != "i8":
        raise PickleProblem(f"its numbers are of type {name!r}, expected 'i8'")

    def finish(state: Any) -> str:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] != "<":
            raise PickleProblem("its numbers have another byte order")
        return "<i8"

    return Unfinished(finish)


def _scalar(kind: object = None, raw: object = None, *more: object) -> int:
    if kind != "<i8" or not isinstance(raw, bytes) or len(raw) != 8 or more:
        raise PickleProblem("its numbers are damaged")
    return int.from_bytes(raw, "little", signed=True)


# PaddleClas's keys are numpy's int64, whose pickles name two things of numpy.
_STAND_INS = {
    ("numpy", "dtype"): StandIn("numpy.dtype", _int64),
    ("numpy.core.multiarray", "scalar"): StandIn("numpy scalar", _scalar),
    ("numpy._core.multiarray", "scalar"): StandIn("numpy scalar", _scalar),
}
