"""Digits that are no number for `int`, or too many of them, end in no error of another class anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.cli.export import parse_size
from shitu_cli.data.images import split_box
from shitu_cli.data.lists import read_label_map
from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.inputs import box_of, is_real, is_whole, whole_number
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.workspace import earlier_models


@given(st.text(alphabet="0123456789²٣-+_ \0", max_size=24))
def test_any_text(text: str) -> None:
    number = whole_number(text, signed=True)
    assert number is None or number == int(text)
    assert whole_number(text) is None or (whole_number(text) == number and "-" not in text)


@pytest.mark.parametrize("text", ["0,0,inf,1", "nan,0,1,1", "0,0,1e39,1", "-1e999,0,1,1", "0,0,1", "0,0,1,1,1", ""])
def test_a_box_has_four_sides_that_an_image_can_have(text: str) -> None:
    assert box_of(text) is None and box_of("0,-1.5,1e3,8") == (0, -1.5, 1000, 8)
    assert split_box(f"a.jpg#{text}") == (f"a.jpg#{text}", None)


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("007", 7), ("1²", None), ("٣", None), ("", None), ("9" * 5000, None), ("-1", None)]
)
def test_plain_digits_alone(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_numbers_of_json_are_neither_truth_values_nor_endless() -> None:
    whole = [value for value in (True, 0, 1, 3, 4, 1.0, "1", None, float("nan")) if is_whole(value, 1, 3)]
    real = [value for value in (True, -1, 0.5, 1, 2, float("nan"), float("inf"), "1", None) if is_real(value, 0, 1)]
    assert whole == [1, 3] and whole[0] is not True and real == [0.5, 1] and real[1] is not True
    assert is_whole(10**30, 0)


def test_a_label_map_of_endless_digits(tmp_path: Path) -> None:
    (tmp_path / "label_map.txt").write_text(f"0\ta\n{'9' * 5000}\tb\n")
    with pytest.raises(DataError, match="1 line"):
        read_label_map(tmp_path / "label_map.txt")


def test_folders_of_earlier_runs_alone(tmp_path: Path) -> None:
    for name in ("10", "9", "²", "x"):
        (tmp_path / "earlier" / name).mkdir(parents=True)
    assert [path.name for path in earlier_models(tmp_path)] == ["9", "10"]


@pytest.mark.parametrize("size", ["²x²", f"{'9' * 5000}x1", "0x5", "224", "224x224x1"])
def test_sizes_of_other_digits(size: str) -> None:
    with pytest.raises(UsageError, match="224x224"):
        parse_size(size)


def test_devices_of_other_digits() -> None:
    with pytest.raises(EnvironmentProblem, match="unknown device"):
        setup_paddle("gpu:²")
