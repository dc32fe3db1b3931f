from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.boxes import (
    CONVENTIONS,
    CXCYWH_SHARE,
    XYWH,
    XYWH_PERCENT,
    XYXY,
    box_columns,
    check_convention,
    numbers,
    stated_size,
    turned,
)

SIZE = (200, 100)


def test_every_convention_places_the_same_box() -> None:
    values = {
        "xyxy": (20, 10, 60, 50),
        "xywh": (20, 10, 40, 40),
        "cxcywh": (40, 30, 40, 40),
        "xyxy-share": (0.1, 0.1, 0.3, 0.5),
        "xywh-share": (0.1, 0.1, 0.2, 0.4),
        "cxcywh-share": (0.2, 0.3, 0.2, 0.4),
        "xywh-percent": (10, 10, 20, 40),
    }
    assert values.keys() == {convention.name for convention in CONVENTIONS}
    for convention in CONVENTIONS:
        assert convention.corners(values[convention.name], SIZE) == pytest.approx((20, 10, 60, 50))


def judge(boxes: list[tuple[float, ...]], stated: object = XYWH) -> None:
    check_convention("f.json", [(box, SIZE, f"f.json:{n}") for n, box in enumerate(boxes)], stated)  # type: ignore[arg-type]


def test_boxes_that_fit_are_taken_as_stated_even_if_another_convention_fits_too() -> None:
    judge([(10, 10, 60, 50)] * 20)


def test_one_of_many_corners_that_leaves_the_image_is_enough_to_doubt_sizes() -> None:
    with pytest.raises(DataError, match=r"f\.json: 1 of 30 boxes.*x,y,width,height.*x1,y1,x2,y2"):
        judge([(10, 10, 60, 50)] * 29 + [(150, 10, 190, 50)])


def test_slips_that_no_other_convention_explains_are_left_to_be_reported_one_by_one() -> None:
    judge([(100, 10, 20, 20)] * 9 + [(150, 10, 190, 50)])


def test_one_of_ten_corners_upside_down_is_a_slip() -> None:
    judge([(10, 10, 60, 50)] * 9 + [(60, 10, 10, 50)], XYXY)


def test_sizes_read_as_corners_shares_as_pixels_and_percent_as_shares_are_refused() -> None:
    with pytest.raises(DataError, match="x,y,width,height in pixels"):
        judge([(100, 10, 20, 20), (10, 10, 60, 50)], XYXY)
    with pytest.raises(DataError, match="in shares of the image"):
        judge([(0.5, 0.5, 0.2, 0.2)], XYXY)
    with pytest.raises(DataError, match="in percent"):
        judge([(90, 80, 5, 10)], CXCYWH_SHARE)
    judge([(90, 80, 5, 10)], XYWH_PERCENT)


@given(st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=8), st.none(), st.booleans()), max_size=4))
def test_numbers_are_of_images_or_none(values: list[object]) -> None:
    found = numbers(values)
    assert found is None or (len(found) == len(values) and all(abs(number) < 1e9 for number in found))


@pytest.mark.parametrize("value", [True, None, "1_0", "", "nan", "1e999", "1e52", 1e9, -1e9, 10**400, [1], "x"])
def test_what_is_no_number(value: object) -> None:
    assert numbers([value]) is None


def test_sizes_that_are_stated() -> None:
    assert stated_size("640", 480.0) == (640, 480)
    assert stated_size(0, 480) is stated_size(None, None) is stated_size("x", 1) is stated_size(1e9, 1) is None


def test_columns_of_boxes() -> None:
    assert box_columns(["file", "X_Min", "ymin", "x max", "YMax"]) == ([1, 2, 3, 4], XYXY)
    assert box_columns(["XMin", "XMax", "YMin", "YMax"]) == ([0, 2, 1, 3], XYXY)
    assert box_columns(["x", "y", "w", "h"]) == ([0, 1, 2, 3], XYWH)
    assert box_columns(["x", "y", "w"]) is None


def test_a_turned_rectangle() -> None:
    assert turned(32, 12, 16, 12, 90) == pytest.approx((20, 12, 32, 28))
