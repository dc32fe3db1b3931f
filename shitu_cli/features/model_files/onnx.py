"""Read an ONNX file: ModelProto, a Protocol Buffers message (onnx/onnx.proto)."""

from __future__ import annotations

import math

from shitu_cli.features.model_files.messages import nested, text_of, whole_numbers
from shitu_cli.features.model_files.program import ModelProblem, Operator, Program
from shitu_cli.inputs.protobuf import fields

# Numbers of fields.
_GRAPH, _OPSETS, _TRAINING, _FUNCTIONS = 7, 8, 20, 25
_NODES, _INITIALIZERS, _INPUTS, _SPARSE = 1, 5, 11, 15
_NODE_INPUTS, _NODE_OUTPUTS, _NODE_TYPE, _NODE_ATTRIBUTES, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _WHOLE, _TENSOR, _WHOLES, _TENSORS = 1, 3, 5, 8, 10
_GRAPHS = (6, 11, 22, 23)  # graphs and sparse tensors inside of attributes
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_DOMAINS = ("", "ai.onnx")
_DECLARED = (*_DOMAINS, "Paddle")  # paddle2onnx declares its own, whether or not a step is of it
# Bytes of an element by ONNX's number of its type.
_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


def read_onnx(data: bytes) -> Program:
    """Return the graph in the bytes of an ONNX file.

    Raises ModelProblem for operators of other domains, functions, data outside of the file and graphs inside of steps,
    ProtobufProblem if it is damaged.
    """
    graphs = []
    for number, part in nested(memoryview(data)):
        if number == _GRAPH:
            graphs.append(part)
        elif number in (_TRAINING, _FUNCTIONS):
            raise ModelProblem("it contains functions or a training loop")
        elif number == _OPSETS:
            domain = next((text_of(value) for inner, value in nested(part) if inner == 1), "")
            if domain not in _DECLARED:
                raise ModelProblem(f"it needs operators of the domain {domain[:40]!r}")
    if len(graphs) != 1:
        raise ModelProblem(f"it has {len(graphs)} graphs")
    operators, weights, inputs = [], {}, []
    for number, part in nested(graphs[0]):
        if number == _NODES:
            operators.append(_node(part))
        elif number == _INITIALIZERS:
            name, shape = _tensor(part)
            weights[name] = shape
        elif number == _INPUTS:
            inputs += [text_of(value) for inner, value in nested(part) if inner == 1]
        elif number == _SPARSE:
            raise ModelProblem("it holds sparse weights")
    return Program(operators, weights, inputs=frozenset(inputs))


def _node(message: memoryview) -> Operator:
    name, domain, numbers = "", "", {}
    inputs: list[str] = []
    outputs: list[str] = []
    for number, part in nested(message):
        if number == _NODE_INPUTS:
            inputs.append(text_of(part))
        elif number == _NODE_OUTPUTS:
            outputs.append(text_of(part))
        elif number == _NODE_TYPE:
            name = text_of(part)
        elif number == _NODE_DOMAIN:
            domain = text_of(part)
        elif number == _NODE_ATTRIBUTES:
            attribute, values = _attribute(part)
            numbers[attribute] = values
    if domain not in _DOMAINS:
        raise ModelProblem(f"its step {name[:40]!r} is of the domain {domain[:40]!r}")
    # An empty name means that an optional input is absent.
    return Operator(name, numbers, [value for value in inputs if value], outputs)


def _attribute(message: memoryview) -> tuple[str, list[int]]:
    name, values = "", list[int]()
    for number, kind, value in fields(message):
        if number in _GRAPHS:
            raise ModelProblem("one of its steps contains a graph (a loop or a branch)")
        if number == _ATTRIBUTE_NAME and isinstance(value, memoryview):
            name = text_of(value)
        elif number in (_TENSOR, _TENSORS) and isinstance(value, memoryview):
            _tensor(value)
        elif number in (_WHOLE, _WHOLES):
            values.extend(whole_numbers(kind, value))
    return name, values


def _tensor(message: memoryview) -> tuple[str, list[int]]:
    """Return name and shape of weights; raises ModelProblem if they are elsewhere or have another size."""
    name, shape, raw, width = "", list[int](), None, None
    for number, kind, value in fields(message):
        if number == _EXTERNAL or (number == _LOCATION and value):
            raise ModelProblem("its weights are in another file")
        if number == _DIMS:
            shape.extend(whole_numbers(kind, value))
        elif number == _TYPE and isinstance(value, int):
            width = _WIDTHS.get(value)
        elif number == _NAME and isinstance(value, memoryview):
            name = text_of(value)
        elif number == _RAW and isinstance(value, memoryview):
            raw = len(value)
    if width is None or not all(0 <= size < 1 << 40 for size in shape):
        raise ModelProblem(f"its weights {name[:40]!r} are damaged or of an unknown type")
    if raw is not None and raw != width * math.prod(shape):
        raise ModelProblem(f"its weights {name[:40]!r} have {raw} bytes for the shape {shape[:8]}")
    return name, shape
