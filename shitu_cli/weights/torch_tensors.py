"""Stand-ins for what PyTorch's pickles name: descriptions of tensors, until the bytes of their storages are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shitu_cli.inputs.pickles import PickleProblem, StandIn, Unfinished
from shitu_cli.weights.arrays import Budget, shape_of, stand_ins, widen

_BFLOAT16 = "bfloat16"
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
# Records of the training beside the weights, which become None.
_RECORDS = (("argparse", "Namespace"), ("torch", "device"), ("torch.serialization", "_get_layout"))
_CONSTANTS = ("float32", "float16", "bfloat16", "float64", "int64", "strided", "contiguous_format")
_DEPTH = 4


@dataclass(frozen=True)
class StorageType:
    """The type of a storage's elements: a numpy type code, or bfloat16."""

    code: str

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return 2 if self.code == _BFLOAT16 else int(self.code[1])

    def array_of(self, data: bytes) -> np.ndarray:
        """Return the elements [N] in little-endian bytes; bfloat16 as uint16."""
        return np.frombuffer(data, "<u2" if self.code == _BFLOAT16 else np.dtype(self.code).newbyteorder("<"))


@dataclass(frozen=True)
class Storage:
    """A named sequence of `count` elements outside the pickle."""

    key: str
    kind: StorageType
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor in a storage; `offset` and `strides` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, elements: np.ndarray, budget: Budget) -> np.ndarray:
        """Return this part of its storage's elements; raise PickleProblem if it reaches beyond them."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if count and last >= len(elements):
            raise PickleProblem("a tensor in it reaches beyond its storage")
        # With strides of 0, few values stand for many.
        budget.spend(count * (4 if self.storage.kind.code == _BFLOAT16 else elements.itemsize))
        start = elements[self.offset : self.offset + 1] if count else elements[:0]
        strides = tuple(stride * elements.itemsize for stride in self.strides)
        shaped = np.lib.stride_tricks.as_strided(start, self.shape, strides) if count else start.reshape(self.shape)
        return widen(shaped) if self.storage.kind.code == _BFLOAT16 else np.ascontiguousarray(shaped)


def torch_names(budget: Budget) -> dict[tuple[str, str], Any]:
    """Return the stand-ins for everything that PyTorch's pickles name."""
    names = stand_ins(budget)
    names |= {("torch", name): StorageType(code) for name, code in _STORAGES.items()}
    names |= {("torch", name): None for name in _CONSTANTS}
    names |= {path: StandIn(path[1], _record) for path in _RECORDS}
    names["torch", "Size"] = StandIn("torch.Size", lambda sizes=(): tuple(sizes))
    names["torch._utils", "_rebuild_tensor"] = StandIn("_rebuild_tensor", _tensor)
    names["torch._utils", "_rebuild_tensor_v2"] = StandIn("_rebuild_tensor_v2", _tensor)
    names["torch._utils", "_rebuild_parameter"] = StandIn("_rebuild_parameter", _parameter)
    names["torch._utils", "_rebuild_parameter_with_state"] = StandIn("_rebuild_parameter_with_state", _parameter)
    return names


def storage_of(identity: Any) -> Storage:
    """Return the storage that a persistent id describes: ("storage", type, key, device, count[, None])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise PickleProblem("it refers to something other than a storage")
    kind, key, count = identity[1], identity[2], identity[4]
    if not isinstance(kind, StorageType) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise PickleProblem("one of its storages is damaged")
    if len(identity) == 6 and identity[5] is not None:
        raise PickleProblem("its storages are parts of others, as PyTorch before 0.4 wrote them: save it again")
    return Storage(key, kind, count)


def resolve(values: Any, load: Callable[[Storage], bytes], budget: Budget) -> Any:
    """Return `values` with arrays in the place of tensors, in dicts up to four deep; each storage is loaded once."""
    storages: dict[str, np.ndarray] = {}

    def visit(value: Any, depth: int) -> Any:
        if isinstance(value, TensorView):
            storage = value.storage
            if storage.key not in storages:
                storages[storage.key] = storage.kind.array_of(load(storage))
            elements = storages[storage.key]
            if len(elements) != storage.count or elements.itemsize != storage.kind.size:
                raise PickleProblem("one of its storages has two types")
            return value.of(elements, budget)
        if isinstance(value, dict) and depth < _DEPTH:
            return {key: visit(item, depth + 1) for key, item in value.items()}
        return value

    return visit(values, 0)


def _tensor(storage: object, offset: object, shape: object, strides: object, *_rest: object) -> TensorView:
    if not isinstance(storage, Storage) or type(offset) is not int or not 0 <= offset < 1 << 48:
        raise PickleProblem("a tensor in it is damaged")
    sizes, steps = shape_of(shape), shape_of(strides)
    if len(sizes) != len(steps):
        raise PickleProblem("a tensor in it is damaged: its shape and strides differ in length")
    return TensorView(storage, offset, sizes, steps)


def _parameter(tensor: object, *_rest: object) -> TensorView:
    if not isinstance(tensor, TensorView):
        raise PickleProblem("a parameter in it is not a tensor")
    return tensor


def _record(*_arguments: Iterable[Any]) -> Unfinished:
    return Unfinished(lambda _state: None)
