"""Encodings of lists are weighed: read rightly, or asked about with both readings; never other signs in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError, ShituError, UsageError
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.problems import Problems
from tests.mutations import cases

TEXTS = [
    ("cp932", "りんご みかん ぶどう もも 緑茶"),
    ("cp932", "表 ソース 能 予約"),
    ("cp932", "コーラ 牛乳"),
    ("gb18030", "苹果 梨子 香蕉 绿茶饮料"),
    ("gb18030", "脉动 可口可乐"),
    ("cp1252", "Crème Gruyère Müsli Jalapeños"),
    ("cp1252", "Müsli"),
    ("cp1252", "Größe"),
    ("cp949", "사과 바나나 녹차 우유"),
    ("big5", "蘋果 香蕉 綠茶"),
    ("big5", "臺灣 烏龍茶"),
    ("cp1251", "яблоко груша молоко"),
    ("cp1253", "μήλο μπύρα φέτα"),
    ("cp1250", "jabłko żółty śmietana gołąbki"),
    ("cp1254", "yoğurt şampuan fıstık"),
]


def table(words: str) -> str:
    return "image,label\n" + "".join(f"images/{n}.jpg,{word}\n" for n, word in enumerate(words.split()))


@pytest.mark.parametrize(("codec", "words"), TEXTS)
def test_the_likeliest_is_right_and_said(codec: str, words: str, tmp_path: Path) -> None:
    path, problems = tmp_path / "t.csv", Problems()
    path.write_bytes(table(words).encode(codec))
    assert read_list_text(path, problems) == table(words)
    assert words.split()[0] in problems.cases["encoding"].examples[0][1]
    assert read_list_text(path, Problems(), codec) == table(words)


@pytest.mark.parametrize("word", ["Käse", "crème", "piña", "jamón", "Ölsardinen", "Brûlée", "pão", "smørbrød", "città"])
def test_western_words_are_not_of_rarer_languages(word: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(table(word).encode("cp1252"))
    try:
        assert word in read_list_text(path, Problems())
    except DataError as error:
        assert any(word in detail for detail in error.details)


@pytest.mark.parametrize(("codec", "word"), [("cp1250", "jabłko"), ("cp1253", "γάλα"), ("cp1254", "çikolata")])
def test_a_single_word_is_right_or_asked_about(codec: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(table(word).encode(codec))
    try:
        assert word in read_list_text(path, Problems())
    except DataError as error:
        assert any(word in detail for detail in error.details)


def test_two_that_are_as_likely_are_shown_with_the_option(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(table("김치").encode("cp949"))
    with pytest.raises(DataError, match="two encodings are about as likely") as caught:
        read_list_text(path, Problems())
    assert any("김치" in detail for detail in caught.value.details) and "--encoding" in str(caught.value.hint)


def test_names_on_disk_decide(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("image,label\n김치.jpg,1\n".encode("cp949"))
    assert "김치.jpg" in read_list_text(path, Problems(), exists={"김치.jpg"}.__contains__)


def test_a_wrong_name_of_an_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(table("苹果").encode("gb18030"))
    with pytest.raises(UsageError, match="unknown; there are"):
        read_list_text(path, Problems(), "gbk-9")
    with pytest.raises(UsageError, match=r"t.csv:2: not in the encoding utf-8"):
        read_list_text(path, Problems(), "utf-8")


@cases(300)
@given(data=st.binary(max_size=60))
def test_any_bytes(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    try:
        read_list_text(path, Problems())
    except ShituError:
        return
