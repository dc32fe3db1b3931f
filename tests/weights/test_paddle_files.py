"""Paddle's pickles of weights: read to the same arrays as by Paddle; hostile ones call nothing and take no memory."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.weights.files import read_state
from shitu_cli.weights.paddle_files import read_paddle
from tests.mutations import at_least, mutations
from tests.weights.damaged import give_arrays_or_a_data_error

_DTYPE = b"cnumpy\ndtype\n(V%s\nI0\nI1\ntR"
_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntc_codecs\nencode\n(Vb\nVlatin1\ntRtR"


class _Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _array(code: bytes = b"f4", shape: bytes = b"(I1\nt", data: bytes = b"C\4abcd", order: bytes = b"V<\n") -> bytes:
    """A dict with one array of the given type, shape and content, in the operations that numpy's pickles have."""
    kind = _DTYPE % code + b"(I3\n" + order + b"NNNI-1\nI-1\nI0\ntb"
    return b"(dVw\n" + _ARRAY + b"(I1\n" + shape + kind + b"I00\n" + data + b"tbs."


def _sizes(count: int) -> bytes:
    return b"(" + b"I1\n" * count + b"t"


HOSTILE: dict[str, bytes] = {
    "a command": pickle.dumps({"w": _Calls(os.system, "touch owned")}),
    "eval, as for Paddle's DenseTensor": pickle.dumps({"w": _Calls(eval, "open('owned', 'w')")}),
    "a getter": b"(dVw\ncbuiltins\ngetattr\n(cnumpy\nndarray\nVtofile\ntRs.",
    "a numpy function": b"(dVw\ncnumpy\nload\n(Vx\ntRs.",
    "an old instance": b"(ios\nsystem\n.",
    "an old object": b"(cos\nsystem\no.",
    "Python's escapes": b"S'\\777'\n.",
    "an extension": b"\x82\x01.",
    "attributes for a class": b"cnumpy\nndarray\n(dVx\nI1\nsb.",
    "a dtype that is called": b"cnumpy\ndtype\n(Vf4\ntR(V<\ntR.",
    "an object array": _array(b"O8", b"(I1\nt", b"(lI1\na"),
    "a structured type": _array(b"V16"),
    "a text type": _array(b"U1"),
    "forged flags of a type": _array().replace(b"NNNI-1\nI-1\nI0\n", b"NNNI-1\nI-1\nI255\n").replace(b"f4", b"O8"),
    "fields of a type": _array().replace(b"V<\nNNN", b"V|\nN(Va\nt(dVa\nI5\ns").replace(b"f4", b"V4"),
    "no byte order": _array(order=b"Vx\n"),
    "a huge shape": _array(shape=b"(L1152921504606846976L\nI16\nt"),
    "a huge empty shape": _array(shape=b"(I0\nL1099511627776L\nL1099511627776L\nt", data=b"C\0"),
    "a negative shape": _array(shape=b"(I-1\nt"),
    "a shape of text": _array(shape=b"(Vx\nt"),
    "many dimensions": _array(shape=_sizes(64)),
    "too few bytes": _array(shape=b"(I2\nt"),
    "too many bytes": _array(data=b"C\5abcde"),
    "no bytes": _array(data=b"N"),
    "an array without content": b"(dVw\n" + _ARRAY + b"s.",
    "an array that is its own key": b"(d" + _ARRAY + b"I1\ns.",
    "a memo number that takes all memory": b"\x80\x02N" + b"r" + struct.pack("<I", 0xFFFFFFFF) + b".",
    "bytes beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.",
    "text beyond the end": b"\x80\x04\x8d" + struct.pack("<Q", (1 << 63) - 1) + b"abc.",
    "a bytearray beyond the end": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "a frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "a number of many digits": b"(dVw\nL" + b"9" * 100_000 + b"L\ns.",
    "a long number of negative size": b"\x8b" + struct.pack("<i", -1) + b".",
    "a key nested very deep": b"(d)" + b"\x85" * 400_000 + b"I1\ns.",
    "a key that takes 2**60 hashes": b"(d)" + b"2\x86" * 60 + b"I1\ns.",
    "an endless repetition of one text": b"(dVw\n(lVx"
    + b"x" * 100_000
    + b"\np0\n"
    + b"c_codecs\nencode\n(g0\nVlatin1\ntR" * 200
    + b"s.",
    "marks only": b"(" * 100_000,
    "nothing on the stack": b"0000.",
    "a memo that was never filled": b"(dVw\ng5\ns.",
    "a persistent id": b"(dVw\nVx\nQs.",
    "a list filled like a dict": b"(lVa\nI1\ns.",
    "a dict filled like a list": b"(dI1\na.",
    "a key without a value": b"}(Va\nu.",
    "no table": b"I1\n.",
    "no weights": pickle.dumps({"a": 1, "b": "text"}),
    "slices that are missing": pickle.dumps(
        {"UnpackBigParamInfor@@": {"w": {"OriginShape": [2], "slices": ["w@@.0"]}}}
    ),
    "slices that do not fit": pickle.dumps(
        {"UnpackBigParamInfor@@": {"w": {"OriginShape": (5,), "slices": ["w@@.0"]}}, "w@@.0": np.zeros(3)}
    ),
    "slices without names": pickle.dumps({"UnpackBigParamInfor@@": {"w": {"slices": [1]}}, "v": np.zeros(3)}),
    "steps without end": b"(l" + b"N0" * 300_000 + b".",
    "empty": b"",
    "text": b"hello",
    "no end": b"\x80\x04}",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("suffix", ["pdparams", "pdopt"])
def test_hostile_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=str(path)):
        read_state(path)
    assert not (tmp_path / "owned").exists()


def test_flags_in_a_type_never_reach_numpy(tmp_path: Path) -> None:
    plain, forged = _array(), _array().replace(b"I-1\nI-1\nI0\n", b"I7\nI1\nI255\n")
    assert plain != forged
    for data in (plain, forged):
        (tmp_path / "w.pdparams").write_bytes(data)
        array = read_state(tmp_path / "w")["w"]
        assert array.dtype == np.dtype("f4") and array.dtype.flags == np.dtype("f4").flags
        assert array.tobytes() == b"abcd"


def test_the_message_names_what_the_file_wants_to_use(tmp_path: Path) -> None:
    (tmp_path / "w.pdparams").write_bytes(HOSTILE["a command"])
    with pytest.raises(DataError, match=r"it wants to use posix\.system, which plain data does not need"):
        read_state(tmp_path / "w")


def _state() -> dict[str, Any]:
    chance = np.random.default_rng(0)
    arrays = {
        f"layer.{code}": chance.integers(0, 9, (3, 4)).astype(code) for code in ("f2", "f4", "f8", "i8", "u1", "?")
    }
    return {
        **arrays,
        "big_endian": np.arange(5, dtype=">i4"),
        "fortran": np.asfortranarray(chance.random((3, 4))),
        "empty": np.zeros((0, 3), "f4"),
        "scalar": np.float32(1.5) * np.ones((), "f4"),
        "LR_Scheduler": {"last_epoch": 3, "last_lr": np.float64(0.1), "verbose": False, "text": "é", "none": None},
        "tuple": collections.OrderedDict(a=(1, 2.5), b=[-(10**20)]),
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_gives_the_values_that_were_saved(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(_state(), protocol=protocol))
    values = read_paddle(path)
    assert values.keys() == _state().keys()
    for name, expected in _state().items():
        if isinstance(expected, np.ndarray):
            assert values[name].dtype == expected.dtype
            np.testing.assert_array_equal(values[name], expected)
        else:
            assert values[name] == expected
    assert read_state(path)["big_endian"].dtype.isnative


def test_what_paddle_wraps_is_resolved(tmp_path: Path) -> None:
    wrapped = {
        "StructuredToParameterName@@": {"w": "conv2d_0.w_0"},
        "UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 3), "slices": ["w@@.0", "w@@.1"]}},
        "w@@.0": np.arange(4.0),
        "w@@.1": np.arange(4.0, 6.0),
        "v": _Calls(tuple, ("parameter_name", np.ones(2))),
        "master_weights": {"m": _Calls(tuple, ("name", np.zeros(1)))},
    }
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(wrapped, protocol=2))
    values = read_paddle(tmp_path / "w.pdparams")
    assert values.keys() == {"w", "v", "master_weights"}
    np.testing.assert_array_equal(values["w"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(values["v"], np.ones(2))
    assert isinstance(values["master_weights"]["m"], np.ndarray)


@pytest.mark.fuzz
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_files_give_arrays_or_a_data_error(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "w.pdparams"
    whole = pickle.dumps(_state(), protocol=protocol)
    give_arrays_or_a_data_error(path, mutations(whole, at_least(200), seed=protocol))
