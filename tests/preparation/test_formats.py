"""Faithful tiny trees of the public data sets and of what people bring: which lists come out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.errors import DataError, ShituError, UsageError
from shitu_cli.preparation.formats import FORMATS, find_format
from shitu_cli.preparation.formats.base import ReadOptions, Rows
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.prepare import Choices, Prepared, read_and_split
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.reading import check_source
from shitu_cli.reporting import SilentReporter

_count = iter(range(10**6))


def draw(path: Path, size: tuple[int, int] = (48, 40)) -> None:
    """A picture unlike all others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(next(_count))
    image = cv2.resize(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    path.write_bytes(cv2.imencode(path.suffix if path.suffix.lower() != ".jpeg" else ".jpg", image)[1].tobytes())


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def read(root: Path, name: str, **options: object) -> tuple[Rows, Problems]:
    """Read the tree with the format that recognises it, which must be `name`."""
    source = Source(root, ReadOptions(**options))  # type: ignore[arg-type]
    made = find_format(source)
    assert made.name == name
    problems = Problems()
    rows = made.read(source, problems)
    for path in rows.paths:
        assert "\\" not in path and not path.startswith("/")
    return rows, problems


def table(rows: Rows) -> list[tuple[str, str, str]]:
    return sorted(zip(rows.paths, rows.labels, rows.splits, strict=True))


def prepared(root: Path, **choices: object) -> Prepared:
    return read_and_split([root], Choices(**choices), SilentReporter())  # type: ignore[arg-type]


def test_every_format_has_a_name_and_a_layout() -> None:
    assert len({f.name for f in FORMATS}) == len(FORMATS)
    assert all(f.layout for f in FORMATS)


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="class-tree"):
        find_format(Source(Path()), "imagenet")


def test_aliproduct(tmp_path: Path) -> None:
    for path in ("train/00000/a.jpg", "train/00001/b.png", "val/00000/c.jpg", "val/00000/d.jpg", "test/t.jpg"):
        draw(tmp_path / path)
    train = {"images": [{"image_id": "a.jpg", "class_id": 0}, {"image_id": "b.png", "class_id": "00001"}]}
    val = {"images": [{"image_id": "c.jpg", "class_id": 0}, {"image_id": "d.jpg", "class_id": 0}, {"image_id": "x"}]}
    write(tmp_path / "train.json", json.dumps(train))
    write(tmp_path / "val.json", json.dumps(val))
    write(tmp_path / "test.json", json.dumps({"images": [{"image_id": "t.jpg"}]}))
    rows, problems = read(tmp_path, "aliproduct")
    assert table(rows) == [
        ("train/00000/a.jpg", "0", "train"),
        ("train/00001/b.png", "1", "train"),
        ("val/00000/c.jpg", "0", "eval"),
        ("val/00000/d.jpg", "0", "eval"),
    ]
    assert problems.cases["malformed"].count == 1
    made = prepared(tmp_path)
    assert made.query is not None and made.gallery is not None
    assert made.query.paths() == made.gallery.paths() == ["val/00000/c.jpg", "val/00000/d.jpg"]


def test_gldv2(tmp_path: Path) -> None:
    for path in ("train/0/1/2/0123456789abcdef", "train/1/e/4/1e45678901234567", "train/2/2/2/2220000000000000"):
        draw(tmp_path / f"{path}.jpg")
    for path in ("index/a/a/a/aaa0000000000000", "index/b/b/b/bbb0000000000000", "test/c/c/c/ccc0000000000000"):
        draw(tmp_path / f"{path}.jpg")
    meta = tmp_path / "metadata"
    write(meta / "train_clean.csv", "landmark_id,images\n7,0123456789abcdef 1e45678901234567\n9,2220000000000000\n")
    write(meta / "index_image_to_landmark.csv", "id,landmark_id\naaa0000000000000,7\nbbb0000000000000,8\n")
    solution = "id,images,Usage\nccc0000000000000,bbb0000000000000,Public\nddd,None,Ignored\n"
    write(meta / "retrieval_solution_v2.1.csv", solution)
    rows, problems = read(tmp_path, "gldv2")
    # Hexadecimal ids stay text, and the landmarks of train and index are different numbers.
    assert ("train/1/e/4/1e45678901234567.jpg", "train-7", "train") in table(rows)
    assert ("index/a/a/a/aaa0000000000000.jpg", "index-7", "gallery") in table(rows)
    assert ("test/c/c/c/ccc0000000000000.jpg", "index-8", "query") in table(rows)
    assert "1 queries" in problems.cases["not-evaluated"].examples[0][1]
    assert prepared(tmp_path).class_num == 2


def wild_images(root: Path) -> None:
    for path in ("00001/000001.jpg", "00002/000002.jpg", "11542/119083.jpg", "11542/119084.jpg", "11542/119085.jpg"):
        draw(root / "images" / path)


def test_veriwild_with_cameras_in_its_lists(tmp_path: Path) -> None:
    wild_images(tmp_path)
    lists = tmp_path / "train_test_split"
    write(lists / "train_list_start0.txt", "00001/000001.jpg 0 23\n00002/000002.jpg 1 24\n")
    write(lists / "test_3000_id_query.txt", "11542/119083.jpg 11542 23\n")
    write(lists / "test_3000_id.txt", "11542/119084.jpg 11542 24\n11542/119085.jpg 11542 23\n")
    rows, _ = read(tmp_path, "veriwild")
    assert table(rows)[0] == ("00001/000001.jpg", "00001", "train")
    made = prepared(tmp_path)
    assert made.class_num == 2
    assert made.query is not None and made.gallery is not None
    assert made.query.ids is not None and made.query.ids.tolist() == [23]
    assert made.gallery.ids is not None and made.gallery.ids.tolist() == [24, 23]
    assert made.query.labels[0] == made.gallery.labels[0] == 2


def test_veriwild_with_cameras_in_vehicle_info(tmp_path: Path) -> None:
    wild_images(tmp_path)
    lists = tmp_path / "train_test_split"
    write(lists / "train_list.txt", "00001/000001\n00002/000002\n")
    write(lists / "test_3000_query.txt", "11542/119083\n")
    write(lists / "test_3000.txt", "11542/119084\n")
    info = "id/image;Camera ID;Time;Model;Type;Color\n11542/119083;7;t;m;ty;c\n11542/119084;8;t;m;ty;c\n"
    write(lists / "vehicle_info.txt", info)
    rows, _ = read(tmp_path, "veriwild")
    assert ("11542/119083.jpg", "11542", "query") in table(rows)
    assert rows.ids[rows.paths.index("11542/119083.jpg")] == "7"
    with pytest.raises(DataError, match="test_10000"):
        read(tmp_path, "veriwild", protocol="large")
    with pytest.raises(UsageError, match="small, medium, large"):
        read(tmp_path, "veriwild", protocol="tiny")


def voc(*boxes: tuple[int, int, int, int]) -> str:
    objects = "".join(
        f"<object><name>n</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    return f"<annotation><filename>1.jpg</filename>{objects}</annotation>"


def test_logodet(tmp_path: Path) -> None:
    root = tmp_path / "LogoDet-3K"
    for path in ("Food/Cream of Wheat/1.jpg", "Food/Cream of Wheat/2.jpg", "Food/Acme-1/1.jpg", "Sports/acme/1.jpg"):
        draw(root / path)
    write(root / "Food/Cream of Wheat/2.xml", voc((1, 2, 20, 21), (5, 5, 30, 30), (9, 9, 3, 3)))
    write(root / "Food/Acme-1/1.xml", voc((0, 0, 48, 40)))
    write(root / "Sports/acme/1.xml", voc((0, 0, 10, 10)))
    rows, problems = read(tmp_path, "logodet3k")
    assert [(rows.paths[n], rows.boxes[n]) for n in range(2, 4)] != []
    assert sorted(set(rows.labels)) == ["Food/Acme-1", "Food/Cream of Wheat", "Sports/acme"]
    assert rows.labels.count("Food/Cream of Wheat") == 2
    assert problems.cases["bad-box"].count == 1 and problems.cases["no-annotation"].count == 1
    made = prepared(tmp_path, split="none")
    assert made.train.box(made.train.paths().index("Food/Acme-1/1.jpg")) == (0, 0, 48, 40)


def test_icartoonface(tmp_path: Path) -> None:
    train = tmp_path / "personai_icartoonface_rectrain/icartoonface_rectrain"
    test = tmp_path / "personai_icartoonface_rectest/icartoonface_rectest"
    names = [
        f"personai_icartoonface_rectrain_0000{k}/personai_icartoonface_rectrain_0000{k}_000000{k}.jpg" for k in (0, 1)
    ]
    for name in names:
        draw(train / name)
    missing = names[0].replace("_0000000.jpg", "_0000009.jpg")
    det = "".join(f"{name}\t2\t3\t20\t21\n" for name in [*names, missing])
    write(tmp_path / "personai_icartoonface_rectrain/icartoonface_rectrain_det.txt", det)
    for k in range(3):
        draw(test / f"t_{k}.jpg")
    info = "t_0.jpg 1 1 20 20 0\nt_1.jpg 1 1 20 20 0\nt_2.jpg 1 1 20 20 -1\nt_0.jpg t_1.jpg\n"
    write(tmp_path / "icartoonface_rectest_info.txt", info)
    rows, _ = read(tmp_path, "icartoonface")
    assert rows.labels[:2] == ["train-00000", "train-00001"]
    assert rows.boxes[0] == (2, 3, 20, 21)
    made = prepared(tmp_path)
    assert made.problems.cases["missing"].count == 1
    assert made.query is not None and made.gallery is not None
    assert (len(made.query), len(made.gallery)) == (2, 3)
    assert made.gallery.labels.tolist().count(-1) == 1


def test_sop(tmp_path: Path) -> None:
    root = tmp_path / "Stanford_Online_Products"
    for path in ("bicycle_final/1_0.JPG", "bicycle_final/2_0.JPG", "sofa_final/3_0.JPG", "sofa_final/3_1.JPG"):
        draw(root / path)
    head = "image_id class_id super_class_id path\n"
    write(root / "Ebay_train.txt", f"{head}1 1 1 bicycle_final/1_0.JPG\n2 2 1 bicycle_final/2_0.JPG\n")
    write(root / "Ebay_test.txt", f"{head}3 11319 9 sofa_final/3_0.JPG\n4 11319 9 sofa_final/3_1.JPG\n")
    rows, _ = read(tmp_path, "sop")
    assert table(rows)[0] == ("bicycle_final/1_0.JPG", "1", "train")
    made = prepared(tmp_path)
    assert made.class_num == 2 and made.names == {"1": 0, "2": 1, "11319": 2}
    assert made.query is not None and made.gallery is not None
    assert made.query.paths() == made.gallery.paths()


@pytest.mark.parametrize("folder", ["Img/img", "img"])
def test_inshop(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "In-shop Clothes Retrieval Benchmark"
    names = ["01_1_front.jpg", "01_2_side.jpg"]
    for item in ("id_00000001", "id_00000002", "id_00000007"):
        for name in names:
            draw(root / folder / "WOMEN/Dresses" / item / name)
    rows_of = [("1", names[0], "train"), ("2", names[0], "train"), ("7", names[0], "query"), ("7", names[1], "gallery")]
    lines = [f"img/WOMEN/Dresses/id_0000000{k}/{name}      id_0000000{k}   {s}  " for k, name, s in rows_of]
    write(root / "Eval/list_eval_partition.txt", "4\nimage_name item_id evaluation_status\n" + "\n".join(lines) + "\n")
    rows, problems = read(tmp_path, "inshop")
    assert table(rows)[0] == ("img/WOMEN/Dresses/id_00000001/01_1_front.jpg", "id_00000001", "train")
    assert not problems.cases
    made = prepared(tmp_path)
    assert made.class_num == 2 and not made.problems.count("error")
    assert made.query is not None and made.query.labels.tolist() == [2]


def test_cub(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    birds = [
        "001.Albatross/a_1.jpg",
        "001.Albatross/a_2.jpg",
        "002.Auk/b_1.jpg",
        "101.Pelican/c_1.jpg",
        "101.Pelican/c_2.jpg",
    ]
    labels = [1, 1, 2, 101, 101]
    for bird in birds:
        draw(root / "images" / bird)
    write(root / "images.txt", "".join(f"{n} {bird}\n" for n, bird in enumerate(birds, 1)))
    write(root / "image_class_labels.txt", "".join(f"{n} {label}\n" for n, label in enumerate(labels, 1)))
    write(root / "train_test_split.txt", "1 1\n2 0\n3 1\n4 1\n5 0\n")
    write(root / "classes.txt", "1 001.Albatross\n2 002.Auk\n101 101.Pelican\n")
    write(tmp_path / "attributes.txt", "1 has_bill\n")
    rows, _ = read(tmp_path, "cub")
    assert rows.splits == ["train", "train", "train", "eval", "eval"]
    assert read(tmp_path, "cub", protocol="classification")[0].splits == ["train", "test", "train", "train", "test"]
    assert prepared(tmp_path).names == {"001.Albatross": 0, "002.Auk": 1, "101.Pelican": 2}


def test_cars_as_class_folders(tmp_path: Path) -> None:
    names = [f"Car {n}" for n in range(1, 100)]
    names[1] = "Ram C/V Van"
    root = tmp_path / "car_data" / "car_data"
    for path in (
        "train/Car 1/00001.jpg",
        "train/Ram C-V Van/00002.jpg",
        "test/Car 99/00003.jpg",
        "test/Car 99/00004.jpg",
    ):
        draw(root / path)
    write(tmp_path / "names.csv", "\n".join(names) + "\n")
    write(tmp_path / "anno_train.csv", "00001.jpg,39,116,569,375,1\n")
    rows, _ = read(tmp_path, "cars196")
    assert sorted(zip(rows.labels, rows.splits, strict=True)) == [
        ("1", "train"),
        ("2", "train"),
        ("99", "eval"),
        ("99", "eval"),
    ]
    assert rows.display["2"] == "Ram C/V Van"
    assert set(read(tmp_path, "cars196", protocol="classification")[0].splits) == {"train", "test"}


def test_cars_with_mat_files(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is an optional package")
    kind = [("relative_im_path", object), ("bbox_x1", object), ("class", object), ("test", object)]
    rows = np.array([("car_ims/1.jpg", 1, 1, 0), ("car_ims/2.jpg", 1, 2, 0), ("car_ims/3.jpg", 1, 99, 1)], dtype=kind)
    names = np.array([f"Car {n}" for n in range(1, 100)], dtype=object)
    for n in (1, 2, 3):
        draw(tmp_path / f"car_ims/{n}.jpg")
    scipy_io.savemat(tmp_path / "cars_annos.mat", {"annotations": rows, "class_names": names})
    assert read(tmp_path, "cars196")[0].splits == ["train", "train", "eval"]


def test_products10k(tmp_path: Path) -> None:
    for path in ("train/0.jpg", "train/1.jpg", "test/0.jpg"):
        draw(tmp_path / path)
    write(tmp_path / "train.csv", "name,class,group\n0.jpg,0,0\n1.jpg,1,0\n")
    write(tmp_path / "test_kaggletest.csv", "name,class,Usage\n0.jpg,1,Public\n")
    rows, _ = read(tmp_path, "products10k")
    assert ("test/0.jpg", "1", "test") in table(rows)
    made = prepared(tmp_path)
    assert made.gallery is not None and made.gallery.paths() == ["train/0.jpg", "train/1.jpg"]


def test_market1501(tmp_path: Path) -> None:
    root = tmp_path / "Market-1501-v15.09.15"
    for name in ("0002_c1s1_000451_03.jpg", "0007_c2s1_000451_03.jpg"):
        draw(root / "bounding_box_train" / name)
    draw(root / "query" / "0003_c1s1_000001_00.jpg")
    gallery = ("0003_c2s1_000002_00.jpg", "0003_c1s1_000003_00.jpg", "-1_c1s1_000401_03.jpg", "0000_c1s1_000005_01.jpg")
    for name in gallery:
        draw(root / "bounding_box_test" / name)
    write(root / "bounding_box_test" / "Thumbs.db", "x")
    read(tmp_path, "market1501")
    made = prepared(tmp_path)
    assert made.class_num == 2 and made.query is not None and made.gallery is not None
    assert made.gallery.labels.tolist() == [-1, 2, 2]  # the distractor, then the person; junk is left out
    assert made.query.ids is not None and made.query.ids.tolist() == [1]
    assert made.gallery.ids is not None and made.gallery.ids.tolist() == [1, 1, 2]


def test_veri776_whose_queries_lie_in_the_gallery_too(tmp_path: Path) -> None:
    root = tmp_path / "VeRi"
    for name in ("0001_c001_00016450_0.jpg", "0004_c001_00016450_0.jpg"):
        draw(root / "image_train" / name)
    draw(root / "image_query" / "0002_c002_00030600_0.jpg")
    draw(root / "image_test" / "0002_c003_00030600_0.jpg")
    same = (root / "image_query" / "0002_c002_00030600_0.jpg").read_bytes()
    (root / "image_test" / "0002_c002_00030600_0.jpg").write_bytes(same)
    read(tmp_path, "veri776")
    made = prepared(tmp_path)
    assert "twin" not in made.problems.cases and "leak" not in made.problems.cases
    assert made.query is not None and made.query.ids is not None and made.query.ids.tolist() == [2]


def test_oml_table_with_boxes_and_flags(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        draw(tmp_path / f"{name}.jpg")
    head = "label,path,split,is_query,is_gallery,x_1,x_2,y_1,y_2\n"
    body = "0,a.jpg,train,,,1,20,2,21\n1,b.jpg,train,,,,,,\n"
    body += "5,c.jpg,validation,True,True,,,,\n5,d.jpg,validation,False,True,,,,\n"
    write(tmp_path / "df.csv", head + body)
    rows, _ = read(tmp_path, "table")
    assert rows.boxes == {0: (1, 2, 20, 21)}
    made = prepared(tmp_path)
    assert made.query is not None and made.gallery is not None
    assert made.query.paths() == ["c.jpg"] and made.gallery.paths() == ["c.jpg", "d.jpg"]


def test_a_table_that_marks_queries_and_gallery_without_a_column_of_splits(tmp_path: Path) -> None:
    for name in "abcde":
        draw(tmp_path / f"{name}.jpg")
    body = "a.jpg,nut,0,0\nb.jpg,screw,0,\nc.jpg,bolt,yes,1\nd.jpg,bolt,no,1\n"
    write(tmp_path / "df.csv", "image,label,Is Query,isGallery\n" + body)
    read(tmp_path, "table")
    made = prepared(tmp_path)
    assert made.query is not None and made.gallery is not None
    assert made.train.paths() == ["a.jpg", "b.jpg"]
    assert made.query.paths() == ["c.jpg"] and made.gallery.paths() == ["c.jpg", "d.jpg"]
    write(tmp_path / "df.csv", "image,label,Is Query,isGallery\n" + body + "e.jpg,bolt,maybe,1\n")
    assert "df.csv:6 Is Query is 'maybe', expected yes or no" in prepared(tmp_path).problems.lines("error")[0]


def test_a_table_with_columns_named_by_the_user(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / f"{name}.jpg")
    write(tmp_path / "t.tsv", "Bild\tArtikel\ttag\na.jpg\tSchraube M4\tx\nb.jpg\tMutter\ty\n")
    made = find_format(Source(tmp_path), "table")
    rows = made.read(Source(tmp_path / "t.tsv", ReadOptions({"image": "Bild", "label": "Artikel"})), Problems())
    assert rows.labels == ["Schraube M4", "Mutter"]
    with pytest.raises(UsageError, match="no column 'Foto'; there are Bild, Artikel, tag"):
        made.read(Source(tmp_path / "t.tsv", ReadOptions({"image": "Foto", "label": "Artikel"})), Problems())


def test_labelme(tmp_path: Path) -> None:
    for n, flags in enumerate(({"cat": True, "dog": False}, {"cat": False, "dog": True}, {"cat": False})):
        draw(tmp_path / f"images/{n}.jpg")
        write(tmp_path / f"annotations/{n}.json", json.dumps({"flags": flags, "imagePath": f"..\\images\\{n}.jpg"}))
    rows, problems = read(tmp_path, "labelme")
    assert table(rows) == [("images/0.jpg", "cat", ""), ("images/1.jpg", "dog", "")]
    assert problems.cases["bad-annotation"].count == 1


def test_paddlex_lists(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        draw(tmp_path / f"images/{name}.jpg")
    write(tmp_path / "train.txt", "images/a.jpg 0\nimages/b.jpg 1\n")
    write(tmp_path / "gallery.txt", "images/c.jpg 2\n")
    write(tmp_path / "query.txt", "images/d.jpg 2\n")
    rows, _ = read(tmp_path, "list")
    assert [row[2] for row in table(rows)] == ["train", "train", "gallery", "query"]


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_lists_of_all_spellings(tmp_path: Path, separator: str, ending: str, encoding: str) -> None:
    names = ["images/my cat.jpg", "images/红色 苹果.png", "images/b.JPG"]
    for name in names:
        draw(tmp_path / name)
    lines = [f"{name}{separator}{n}" for n, name in enumerate(names)]
    write(tmp_path / "train_list.txt", ending.join([*lines, "", ""]), encoding)
    rows, problems = read(tmp_path, "list")
    assert rows.paths == names and rows.labels == ["0", "1", "2"]
    assert problems.count("error") == 0


def test_grocery(grocery_dir: Path) -> None:
    made = prepared(grocery_dir, quick=True)
    assert (len(made.train), made.class_num) == (2640, 81)
    assert made.query is not None and made.gallery is not None
    assert (len(made.query), len(made.gallery)) == (296, 2640)
    assert not made.problems.cases
    assert made.names["Golden-Delicious"] == 0


def test_merged_sources_keep_their_labels_apart(
    tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]
) -> None:
    make_images(tmp_path / "x" / "first", classes=2, seed=1)
    make_images(tmp_path / "x" / "second", classes=2, seed=2)
    made = read_and_split(
        [tmp_path / "x" / "first", tmp_path / "x" / "second"], Choices(split="none", keep_apart=True), SilentReporter()
    )
    assert made.class_num == 4
    assert set(made.names) == {f"{s}/class_00{k}" for s in ("first", "second") for k in (0, 1)}
    assert all((made.image_root / path).is_file() for path in made.train.paths())


def test_broken_sources_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ShituError, match="no such folder"):
        check_source(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        prepared(tmp_path / "empty")
    write(tmp_path / "docs" / "a" / "readme.md", "x")
    with pytest.raises(DataError, match="no labelled images"):
        prepared(tmp_path / "docs")
