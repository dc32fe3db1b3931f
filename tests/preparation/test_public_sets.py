"""The public data sets in the other ways in which people have them on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.prepare import Choices, read_and_split
from shitu_cli.reporting import SilentReporter
from tests.preparation.annotation_trees import draw_all, kinds, labels, read, splits, write

WILD = ("00001/000001.jpg", "00002/000002.jpg", "11542/119083.jpg", "11542/119084.jpg", "11542/119085.jpg")
HEX = ("0123456789abcdef", "1e45678901234567", "2220000000000000")


def path(folder: str, image: str) -> str:
    return f"{folder}/{'/'.join(image[:3])}/{image}.jpg"


@pytest.mark.parametrize("train", ["train_list_start0.txt", "train_list.txt"])
@pytest.mark.parametrize("beside", [True, False])
def test_veriwild_with_cameras_in_lists_of_either_name_and_place(tmp_path: Path, train: str, beside: bool) -> None:
    draw_all(tmp_path / "images", *WILD)
    lists = tmp_path if beside else tmp_path / "train_test_split"
    write(lists / train, "00001/000001.jpg 0 23\n00002/000002.jpg 1 24\n")
    write(lists / "test_3000_id_query.txt", "11542/119083.jpg 1 23\n")
    write(lists / "test_3000_id.txt", "11542/119084.jpg 1 24\n11542/119085.jpg 1 23\n")
    rows, problems = read(tmp_path, "veriwild")
    # Label 1 is another vehicle in the test lists: the folders are the classes.
    assert labels(rows) == {name: name.partition("/")[0] for name in WILD}
    assert rows.splits == ["train", "train", "query", "gallery", "gallery"]
    assert list(rows.ids.values()) == ["23", "24", "23", "24", "23"]
    assert not kinds(problems)


def test_veriwild_without_its_lists_names_what_is_missing(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", *WILD)
    write(tmp_path / "test_3000_id.txt", "11542/119084.jpg 1 24\n")
    with pytest.raises(DataError, match=r"train_list_start0\.txt is missing"):
        read(tmp_path, "veriwild")


def landmarks(root: Path, place: str) -> None:
    draw_all(root, *(path("train", image) for image in HEX))
    rows = f'{HEX[0]},http://x,7\n{HEX[1]},"http://x,y",7\n{HEX[2]},http://x,9\n'
    write(root / place / "train.csv", f"id,url,landmark_id\n{rows}")


@pytest.mark.parametrize("place", ["metadata", "", "train"])
def test_landmarks_without_the_clean_list(tmp_path: Path, place: str) -> None:
    landmarks(tmp_path, place)
    rows, _ = read(tmp_path, "gldv2")
    assert labels(rows) == {path("train", image): label for image, label in zip(HEX, "779", strict=True)}
    assert set(rows.splits) == {"train"}


def test_landmarks_with_tables_in_the_folders_of_their_images(tmp_path: Path) -> None:
    landmarks(tmp_path, "train")
    draw_all(tmp_path, path("index", "aaa0000000000000"), path("test", "ccc0000000000000"))
    write(tmp_path / "train/train_clean.csv", f"landmark_id,images\n7,{HEX[0]} {HEX[1]}\n9,{HEX[2]}\n")
    write(tmp_path / "index/index_image_to_landmark.csv", "id,landmark_id\naaa0000000000000,7\n")
    write(tmp_path / "test/retrieval_solution_v2.1.csv", "id,images,Usage\nccc0000000000000,aaa0000000000000,Public\n")
    rows, _ = read(tmp_path, "gldv2")
    assert set(rows.labels) == {"train-7", "train-9", "index-7"}
    assert splits(rows)[path("test", "ccc0000000000000")] == "query"


def test_a_table_of_landmarks_that_is_cut_off_is_reported(tmp_path: Path) -> None:
    landmarks(tmp_path, "metadata")
    with (tmp_path / "metadata/train.csv").open("a") as file:
        file.write("3330000000000000,http\n../../etc/passwd,x,9\n")
    rows, problems = read(tmp_path, "gldv2")
    assert len(rows) == 3
    assert [where.rpartition(":")[2] for where, _ in problems.cases["malformed"].examples] == ["5", "6"]


def test_inshop_with_its_images_still_packed_says_so(tmp_path: Path) -> None:
    head = "1\nimage_name item_id evaluation_status\n"
    write(tmp_path / "Eval/list_eval_partition.txt", f"{head}img/WOMEN/1.jpg id_1 train\n")
    write(tmp_path / "Img/img.zip", "PK")
    with pytest.raises(DataError, match="no folder img/") as error:
        read(tmp_path, "inshop")
    assert "unzip" in (error.value.hint or "") and "img.zip" in (error.value.hint or "")


def test_no_hint_names_an_option_that_the_format_refuses(tmp_path: Path) -> None:
    write(tmp_path / "names.csv", "AM General\nAcura\n")
    write(tmp_path / "anno_train.csv", "1.jpg,1,1,2,3,1\n")
    for number in (1, 2):
        write(tmp_path / f"car_data/train/{('AM General', 'Acura')[number - 1]}/{number}.jpg", "")
    with pytest.raises(DataError, match="none of the 2") as error:
        read_and_split([tmp_path], Choices(), SilentReporter())
    assert "--image-root" not in (error.value.hint or "")
    write(tmp_path / "list/train.txt", "gone/1.jpg 0\ngone/2.jpg 1\n")
    with pytest.raises(DataError) as error:
        read_and_split([tmp_path / "list"], Choices(), SilentReporter())
    assert "--image-root" in (error.value.hint or "")


def test_tiny_imagenet(tmp_path: Path) -> None:
    draw_all(
        tmp_path,
        "train/n1/images/n1_0.JPEG",
        "train/n2/images/n2_0.JPEG",
        "val/images/val_0.JPEG",
        "test/images/t.JPEG",
    )
    write(tmp_path / "train/n1/n1_boxes.txt", "n1_0.JPEG\t0\t0\t9\t9\n")
    write(tmp_path / "val/val_annotations.txt", "val_0.JPEG\tn2\t0\t32\t44\t62\nval_1.JPEG\n")
    write(tmp_path / "wnids.txt", "n1\nn2\n")
    write(tmp_path / "words.txt", "n1\tgoldfish, Carassius auratus\nn2\tbull\nn3\tbull\n")
    rows, problems = read(tmp_path, "tiny-imagenet")
    assert labels(rows) == {
        "train/n1/images/n1_0.JPEG": "n1",
        "train/n2/images/n2_0.JPEG": "n2",
        "val/images/val_0.JPEG": "n2",
    }
    assert rows.splits == ["train", "train", "val"]
    assert rows.display == {"n1": "goldfish", "n2": "bull"}
    assert problems.cases["malformed"].examples[0][0].endswith("val_annotations.txt:2")


def test_aircraft_by_variant_and_by_family(tmp_path: Path) -> None:
    draw_all(tmp_path / "data/images", "0025317.jpg", "0003171.jpg")
    write(tmp_path / "data/images_variant_train.txt", "0025317 737-200\n")
    write(tmp_path / "data/images_variant_test.txt", "0003171 Cessna 525\nodd\n")
    write(tmp_path / "data/images_family_train.txt", "0025317 Boeing 737\n")
    rows, problems = read(tmp_path, "aircraft")
    assert labels(rows) == {"0025317.jpg": "737-200", "0003171.jpg": "Cessna 525"}
    assert rows.splits == ["train", "test"] and kinds(problems) == {"malformed": 1}
    assert labels(read(tmp_path, "aircraft", protocol="family")[0]) == {"0025317.jpg": "Boeing 737"}
    with pytest.raises(UsageError, match="variant, family, manufacturer"):
        read(tmp_path, "aircraft", protocol="size")
