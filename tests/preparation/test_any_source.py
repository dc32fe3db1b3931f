"""Whatever stands in the files of a source: rows, or an error of the program's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import ShituError
from shitu_cli.preparation.formats import read_source
from shitu_cli.preparation.formats.base import ReadOptions
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from tests.mutations import cases
from tests.preparation.test_annotations import spoilt
from tests.preparation.test_formats import draw, write


def _images(root: Path, *names: str) -> None:
    for name in names:
        draw(root / name, (40, 32))


def aliproduct(root: Path) -> None:
    _images(root, "train/00000/a.jpg", "train/00001/b.jpg", "val/00000/c.jpg")
    write(root / "train.json", json.dumps({"images": [{"image_id": "a.jpg", "class_id": 0}]}))
    write(root / "val.json", json.dumps({"images": [{"image_id": "c.jpg", "class_id": "0"}]}))


def gldv2(root: Path) -> None:
    _images(
        root, "train/0/1/2/0123456789abcdef.jpg", "index/a/a/a/aaa0000000000000.jpg", "test/b/b/b/bbb0000000000000.jpg"
    )
    write(root / "metadata/train_clean.csv", "landmark_id,images\n7,0123456789abcdef\n")
    write(root / "metadata/index_image_to_landmark.csv", "id,landmark_id\naaa0000000000000,7\n")
    write(root / "metadata/retrieval_solution_v2.1.csv", "id,images,Usage\nbbb0000000000000,aaa0000000000000,Public\n")


def veriwild(root: Path) -> None:
    _images(root, "images/00001/1.jpg", "images/00002/2.jpg", "images/3/3.jpg")
    write(root / "train_test_split/train_list_start0.txt", "00001/1.jpg 0 23\n00002/2.jpg 1 24\n")
    write(root / "train_test_split/test_3000_id_query.txt", "3/3.jpg 3 23\n")
    write(root / "train_test_split/test_3000_id.txt", "3/3.jpg 3 24\n")


def logodet(root: Path) -> None:
    _images(root, "Food/logo/1.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    write(root / "Food/logo/1.xml", f"<annotation><object><name>logo</name>{box}</object></annotation>")


def icartoon(root: Path) -> None:
    name = "personai_icartoonface_rectrain_00012/personai_icartoonface_rectrain_00012_0000001.jpg"
    _images(root, f"icartoonface_rectrain/{name}", "icartoonface_rectest/a.jpg")
    write(root / "icartoonface_rectrain_det.txt", f"{name}\t1\t2\t20\t30\n")
    write(root / "icartoonface_rectest_info.txt", "a.jpg 1 2 20 30 5\na.jpg b.jpg\n")


def sop(root: Path) -> None:
    _images(root, "bicycle_final/1_0.JPG", "bicycle_final/2_0.JPG")
    head = "image_id class_id super_class_id path\n"
    write(root / "Ebay_train.txt", f"{head}1 1 1 bicycle_final/1_0.JPG\n")
    write(root / "Ebay_test.txt", f"{head}1 2 1 bicycle_final/2_0.JPG\n")


def inshop(root: Path) -> None:
    _images(root, "img/a/1.jpg", "img/b/1.jpg")
    lines = "2\nimage_name item_id evaluation_status\nimg/a/1.jpg id_1 train\nimg/b/1.jpg id_2 query\n"
    write(root / "Eval/list_eval_partition.txt", lines)


def cub(root: Path) -> None:
    _images(root, "images/001.A/a.jpg", "images/101.B/b.jpg")
    write(root / "images.txt", "1 001.A/a.jpg\n2 101.B/b.jpg\n")
    write(root / "image_class_labels.txt", "1 1\n2 101\n")
    write(root / "train_test_split.txt", "1 1\n2 0\n")
    write(root / "classes.txt", "1 001.A\n101 101.B\n")


def cars(root: Path) -> None:
    _images(root, "car_data/train/Audi/1.jpg", "car_data/test/Audi/2.jpg")
    write(root / "names.csv", "Audi\nBMW\n")
    write(root / "anno_train.csv", "1.jpg,39,116,569,375,1\n")


def products10k(root: Path) -> None:
    _images(root, "train/0.jpg", "test/0.jpg")
    write(root / "train.csv", "name,class,group\n0.jpg,0,0\n")
    write(root / "test_kaggletest.csv", "name,class,Usage\n0.jpg,1,Public\n")


def table(root: Path) -> None:
    _images(root, *(f"img/{k}_{n}.jpg" for k in range(3) for n in range(3)))
    rows = "".join(f'img/{k}_{n}.jpg,"c {k}",{n % 2},train,"[10, 12, 38, 30]"\n' for k in range(3) for n in range(3))
    write(root / "labels.csv", f"image,label,camera,split,bbox\n{rows}")


def bare_table(root: Path) -> None:
    _images(root, *(f"img/{k}{n}.jpg" for k in range(3) for n in range(3)))
    rows = "".join(f"{k}{n};Crème {k};{n}\n" for k in range(3) for n in range(3))
    write(root / "train.csv", f"id;name;weight\n{rows}", "cp1252")


def lists(root: Path) -> None:
    _images(root, *(f"img/{k} {n}.jpg" for k in range(3) for n in range(3)))
    write(root / "train.txt", "".join(f"img/{k} {n}.jpg {k} {n} 1 2 20 30\n" for k in range(3) for n in range(2)))
    write(root / "test.txt", "".join(f"img/{k} 2.jpg {k}\n" for k in range(3)))
    write(root / "classes.txt", "a\nb\nc\n")


def food(root: Path) -> None:
    _images(root, *(f"images/{k}/{n}.jpg" for k in "ab" for n in range(3)))
    write(root / "meta/train.txt", "a/0\na/1\nb/0\nb/1\n")
    write(root / "meta/test.txt", "a/2\nb/2\n")


SAMPLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "aliproduct": (aliproduct, "aliproduct"),
    "gldv2": (gldv2, "gldv2"),
    "veriwild": (veriwild, "veriwild"),
    "logodet": (logodet, "logodet3k"),
    "icartoon": (icartoon, "icartoonface"),
    "sop": (sop, "sop"),
    "inshop": (inshop, "inshop"),
    "cub": (cub, "cub"),
    "cars": (cars, "cars196"),
    "products10k": (products10k, "products10k"),
    "table": (table, "table"),
    "bare table": (bare_table, "table"),
    "lists": (lists, "list"),
    "lists of paths": (food, "list"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_read(name: str, tmp_path: Path) -> None:
    build, expected = SAMPLES[name]
    build(tmp_path)
    problems = Problems()
    chosen, rows = read_source(Source(tmp_path), problems)
    assert chosen.name == expected and len(rows) and problems.count("error") == 0


@pytest.mark.parametrize("name", SAMPLES)
@cases(25)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 30), st.one_of(st.binary(max_size=8), st.sampled_from(
            [b"\0", b"\n", b",", b"\t", b'"', b"\xff", b"9" * 50, b"nan", b"1e400", b"../", b"/etc/x.jpg", b" " * 3000,
             b"a" * 300, "红".encode("gb18030"), "1\u00b201".encode(), b"-1", b"sep=;", b".jpg", b"<", b"{", b"'"]))),
        min_size=1, max_size=6,
    ),
    which=st.integers(0, 9),
)  # fmt: skip
def test_any_bytes(
    name: str, edits: list[tuple[int, int, bytes]], which: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    build, expected = SAMPLES[name]
    root = tmp_path_factory.getbasetemp() / f"any-{name}"
    if not root.exists():
        build(root)
    files = sorted(path for path in root.rglob("*") if path.suffix in (".txt", ".csv", ".json", ".xml"))
    file = files[which % len(files)]
    whole = file.read_bytes()
    file.write_bytes(spoilt(whole, edits))
    try:
        for format_name in (None, expected):
            try:
                rows = read_source(Source(root), Problems(), format_name)[1]
            except ShituError as error:
                assert "Error:" not in error.message, error.message  # nothing that a reader does not know itself
                continue
            assert len(rows.paths) == len(rows.labels) == len(rows.splits)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("encoding", ["gb18030", "cp932", "cp1252", "big5", "euc_kr"])
def test_an_encoding_that_the_user_names(encoding: str, tmp_path: Path) -> None:
    word = {"gb18030": "苹果", "cp932": "りんご", "cp1252": "Crème", "big5": "蘋果", "euc_kr": "사과"}[encoding]
    _images(tmp_path, "0.jpg", "1.jpg")
    write(tmp_path / "t.csv", f"image,label\n0.jpg,{word}\n1.jpg,x\n", encoding)
    rows = read_source(Source(tmp_path, ReadOptions(encoding=encoding)), Problems())[1]
    assert rows.labels == [word, "x"]
