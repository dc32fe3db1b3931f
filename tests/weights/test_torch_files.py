"""PyTorch's two formats, written here by hand: read without PyTorch to the right values; hostile ones are refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.weights.files import read_state, read_weights
from tests.mutations import at_least, mutations
from tests.weights.damaged import give_arrays_or_a_data_error

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Global:
    """Pickles as a name, of a module that need not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    def __init__(self, function: _Global, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state


class _Storage:
    def __init__(self, kind: str, key: str, count: int, *more: Any) -> None:
        self.identity = ("storage", _Global("torch", kind), key, "cpu", count, *more)


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Python's own pickler, which can write names of modules that are not installed."""

    def persistent_id(self, value: Any) -> Any:
        return value.identity if isinstance(value, _Storage) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Global):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
            if value.state is not None:
                self.save(value.state)
                self.write(b"b")
        else:
            super().save(value, save_persistent_id)


def _pickled(value: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def _tensor(
    kind: str, key: str, count: int, shape: tuple[int, ...], offset: int = 0, strides: tuple[int, ...] | None = None
) -> _Call:
    if strides is None:
        strides = tuple(int(np.prod(shape[n + 1 :])) for n in range(len(shape)))
    storage = _Storage(kind, key, count)
    hooks = _Call(_Global("collections", "OrderedDict"))
    return _Call(_Global("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, hooks)


def _zip(value: Any, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED, **parts: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else _pickled(value))
        for name, data in {"byteorder": b"little", "version": b"3\n", **parts}.items():
            archive.writestr(f"archive/{name}", data)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return stream.getvalue()


def _sequence(value: Any, storages: dict[str, tuple[int, bytes]], *, magic: int = _MAGIC, little: bool = True) -> bytes:
    machine = {"protocol_version": _PROTOCOL, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    begin = [_pickled(part) for part in (magic, _PROTOCOL, machine, value, list(storages))]
    return b"".join(begin) + b"".join(count.to_bytes(8, "little") + data for count, data in storages.values())


_VALUES = np.arange(24, dtype="<f4")
_TENSORS = {
    "float": _tensor("FloatStorage", "0", 24, (2, 3, 4)),
    "part": _tensor("FloatStorage", "0", 24, (2, 2), offset=5),
    "transposed": _tensor("FloatStorage", "0", 24, (4, 6), strides=(1, 4)),
    "half": _tensor("HalfStorage", "1", 3, (3,)),
    "bfloat16": _tensor("BFloat16Storage", "2", 2, (2,)),
    "count": _tensor("LongStorage", "3", 1, ()),
    "empty": _tensor("FloatStorage", "0", 24, (0, 5)),
    "parameter": _Call(_Global("torch._utils", "_rebuild_parameter"), _tensor("BoolStorage", "4", 2, (2,)), True, None),
}
_DATA = {
    "0": _VALUES.tobytes(),
    "1": np.array([1, -2, 0.5], "<f2").tobytes(),
    "2": (np.array([1.5, -3.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes(),
    "3": np.array([7], "<i8").tobytes(),
    "4": b"\0\1",
}
_COUNTS = {"0": 24, "1": 3, "2": 2, "3": 1, "4": 2}
_COUNTED = {key: (_COUNTS[key], data) for key, data in _DATA.items()}
EXPECTED = {
    "float": _VALUES.reshape(2, 3, 4),
    "part": _VALUES[5:9].reshape(2, 2),
    "transposed": _VALUES.reshape(6, 4).T,
    "half": np.array([1, -2, 0.5], "f2"),
    "bfloat16": np.array([1.5, -3.0], "f4"),
    "count": np.array(7),
    "empty": np.zeros((0, 5), "f4"),
    "parameter": np.array([False, True]),
}
_STATE = _Call(_Global("collections", "OrderedDict"), state={"_metadata": {"": {"version": 1}}})


def _checkpoint(tensors: Any) -> dict[str, Any]:
    options = _Call(_Global("argparse", "Namespace"), state={"lr": 0.1})
    device = _Call(_Global("torch", "device"), "cpu")
    return {"epoch": 3, "args": options, "device": device, "state_dict": tensors, "optimizer": {"state": {}}}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("form", ["zip", "sequence"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_tensors_come_back_as_they_were(tmp_path: Path, form: str, nested: bool, suffix: str) -> None:
    value = _checkpoint(_TENSORS) if nested else _TENSORS
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(_zip(value, _DATA) if form == "zip" else _sequence(value, _COUNTED))
    weights = read_weights(path)
    assert weights.arrays.keys() == EXPECTED.keys()
    for name, expected in EXPECTED.items():
        assert weights.arrays[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(weights.arrays[name], expected)
    assert weights.remarks == (("took the weights under 'state_dict' of " + path.name,) if nested else ())


def _one(*arguments: Any, **options: Any) -> bytes:
    return _zip({"w": _tensor(*arguments, **options)}, _DATA)


def _called(module: str, name: str, *arguments: Any) -> _Call:
    return _Call(_Global(module, name), *arguments)


def _forged_size() -> bytes:
    """An archive whose directory says that a storage has 4 GB."""
    data = _zip({"w": _tensor("FloatStorage", "0", 24, (24,))}, {"0": _DATA["0"]})
    at = data.rindex(b"archive/data/0") - 46 + 24
    return data[:at] + (0xFFFFFFF0).to_bytes(4, "little") + data[at + 4 :]


HOSTILE = {
    "a command": _zip({"w": _called("posix", "system", "touch owned")}, _DATA),
    "a command in the older format": _sequence({"w": _called("posix", "system", "touch owned")}, {}),
    "a command in its first pickle": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.cposix\nsystem\n(Vtouch owned\ntR.",
    "a torch function": _zip({"w": _called("torch", "load", "owned")}, _DATA),
    "bytes that torch would load": _zip({"w": _called("torch.storage", "_load_from_bytes", b"x")}, _DATA),
    "a missing storage": _one("FloatStorage", "9", 24, (24,)),
    "a storage outside of the archive": _one("FloatStorage", "../../../etc/passwd", 24, (24,)),
    "a storage of another size": _one("FloatStorage", "0", 23, (23,)),
    "a storage of another type": _one("DoubleStorage", "0", 24, (24,)),
    "a storage of two types": _zip(
        {"a": _tensor("FloatStorage", "0", 24, (24,)), "b": _tensor("HalfStorage", "0", 48, (48,))}, _DATA
    ),
    "a shape beyond its storage": _one("FloatStorage", "0", 24, (25,)),
    "an offset beyond its storage": _one("FloatStorage", "0", 24, (4,), offset=21),
    "a negative offset": _one("FloatStorage", "0", 24, (4,), offset=-4),
    "negative strides": _one("FloatStorage", "0", 24, (4,), offset=4, strides=(-1,)),
    "huge strides": _one("FloatStorage", "0", 24, (2,), strides=(1 << 62,)),
    "one value as a terabyte": _one("FloatStorage", "0", 24, (1 << 20, 1 << 20), strides=(0, 0)),
    "strides of another length": _one("FloatStorage", "0", 24, (4,), strides=(1, 1)),
    "a shape of text": _one("FloatStorage", "0", 24, ("4",), strides=(1,)),  # type: ignore[arg-type]
    "a storage that is no storage": _zip({"w": _called("torch._utils", "_rebuild_tensor_v2", 1, 0, (1,), (1,))}, {}),
    "a parameter that is no tensor": _zip({"w": _called("torch._utils", "_rebuild_parameter", 1)}, {}),
    "a persistent id of another kind": _zip(b"Vx\nQ.", _DATA),
    "a count that is no number": _zip({"w": _Storage("FloatStorage", "0", "1" * 9)}, _DATA),  # type: ignore[arg-type]
    "a compressed storage": _zip(_TENSORS, _DATA, zipfile.ZIP_DEFLATED),
    "a forged size": _forged_size(),
    "another byte order": _zip(_TENSORS, _DATA, byteorder=b"big"),
    "no data.pkl": _zip(_TENSORS, _DATA).replace(b"data.pkl", b"data.txt"),
    "a list": _zip([1], _DATA),
    "no weights": _zip({"epoch": 1}, _DATA),
    "several tables": _zip({"a": _TENSORS, "b": _TENSORS}, _DATA),
    "an older file that is cut off": _sequence(_TENSORS, _COUNTED)[:-3],
    "an older file with huge counts": _sequence(_TENSORS, {**_COUNTED, "0": (1 << 62, _DATA["0"])}),
    "an older file without a storage": _sequence(_TENSORS, {"1": _COUNTED["1"]}),
    "an older file with a doubled storage": _sequence(_TENSORS, _COUNTED).replace(b"X\1\0\0\0001", b"X\1\0\0\0000"),
    "an older file of another byte order": _sequence(_TENSORS, _COUNTED, little=False),
    "views of views": _sequence({"w": _Storage("FloatStorage", "0", 24, ("x", 0, 24))}, _COUNTED),
    "an empty archive": b"PK\x05\x06" + bytes(18),
    "the begin of an archive": _zip(_TENSORS, _DATA)[:100],
    "an archive of nothing": b"PK\x03\x04",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=str(path)):
        read_state(path)
    assert not (tmp_path / "owned").exists()


def test_the_same_files_without_what_is_hostile_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(_one("FloatStorage", "0", 24, (4,), offset=20))
    np.testing.assert_array_equal(read_state(tmp_path / "weights")["w"], _VALUES[20:])
    (tmp_path / "weights.pth").write_bytes(_sequence(_TENSORS, _COUNTED))
    assert read_state(tmp_path / "weights").keys() == EXPECTED.keys()


@pytest.mark.fuzz
@pytest.mark.parametrize("form", ["zip", "sequence"])
def test_damaged_files_give_arrays_or_a_data_error(tmp_path: Path, form: str) -> None:
    value = _checkpoint(_TENSORS)
    path = tmp_path / "weights.pth"
    whole = _zip(value, _DATA) if form == "zip" else _sequence(value, _COUNTED)
    give_arrays_or_a_data_error(path, mutations(whole, at_least(200)))
