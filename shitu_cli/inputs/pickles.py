"""Read pickles that somebody else wrote, with an interpreter that cannot call anything.

A pickle is a program. Python's own interpreter calls what the program names, and even with a list of allowed names a
file can do harm: by sizes and memo numbers that take all memory, by methods of the allowed classes, by hashes of
tuples nested a million deep. This interpreter only knows plain values. A name in a pickle is replaced by a value that
the caller provides; any other name is refused before it could run.
"""

from __future__ import annotations

import os
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

MAX_OPERATIONS = 20_000_000
_LONGEST_LINE = 1 << 16
_KEY_TYPES = (str, bytes, int, float, bool, type(None))

_EMPTY: dict[str, Callable[[], object]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
# Operations that push the value that follows them.
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_SIMPLE = frozenset((*_NUMBERS, *_TEXTS, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Instances, registered extensions, buffers outside of the file, and text with Python's escapes.
_REFUSED = frozenset(
    ("INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER", "STRING")
)
_PUT = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])
_GET = frozenset(["GET", "BINGET", "LONG_BINGET"])


class PickleProblem(Exception):
    """The pickle is damaged, too large, or asks for more than plain values."""


@dataclass(frozen=True)
class StandIn:
    """Replaces a class or function that a pickle names: `make` receives the arguments of the call."""

    name: str
    make: Callable[..., Any]


@dataclass
class Unfinished:
    """A value that a pickle completes in a second step; `finish` receives the state and returns the value."""

    finish: Callable[[Any], Any]
    _memo: list[int] = field(default_factory=list)


class _Bounded:
    """The part of a stream up to `end`, as pickletools reads it; a size beyond the end fails at once."""

    def __init__(self, stream: BinaryIO, end: int) -> None:
        self._stream, self._left = stream, end - stream.tell()

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise PickleProblem("it is cut off")
        self._left -= size
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline(min(_LONGEST_LINE, self._left))
        self._left -= len(line)
        return line


def read_pickle_stream(
    stream: BinaryIO,
    stand_ins: Mapping[tuple[str, str], Any],
    *,
    persistent: Callable[[Any], Any] | None = None,
    max_operations: int = MAX_OPERATIONS,
) -> Any:
    """Read one pickle of plain values (numbers, text, bytes, lists, tuples, dicts) from the position of a stream.

    Args:
        stream: A seekable binary stream; afterwards it is at the end of the pickle.
        stand_ins: (module, name) → the value to use for it. Only a StandIn may be called.
        persistent: Returns the value of a persistent id (PyTorch's storages); None refuses them.
        max_operations: The largest number of steps.

    Sets become lists, OrderedDicts dicts. Raises PickleProblem for anything else.
    """
    start = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(start)
    machine = _Machine(stand_ins, persistent)
    bounded = _Bounded(stream, end)
    try:
        for _ in range(max_operations):
            operation = _OPERATIONS.get(bounded.read(1).decode("latin-1"))
            if operation is None or operation.name in _REFUSED:
                name = operation.name if operation else "something"
                raise PickleProblem(f"it uses {name}, which plain values do not need")
            argument = None
            if operation.name == "GLOBAL":  # pickletools would interpret escapes in the names
                argument = (_line(bounded), _line(bounded))
            elif operation.arg is not None:
                argument = operation.arg.reader(bounded)  # type: ignore[arg-type]
            if operation.name == "STOP":
                break
            machine.step(operation.name, argument)
        else:
            raise PickleProblem(f"it takes more than {max_operations:,} steps")
        return machine.result()
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError, EOFError) as problem:
        # What damaged bytes lead to: an unknown operation, an empty stack, a value of another type than is needed.
        raise PickleProblem(f"it is damaged ({problem or type(problem).__name__})") from None


class _Machine:
    def __init__(self, stand_ins: Mapping[tuple[str, str], Any], persistent: Callable[[Any], Any] | None) -> None:
        self._stand_ins, self._persistent = stand_ins, persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise PickleProblem("it is damaged (it ends with more than one value)")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _SIMPLE:
            stack.append(argument)
        elif name in _PUT:
            self._remember(int(argument))
        elif name == "MEMOIZE":
            self._remember(len(self._memo))
        elif name in _GET:
            stack.append(self._memo[int(argument)])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "EMPTY_SET":
            stack.append([])
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise PickleProblem("it is damaged (too few values)")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            getattr(self, f"_{name.lower()}")(argument)

    def _remember(self, slot: int) -> None:
        value = self._stack[-1]
        if isinstance(value, Unfinished):
            value._memo.append(slot)
        self._memo[slot] = value

    def _above_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._above_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._above_mark()))

    def _list(self, _: Any) -> None:
        self._stack.append(self._above_mark())

    def _frozenset(self, _: Any) -> None:
        self._stack.append(self._above_mark())

    def _dict(self, _: Any) -> None:
        values: dict[Any, Any] = {}
        _set_items(values, self._above_mark())
        self._stack.append(values)

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        self._target(list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._above_mark()
        self._target(list).extend(values)

    _additems = _appends

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        _set_items(self._target(dict), [key, value])

    def _setitems(self, _: Any) -> None:
        values = self._above_mark()
        _set_items(self._target(dict), values)

    def _target(self, kind: type[Any]) -> Any:
        target = self._stack[-1]
        if type(target) is not kind:
            raise PickleProblem(f"it is damaged (it fills a {type(target).__name__} like a {kind.__name__})")
        return target

    def _global(self, names: tuple[str, str]) -> None:
        self._name(*names)

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)) or (module, name) not in self._stand_ins:
            raise PickleProblem(f"it wants to use {str(module)[:80]}.{str(name)[:80]}, which plain data does not need")
        self._stack.append(self._stand_ins[module, name])

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, StandIn) or not isinstance(arguments, tuple):
            _refuse_call(function)
        self._stack.append(function.make(*arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        state, value = self._stack.pop(), self._stack[-1]
        if type(value) is dict:
            return  # attributes of an OrderedDict, which no plain dict has: PyTorch's _metadata
        if not isinstance(value, Unfinished):
            _refuse_call(value)
        finished = value.finish(state)
        self._stack[-1] = finished
        for slot in value._memo:
            self._memo[slot] = finished

    def _binpersid(self, _: Any) -> None:
        if self._persistent is None:
            raise PickleProblem("it refers to data outside of itself")
        self._stack.append(self._persistent(self._stack.pop()))


def _line(stream: _Bounded) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise PickleProblem("it is cut off")
    return line[:-1].decode("utf-8")


def _set_items(target: dict[Any, Any], items: list[Any]) -> None:
    if len(items) % 2:
        raise PickleProblem("it is damaged (a key without a value)")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Hashing nested tuples recurses in C, without bound.
        if not isinstance(key, _KEY_TYPES):
            raise PickleProblem(f"it uses a {type(key).__name__} as a key")
        target[key] = value


def _refuse_call(value: Any) -> NoReturn:
    raise PickleProblem(f"it wants to call a {type(value).__name__}")
