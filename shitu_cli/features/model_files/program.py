"""What all formats of model files come down to, and the rules that a network has to keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shitu_cli.errors import Command, DataError, Message

HINT: Message = ["run only models that you trust; your own: ", Command("export", "--out", "inference/")]
MAX_OPERATORS = 100_000
_MAX_ELEMENTS = 1 << 31
_MAX_SIZE = 1 << 16
# Attributes that libraries divide by or allocate by, with the least value that makes sense.
_AT_LEAST = {
    "strides": 1,
    "stride": 1,
    "dilations": 1,
    "groups": 1,
    "group": 1,
    "ksize": 1,
    "kernel_size": 1,
    "kernel_shape": 1,
    "num_groups": 1,
    "num": 0,
    "paddings": 0,
    "pads": 0,
}
# Attributes that are shapes, in which -1 and 0 have a meaning.
_SHAPES = frozenset({"shape", "target_shape", "expand_shape"})


@dataclass(frozen=True)
class Operator:
    """One step: its name, its whole-number attributes, and the names of the values that it takes and gives.

    `slots` are the names of the arguments that have a value, in formats that name them.
    """

    name: str
    numbers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    slots: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Program:
    """A network as its file describes it.

    `parameters` are the shapes of the weights by name, in the order of their file; `shapes` those of
    all other values that are declared; `inputs` the names of what is there before the first step.
    """

    operators: Sequence[Operator]
    parameters: Mapping[str, Sequence[int]]
    shapes: Iterable[Sequence[int]] = ()
    inputs: frozenset[str] = frozenset()


class ModelProblem(Exception):
    """A model file is damaged, or holds what no network for features needs."""


def check_program(program: Program, allowed: frozenset[str], purpose: str) -> None:
    """Raise ModelProblem unless a program computes with allowed operators, sound numbers and values that are there."""
    if len(program.operators) > MAX_OPERATORS:
        raise ModelProblem(f"it has more than {MAX_OPERATORS:,} steps")
    if not program.operators:
        raise ModelProblem("it has no steps")
    foreign = sorted({operator.name for operator in program.operators} - allowed)
    if foreign:
        names = ", ".join(repr(name[:40]) for name in foreign[:5])
        raise ModelProblem(f"it holds operators that no network for {purpose} needs: {names}")
    for shape in (*program.parameters.values(), *program.shapes):
        if not all(-1 <= size < _MAX_ELEMENTS for size in shape) or math.prod(map(abs, shape)) > _MAX_ELEMENTS:
            raise ModelProblem(f"it declares a value of the shape {list(shape)[:8]}")
    present = {*program.inputs, *program.parameters}
    for operator in program.operators:
        missing = next((name for name in operator.inputs if name not in present), None)
        if missing is not None:
            raise ModelProblem(f"a step {operator.name} takes {missing[:40]!r}, which nothing before it gives")
        present.update(operator.outputs)
        for name, values in operator.numbers.items():
            _check_numbers(operator.name, name, values)


def refused(file: Path, problem: object) -> DataError:
    """Return the error for a file that is not handed to the library that would run it."""
    return DataError(f"{file} is not loaded: {problem}", hint=HINT)


def _check_numbers(operator: str, name: str, values: Sequence[int]) -> None:
    least = _AT_LEAST.get(name)
    if least is not None and not all(least <= value <= _MAX_SIZE for value in values):
        raise ModelProblem(f"a step {operator} has {name} {list(values)[:8]}")
    if name in _SHAPES:
        sizes = [abs(value) for value in values if value]
        if not all(value >= -1 for value in values) or math.prod(sizes) > _MAX_ELEMENTS:
            raise ModelProblem(f"a step {operator} has the {name} {list(values)[:8]}")
