"""Whatever lies in the place of a public data set's lists: `prepare` reads it, reports it or refuses it, at once."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.errors import DataError, ShituError
from shitu_cli.preparation.formats import FORMATS, find_format
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from tests.hostile import PLACES, TEXTS, at_once
from tests.preparation.annotation_trees import draw, read, write

# Of each data set its lists, the one that recognises it first, and folders that it needs.
LISTS = {
    "aliproduct": {
        "train.json": '{"images": [{"image_id": "a.jpg", "class_id": 0}, {"image_id": "b.jpg", "class_id": 1}]}',
        "val.json": '{"images": [{"image_id": "c.jpg", "class_id": 0}]}',
    },
    "products10k": {
        "train.csv": "name,class,group\n0.jpg,0,0\n1.jpg,1,0\n",
        "test_kaggletest.csv": "name,class,Usage\n0.jpg,1,Public\n",
    },
    "gldv2": {
        "train/train_clean.csv": "landmark_id,images\n7,0123456789abcdef 1e45678901234567\n9,2220000000000000\n",
        "train/train.csv": "id,url,landmark_id\n0123456789abcdef,x,7\n1e45678901234567,x,9\n",
    },
    "oxford-pets": {
        "annotations/list.txt": "#Image CLASS-ID SPECIES BREED ID\nAuk_1 1 1 1\nOwl_1 2 1 2\n",
        "annotations/trainval.txt": "Auk_1 1 1 1\nOwl_1 2 1 2\n",
    },
    "cars196": {"anno_train.csv": "1.jpg,39,116,569,375,1\n", "names.csv": "Car 1\nCar 2\n"},
    "sop": {
        "Ebay_train.txt": "image_id class_id super_class_id path\n1 1 1 bicycle_final/1_0.JPG\n",
        "Ebay_test.txt": "image_id class_id super_class_id path\n3 2 9 sofa_final/3_0.JPG\n",
    },
    "inshop": {"Eval/list_eval_partition.txt": "1\nimage_name item_id evaluation_status\nimg/a.jpg id_1 train\n"},
    "cub": {
        "images.txt": "1 001.Auk/a.jpg\n",
        "image_class_labels.txt": "1 1\n",
        "train_test_split.txt": "1 1\n",
        "classes.txt": "1 001.Auk\n",
    },
    "veriwild": {
        "train_test_split/train_list_start0.txt": "00001/000001.jpg 0 23\n",
        "train_test_split/test_3000_id_query.txt": "11542/119083.jpg 11542 23\n",
        "train_test_split/test_3000_id.txt": "11542/119084.jpg 11542 24\n",
    },
    "aircraft": {"data/images_variant_train.txt": "0025317 737-200\n", "data/images_variant_test.txt": "1 Cessna\n"},
    "tiny-imagenet": {"wnids.txt": "n1\n", "val/val_annotations.txt": "val_0.JPEG\tn1\t0\t32\t44\t62\n"},
}
FOLDERS = ("train/0", "val", "test", "images", "img", "bicycle_final", "car_data/train/Car 1", "annotations")


def lay_out(root: Path, lists: dict[str, str]) -> None:
    draw(root / "train/0/a.jpg")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        write(root / name, text)


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_are_hostile(tmp_path: Path, name: str) -> None:
    chosen = next(known for known in FORMATS if known.name == name)
    for number, (what, put) in enumerate({**PLACES, **TEXTS}.items()):
        for file in LISTS[name]:
            root = tmp_path / f"{number}-{file.replace('/', '-')}"
            lay_out(root, LISTS[name])
            (root / file).unlink()
            put(root / file)
            for reader in (chosen, None):
                with at_once(), contextlib.suppress(ShituError):
                    source = Source(root)
                    rows = (reader or find_format(source)).read(source, Problems())
                    assert all(isinstance(label, str) for label in rows.labels), what


def test_a_table_of_products_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path, LISTS["products10k"])
    (tmp_path / "train.csv").write_bytes("name,class\n1é.jpg,7\n2.jpg,²\n".encode("latin-1"))
    rows, problems = read(tmp_path, "products10k")
    assert rows.labels == ["7", "1"]
    assert problems.cases["malformed"].examples[0][0].endswith("train.csv:3")


def _mat(parts: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + parts


def _packed(size: int) -> bytes:
    data = zlib.compress(bytes(size), 1)
    return (15).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data


MAT_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "cannot be read"),
    "text": (lambda: b"x" * 500, "cannot be read"),
    "cut off": (lambda: _mat(b"\x0f\0\0\0\xff\xff\xff\xff" + b"y" * 50), "cannot be read"),
    "one huge part": (lambda: _mat(_packed(300 << 20)), "unpacked"),
    "many large parts": (lambda: _mat(_packed(1 << 27) * 3), "unpacked"),
}


@pytest.mark.parametrize("name", MAT_FILES)
def test_hostile_mat_files_are_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("scipy.io", reason="scipy is an optional package")
    make, why = MAT_FILES[name]
    (tmp_path / "cars_annos.mat").write_bytes(make())
    with at_once(), pytest.raises(DataError, match=why):
        read(tmp_path, "cars196")


def test_mat_files_of_other_fields_are_reported(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is an optional package")
    scipy_io.savemat(tmp_path / "cars_annos.mat", {"annotations": [1, 2], "class_names": 3})
    rows, problems = read(tmp_path, "cars196")
    assert not len(rows) and problems.cases["malformed"].count == 2
