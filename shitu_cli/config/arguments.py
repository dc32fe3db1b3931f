"""What the options of commands and the arguments of functions accept, in one place for both."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

from shitu_cli.config.kinds import Misfit, Number, Range
from shitu_cli.errors import UsageError
from shitu_cli.inputs import StrPath

SHARE = Number(False, Range(0.01, 0.9))  # of the images or classes, kept for evaluation
DEPTH = Number(True, Range(1, 20))  # folders that name a class
SEED = Number(True, Range(0, 2**32 - 1))
FOLDS = Number(True, Range(2, 20))  # trainings, each without some of the classes
EXPANSION = Number(True, Range(0, 1000))  # neighbours that a query is moved towards
VIEWS = Number(True, Range(1, 64))  # of each image, from which `train --frozen` learns
PORTION = Number(False, Range(0.0, 1.0))
COSINE = Number(False, Range(-1.0, 1.0))
RECALL = Number(False, Range(0.1, 1.0))  # of the true neighbours, which an approximate index must find
COUNT = Number(True, Range(1))
NATURAL = Number(True, Range(0))
USUAL_VIEWS = 3
CLOSED_FORM, TRAINED = NECKS = ("closed-form", "trained")  # how `train --frozen` learns a projection


def require(kind: Number, **arguments: object) -> None:
    """Raise UsageError for an argument, passed by its name, that is not a number of this kind; None is skipped."""
    for name, value in arguments.items():
        if value is None:
            continue
        plain = value.item() if hasattr(value, "item") else value  # of numpy
        try:
            if not kind.fits(plain) or (kind.whole and not isinstance(plain, int)):  # range(4.0) is an error
                raise Misfit
            kind.convert(plain)
        except Misfit:
            raise UsageError(f"{name}={value!r}: expected {kind}") from None


def require_flags(**arguments: object) -> None:
    """Raise UsageError for an argument, passed by its name, that is neither True nor False: any text would be true."""
    for name, value in arguments.items():
        if not isinstance(value.item() if hasattr(value, "item") else value, bool):  # of numpy
            raise UsageError(f"{name}={value!r}: expected True or False")


def require_config(config: object) -> None:
    """Raise UsageError for what is not a config, such as the path of its file."""
    from shitu_cli.config.schema import Config  # not needed where there is none, as in most searches

    if not isinstance(config, Config):
        shown = repr(config)[:60]
        raise UsageError(f"expected a config, got {shown}", hint="read it: load_config('work/shitu.yaml')")


def whole_ids(ids: Iterable[int] | int) -> list[int]:
    """Return the ids of items as a list; a single one counts as a list of one. Raises UsageError for anything else."""
    values: list[Any] = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, (str, bytes)) else [ids]
    plain = [value.item() if hasattr(value, "item") else value for value in values]  # of numpy
    for value in plain:
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise UsageError(f"id {value!r}: expected a whole number of at least 0")
    return plain


def several(values: StrPath | Collection[StrPath]) -> list[str]:
    """Return texts or paths as a list; a single one counts as a list of one, and is not taken apart into letters."""
    return [os.fspath(value) for value in ([values] if isinstance(values, (str, os.PathLike)) else values)]
