"""JSON of any shape ends in a value or in an error of the caller's class."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import ConfigError, DataError
from shitu_cli.inputs import parse_json, read_json, read_json_object

HOSTILE = {
    "deep list": (b"[" * 100_000, "levels deep"),
    "deep and closed": (b"[" * 500 + b"]" * 500, "levels deep"),
    "deep object": (b'{"a":' * 70 + b"1" + b"}" * 70, "levels deep"),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    "number of many digits": (b"1" * 41, "digits"),
    "NaN": (b"[NaN]", "not a finite number"),
    "infinity by exponent": (b"[1e999]", "not a finite number"),
    "minus infinity": (b"[-Infinity]", "not a finite number"),
    "not text": (b'{"a":\n "\xff"}', ":2: byte 0xff"),
    "empty": (b"", ":1: not valid JSON"),
    "cut off": (b'{"a": [1,\n2', ":2: not valid JSON"),
    "two values": (b"{} {}", "not valid JSON"),
    "control character": (b'"\x1b"', "not valid JSON"),
    "UTF-16": ("{}".encode("utf-16"), "byte 0xff"),
    "too large": (b" " * (17 << 20), "too large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_file_and_reason(tmp_path: Path, name: str) -> None:
    data, reason = HOSTILE[name]
    path = tmp_path / "file.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_json(path, error=ConfigError)
    assert str(path) in caught.value.message


def test_plain_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, -2.5, "\\udcff", null, true]}')
    assert read_json_object(path) == {"a": [1, -2.5, "\udcff", None, True]}
    path.write_bytes(b"[NaN]")
    assert str(read_json(path, allow_nan=True)) == "[nan]"
    with pytest.raises(DataError, match="expected a JSON object, got list"):
        read_json_object(path, allow_nan=True)


@given(st.one_of(st.binary(max_size=60), st.text('[]{}":,0123456789eE+-.tfn\\u ', max_size=60).map(str.encode)))
def test_any_bytes_are_a_value_or_a_data_error(data: bytes) -> None:
    try:
        parse_json(data, "file.json")
    except DataError as error:
        assert error.message.startswith("file.json")
