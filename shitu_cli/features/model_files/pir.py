"""Read an `inference.json`: Paddle's newer program, whose operators carry the number of their dialect."""

from __future__ import annotations

from typing import Any

from shitu_cli.features.model_files.program import ModelProblem, Operator, Program

_PARAMETER = "p"


def read_pir(values: Any) -> Program:
    """Return the program of a parsed inference.json; raises ModelProblem if it is not built as Paddle builds one."""
    block = _only(_only(_member(values, "program", dict).get("regions")).get("blocks"))
    if _member(values, "base_code", dict).get("magic") != "pir":
        raise ModelProblem("it is not a program of Paddle")
    if block.get("args"):
        raise ModelProblem("its block has arguments")
    operators, parameters, shapes = [], {}, []
    for step in _member(block, "ops", list):
        operator, of_outputs = _operator(step)
        operators.append(operator)
        shapes += of_outputs
        if operator.name == _PARAMETER:
            name = next((text for text in _member(step, "A", list) if isinstance(text, str)), None)
            if name is None or len(of_outputs) != 1:
                raise ModelProblem("one of its weights has no name or no shape")
            parameters[name] = of_outputs[0]
    ordered = dict(sorted(parameters.items(), key=lambda item: item[0].encode("utf-8", "backslashreplace")))
    return Program(operators, ordered, shapes)


def _operator(step: Any) -> tuple[Operator, list[list[int]]]:
    """Return a step and the shapes of what it gives."""
    name = _member(step, "#", str)
    if "regions" in step:
        raise ModelProblem(f"its step {name[:40]!r} contains a program (a loop or a branch)")
    outputs = step.get("O", [])
    outputs = [outputs] if isinstance(outputs, dict) else outputs
    inputs = _list(step.get("I", []))
    numbers = {}
    if name != _PARAMETER:
        for attribute in (*_member(step, "A", list), *_list(step.get("OA", []))):
            numbers[_member(attribute, "N", str)] = _numbers(_member(attribute, "AT", dict))
    names = [str(_member(value, "%", int)) for value in inputs]
    results = [str(_member(value, "%", int)) for value in _list(outputs)]
    shapes = [shape for value in _list(outputs) for shape in _shapes(value.get("TT"))]
    # An operand 0 means that an optional input is absent.
    return Operator(name, numbers, [value for value in names if value != "0"], results), shapes


def _numbers(attribute: dict[str, Any]) -> list[int]:
    kind, data = _member(attribute, "#", str), attribute.get("D")
    if kind == "0.a_array":
        return [number for item in _list(data) for number in _numbers(_as(item, dict))]
    values = data if isinstance(data, list) else [data]
    return [value for value in values if type(value) is int]


def _shapes(kind: Any) -> list[list[int]]:
    """Return the shape that a type describes; several for a list of tensors, none for an absent value."""
    if kind is None or (isinstance(kind, dict) and kind.get("#") in ("NULL", "0.t_null")):
        return []
    name, data = _member(kind, "#", str), kind.get("D")
    if name == "0.t_vec":
        return [shape for item in _list(data) for shape in _shapes(item)]
    shape = _list(_list(data)[1]) if isinstance(data, list) and len(data) > 1 else None
    if shape is None or not all(type(size) is int for size in shape):
        raise ModelProblem(f"it holds a value of another kind than tensors ({name[:40]!r})")
    return [shape]


def _only(values: Any) -> dict[str, Any]:
    if not isinstance(values, list) or len(values) != 1:
        raise ModelProblem("it has several blocks of steps or none: loops and conditions are not run")
    return _as(values[0], dict)


def _member(values: Any, key: str, kind: type[Any]) -> Any:
    return _as(_as(values, dict).get(key), kind)


def _list(value: Any) -> list[Any]:
    return _as(value, list)


def _as(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise ModelProblem(f"it is damaged: found {type(value).__name__} where {kind.__name__} is expected")
    return value
