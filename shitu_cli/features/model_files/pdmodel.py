"""Read a `.pdmodel`: Paddle's ProgramDesc, a Protocol Buffers message (paddle/fluid/framework/framework.proto)."""

from __future__ import annotations

from collections.abc import Iterator

from shitu_cli.features.model_files.messages import nested, text_of, whole_numbers
from shitu_cli.features.model_files.program import ModelProblem, Operator, Program
from shitu_cli.inputs.protobuf import fields

# Numbers of fields.
_BLOCKS = 1
_VARIABLES, _OPERATORS = 3, 4
_INPUTS, _OUTPUTS, _TYPE, _ATTRIBUTES = 1, 2, 3, 4
_NAME = 1
_WHOLE, _WHOLES, _LONG, _LONGS = 3, 6, 13, 15
_INNER_BLOCKS = (12, 14)
_VARIABLE_TYPE, _PERSISTABLE, _DENSE = 2, 3, 3
_FEED, _FETCH, _RAW, _DENSE_TENSOR = 9, 10, 17, 7
# Arguments without which Paddle follows a null pointer, by operator; "X" for all others.
_SLOTS = {
    slot_names: operators.split()
    for slot_names, operators in {
        "": "assign assign_value fill_constant",
        "Input": "fill_constant_batch_size_like shape slice strided_slice",
        "Input Filter": "conv2d conv2d_transpose depthwise_conv2d depthwise_conv2d_transpose",
        "X Y": """
            bmm matmul matmul_v2 mul elementwise_add elementwise_sub elementwise_mul elementwise_div elementwise_pow
            elementwise_floordiv elementwise_max elementwise_min equal not_equal less_than less_equal greater_than
            greater_equal logical_and logical_or
        """,
        "X Index": "gather gather_nd index_select",
        "X Scale Bias Mean Variance": "batch_norm sync_batch_norm",
        "X Alpha": "prelu",
        "Condition X Y": "where",
        "Start End Step": "range",
        "Ids W": "lookup_table_v2",
        "Input W": "fc",
        "BBoxes Scores": "matrix_nms multiclass_nms3",
        "X ImgSize": "yolo_box",
        "Condition": "where_index",
    }.items()
}
_REQUIRED = {name: frozenset(slots.split()) for slots, names in _SLOTS.items() for name in names}
_DEFAULT = frozenset({"X"})


def read_pdmodel(data: bytes) -> Program:
    """Return the program in the bytes of a .pdmodel.

    Raises ModelProblem for one with loops or conditions, ProtobufProblem if the bytes are damaged.
    """
    blocks = [part for number, part in nested(memoryview(data)) if number == _BLOCKS]
    if len(blocks) != 1:
        raise ModelProblem(f"it has {len(blocks)} blocks of steps: loops and conditions are not run")
    operators, parameters, shapes, inputs, declared = [], {}, [], [], set()
    for number, part in nested(blocks[0]):
        if number == _OPERATORS:
            operators.append(_operator(part))
        elif number == _VARIABLES:
            name, kind, persistable, shape = _variable(part)
            if kind in (_FEED, _FETCH, _RAW):
                inputs.append(name)
            elif kind != _DENSE_TENSOR:
                raise ModelProblem(f"it holds a variable of another kind than tensors ({kind})")
            elif persistable:
                parameters[name] = shape
            else:
                shapes.append(shape)
            declared.add(name)
    for operator in operators:
        unknown = next((name for name in operator.outputs if name not in declared), None)
        if unknown is not None:
            raise ModelProblem(f"a step {operator.name} gives {unknown[:40]!r}, which is not declared")
        absent = _REQUIRED.get(operator.name, _DEFAULT) - operator.slots
        if absent:
            raise ModelProblem(f"a step {operator.name} lacks its {', '.join(sorted(absent))}")
    # Paddle reads the weights in the order of their names.
    ordered = dict(sorted(parameters.items(), key=lambda item: item[0].encode()))
    return Program(operators, ordered, shapes, frozenset(inputs))


def _operator(message: memoryview) -> Operator:
    name, numbers = "", {}
    inputs: list[str] = []
    outputs: list[str] = []
    slots: set[str] = set()
    for number, part in nested(message):
        if number == _TYPE:
            name = text_of(part)
        elif number == _ATTRIBUTES:
            attribute, values = _attribute(part)
            numbers[attribute] = values
        elif number in (_INPUTS, _OUTPUTS):
            names = [text_of(value) for inner, value in nested(part) if inner == 2]
            (inputs if number == _INPUTS else outputs).extend(names)
            if number == _INPUTS and names:
                slots.update(text_of(value) for inner, value in nested(part) if inner == 1)
    return Operator(name, numbers, inputs, outputs, frozenset(slots))


def _attribute(message: memoryview) -> tuple[str, list[int]]:
    name, values = "", list[int]()
    for number, kind, value in fields(message):
        if number in _INNER_BLOCKS:
            raise ModelProblem("one of its steps contains a program (a loop or a branch)")
        if number == _NAME and isinstance(value, memoryview):
            name = text_of(value)
        elif number in (_WHOLE, _WHOLES, _LONG, _LONGS):
            values.extend(whole_numbers(kind, value))
    return name, values


def _variable(message: memoryview) -> tuple[str, int, bool, list[int]]:
    name, kind, persistable, shape = "", _DENSE_TENSOR, False, []
    for number, _, value in fields(message):
        if number == _NAME and isinstance(value, memoryview):
            name = text_of(value)
        elif number == _PERSISTABLE and isinstance(value, int):
            persistable = bool(value)
        elif number == _VARIABLE_TYPE and isinstance(value, memoryview):
            for inner, _, part in fields(value):
                if inner == 1 and isinstance(part, int):
                    kind = part
                elif inner == _DENSE and isinstance(part, memoryview):
                    shape = [
                        size for tensor_field, tensor in nested(part) if tensor_field == 1 for size in _dims(tensor)
                    ]
    return name, kind, persistable, shape


def _dims(message: memoryview) -> Iterator[int]:
    for number, kind, value in fields(message):
        if number == 2:
            yield from whole_numbers(kind, value)
