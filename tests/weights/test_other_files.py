"""safetensors and numpy's archives: hostile headers are refused before memory is taken for what they describe."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from shitu_cli.errors import DataError
from shitu_cli.weights.files import read_state, read_weights, without_prefixes
from tests.mutations import at_least, mutations
from tests.weights.damaged import give_arrays_or_a_data_error

_STATE = {
    "w": np.arange(6, dtype="f4").reshape(2, 3),
    "half": np.ones(3, "f2"),
    "count": np.array(7),
    "truth": np.array([True, False]),
    "empty": np.zeros((0, 3), "f4"),
}


def _safetensors(header: Any, data: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _entry(**changes: Any) -> bytes:
    return _safetensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}})


SAFETENSORS = {
    "a header longer than the file": (1 << 62).to_bytes(8, "little") + b"{}",
    "no header": b"\0\0\0",
    "no JSON": _safetensors(b"nonsense"),
    "a list": _safetensors([]),
    "deep JSON": _safetensors(b"[" * 100_000),
    "no text": _safetensors(b"\xff"),
    "an entry that is no table": _safetensors({"w": 1}),
    "an unknown type": _entry(dtype="F8_E4M3"),
    "a type that is no text": _entry(dtype=["F32"]),
    "a shape of text": _entry(shape=["2"]),
    "a shape of truth": _entry(shape=[True, 2]),
    "a fraction of a size": _entry(shape=[2.0]),
    "a negative shape": _entry(shape=[-2]),
    "a huge shape": _entry(shape=[1 << 40, 1 << 40]),
    "a huge empty shape": _entry(shape=[0, *[(1 << 48) - 1] * 4], data_offsets=[0, 0]),
    "an end before the begin": _entry(data_offsets=[8, 0]),
    "negative places": _entry(data_offsets=[-8, 0]),
    "places beyond the end": _entry(data_offsets=[8, 16]),
    "three places": _entry(data_offsets=[0, 8, 8]),
    "bytes that nothing describes": _entry() + b"more",
    "overlapping arrays": _safetensors(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("a", "b")}
    ),
    "cut off": _entry()[:-1],
    "nothing in it": _safetensors({}, b""),
}


def _npz(name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def _npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def _header(text: str, data: bytes = bytes(8)) -> bytes:
    return _npz("w.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + data)


NPZ = {
    "objects": _npz("w.npy", _npy(np.array([{}]), allow_pickle=True)),
    "a structure": _npz("w.npy", _npy(np.zeros(1, [("a", "f4")]))),
    "text": _npz("w.npy", _npy(np.array(["text"]))),
    "a call in the header": _header("{'descr': __import__('os'), 'fortran_order': False, 'shape': (2,), }"),
    "a deep header": _header("(" * 60_000),
    "a huge shape": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }"),
    "a huge empty shape": _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {1 << 62}, 9), }}", b""),
    "a shape of many digits": _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 399}), }}"),
    "too many bytes": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"),
    "too few bytes": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"),
    "no array": _npz("w.npy", b"hello"),
    "another version": _npz("w.npy", b"\x93NUMPY\x09\0\0\0"),
    "no arrays": _npz("w.txt", b"hello"),
    "zeros that fill the memory": _npz("w.npy", bytes(64 << 20), zipfile.ZIP_DEFLATED),
    "no archive": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_hostile_safetensors_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(SAFETENSORS[name])
    with pytest.raises(DataError, match=str(path)):
        read_state(path)


@pytest.mark.parametrize("name", NPZ)
def test_hostile_archives_of_numpy_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(NPZ[name])
    with pytest.raises(DataError, match=str(path)):
        read_state(path)


def test_the_same_files_without_what_is_hostile_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(_entry())
    (tmp_path / "b.npz").write_bytes(_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"))
    for name in ("a", "b"):
        np.testing.assert_array_equal(read_state(tmp_path / name)["w"], np.zeros(2, "f4"))


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(save(_STATE, metadata={"format": "pt"}))
    np.savez(tmp_path / "b.npz", **_STATE)
    np.savez_compressed(tmp_path / "c.npz", **_STATE)
    for path in sorted(tmp_path.iterdir()):
        state = read_state(path)
        assert state.keys() == _STATE.keys()
        for name, expected in _STATE.items():
            assert state[name].dtype == expected.dtype
            np.testing.assert_array_equal(state[name], expected)
    halves = _safetensors({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\xc0\x3f\x40\xc0")
    (tmp_path / "d.safetensors").write_bytes(halves)
    np.testing.assert_array_equal(read_state(tmp_path / "d")["w"], np.array([1.5, -3.0], "f4"))


@pytest.mark.fuzz
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_damaged_files_give_arrays_or_a_data_error(tmp_path: Path, suffix: str) -> None:
    stream = io.BytesIO()
    np.savez(stream, **_STATE)
    path = tmp_path / f"weights.{suffix}"
    whole = save(_STATE) if suffix == "safetensors" else stream.getvalue()
    give_arrays_or_a_data_error(path, mutations(whole, at_least(200)))


@pytest.mark.parametrize(
    ("names", "expected", "said"),
    [
        (["module.a", "module.b"], ["a", "b"], "'module.'"),
        (["_layers.module.a"], ["a"], "'module.'"),
        (["Student.a", "Student.b", "Teacher.a"], ["a", "b"], "'Student.', leaving out 1 weights of the other network"),
        (["Teacher.a"], ["a"], "'Teacher.'"),
        (["module.a", "b"], ["module.a", "b"], ""),
        (["Student.a", "b"], ["Student.a", "b"], ""),
        (["a.module.b"], ["a.module.b"], ""),
    ],
)
def test_prefixes_of_wrappers_go_and_are_said(names: list[str], expected: list[str], said: str) -> None:
    arrays, remarks = without_prefixes({name: np.zeros(1) for name in names})
    assert list(arrays) == expected
    assert said in (remarks[-1] if remarks else "") and bool(said) == bool(remarks)


def test_a_path_may_omit_its_ending_and_what_is_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(save({f"module.{name}": array for name, array in _STATE.items()}))
    weights = read_weights(tmp_path / "w")
    assert weights.file.name == "w.safetensors" and "w" in weights.arrays
    assert weights.remarks == ("took the names without their prefix 'module.'",)
    with pytest.raises(DataError, match=r"no weights file .*nothing \(nor nothing\.pdparams\)"):
        read_weights(tmp_path / "nothing")
    with pytest.raises(DataError, match="a folder"):
        read_weights(tmp_path)
