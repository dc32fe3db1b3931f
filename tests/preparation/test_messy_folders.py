"""Folders as people have them, of shops, phones and competitions: read rightly, or asked about with a way out."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_asked, builders
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, Labels, labels, many, read, table


def names_of(right: Labels) -> list[tuple[str, str]]:
    """File names without folders, with their classes."""
    return [(Path(path).name, name) for path, name in right.items()]


# --- Spreadsheets ---


def semicolons_and_a_byte_order_mark(root: Path) -> Labels:
    right = many(root, "Bilder/{k}_{i}.JPG")
    lines = "".join(f"{file};{name};3,99\r\n" for file, name in names_of(right))
    write(root / "Liste.csv", "\ufeffBild;Artikel;Preis\r\n" + lines)
    return right


def german_names_as_excel_saves_them(root: Path) -> Labels:
    right = many(root, "Fotos/{k}_{i}.jpg", names=("Äpfel", "Müsli", "Käse"))
    lines = "".join(f"{file};{name}\r\n" for file, name in names_of(right))
    (root / "Artikel.csv").write_bytes(f"Datei;Bezeichnung\r\n{lines}".encode("cp1252"))
    return right


def polish_names_as_excel_saves_them(root: Path) -> Labels:
    right = many(root, "foto/{k}_{i}.jpg", names=("jabłko", "śliwka", "gołąbki", "żurek"))
    lines = "".join(f"{file};{name}\r\n" for file, name in names_of(right))
    (root / "lista.csv").write_bytes(f"plik;nazwa\r\n{lines}".encode("cp1250"))
    return right


def text_for_unicode_of_excel(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("苹果", "梨", "香蕉"))
    lines = "".join(f"{path}\t{name}\r\n" for path, name in right.items())
    (root / "l.txt").write_bytes(f"image\tlabel\r\n{lines}".encode("utf-16"))
    return right


def a_title_above_the_header(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    lines = "".join(f"{file};{name};3\n" for file, name in names_of(right))
    write(root / "l.csv", f"Product list 2024;;\nimage;label;price\n{lines}")
    return right


def empty_columns_and_rows_at_the_end(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    lines = "".join(f"{path},{name},,,\n" for path, name in right.items())
    write(root / "l.csv", f"image,label,,,\n{lines},,,,\n,,,,\n")
    return right


def quotes_and_commas_in_names(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("Milk, 1 l", 'Juice "red"', "Bread"))
    with (root / "l.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), *right.items()])
    return right


def zeros_before_numbers(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("00123", "00456", "01234"))
    table(root / "l.csv", ("image", "sku"), *names_of(right))
    return right


def numbers_that_became_decimal(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("123", "456", "789"))
    table(root / "l.csv", ("image", "sku"), *((file, f"{name}.0") for file, name in names_of(right)))
    return right


def truth_values_for_classes(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("True", "False"))
    table(root / "labels.csv", ("file", "defect"), *right.items())
    return right


def dates_for_classes_in_a_table(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("2024-01-01", "2024-02-01"))
    table(root / "labels.csv", ("file", "label"), *right.items())
    return right


def decimal_commas_in_boxes(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    box = ("1,5", "2", "20,25", "30")
    header = ("image", "label", "xmin", "ymin", "xmax", "ymax")
    table(root / "boxes.csv", header, *((file, name, *box) for file, name in names_of(right)), sep=";")
    return right


def a_second_table_of_products(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg", names=("S0", "S1", "S2", "S3"))
    table(root / "images.csv", ("image", "sku"), *names_of(right))
    table(root / "products.csv", ("sku", "name"), *((f"S{k}", name) for k, name in enumerate(NAMES)))
    return right


# --- Competitions, notebooks, other machines ---


def ids_without_suffix_and_a_submission(root: Path) -> Labels:
    right = many(root, "train/{k}_{i}.jpg")
    many(root, "test/x{k}_{i}.jpg", 2)
    table(root / "train.csv", ("Id", "breed"), *((Path(file).stem, name) for file, name in names_of(right)))
    table(root / "sample_submission.csv", ("Id", "breed"), *((f"x{k}_{i}", "pear") for k in range(4) for i in range(2)))
    return right


def paths_of_windows(root: Path) -> Labels:
    right = many(root, "imgs/{k}_{i}.jpg")
    rows = ((rf"C:\Users\me\Desktop\data\imgs\{file}", name) for file, name in names_of(right))
    table(root / "data.csv", ("path", "class"), *rows)
    return right


def paths_of_a_notebook_with_an_index(root: Path) -> Labels:
    right = many(root, "images/{k}_{i}.jpg")
    rows = ((n, f"/content/drive/MyDrive/images/{file}", name) for n, (file, name) in enumerate(names_of(right)))
    table(root / "df.csv", ("", "filepath", "label"), *rows)
    return right


def one_hot_of_roboflow(root: Path) -> Labels:
    right = many(root, "train/{k}_{i}.jpg")
    rows = ((file, *(f" {int(name == other)}" for other in NAMES)) for file, name in names_of(right))
    table(root / "train/_classes.csv", ("filename", *(f" {name}" for name in NAMES)), *rows)
    return right


def folders_of_roboflow(root: Path) -> Labels:
    right = many(root, "train/{name}/a_{i}_jpg.rf.0123456789abcdef.jpg")
    right |= many(root, "valid/{name}/b_{i}_jpg.rf.0123456789abcdef.jpg", 2)
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        write(root / name, "exported by roboflow.com\n")
    return right


def the_same_folder_twice_above_the_splits(root: Path) -> Labels:
    return {**many(root, "data/data/train/{name}/{i}.jpg"), **many(root, "data/data/valid/{name}/v{i}.jpg", 2)}


def a_download_of_a_download(root: Path) -> Labels:
    return many(root, "My Dataset v3 (1)/My Dataset v3/{name}/{i}.png")


def lines_of_json(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    write(root / "labels.jsonl", "".join(json.dumps({"image": p, "text": n}) + "\n" for p, n in right.items()))
    return right


def an_object_of_json(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    write_json(root / "labels.json", right)
    return right


def tabs_without_header(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    table(root / "labels.txt", *right.items(), sep="\t")
    return right


def semicolons_without_header(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    table(root / "labels.csv", *right.items(), sep=";")
    return right


def blanks_in_paths_and_names_of_a_list(root: Path) -> Labels:
    right = many(root, "img/{k} {i}.jpg", names=("red apple", "green pear"))
    table(root / "labels.txt", *right.items(), sep=" ")
    return right


# --- Phones, systems, links ---


def leftovers_of_macos_and_windows(root: Path) -> Labels:
    right = many(root, "{name}/IMG_{i}.JPG")
    for path in right:
        write(root / Path(path).parent / f"._{Path(path).name}", "\0\5\26\7")
    many(root, "__MACOSX/{name}/IMG_{i}.JPG")
    for name in (".DS_Store", "apple/Thumbs.db", "apple/desktop.ini"):
        write(root / name, "x")
    return right


def caches_that_are_hidden(root: Path) -> Labels:
    right = many(root, "{name}/{i}.jpg")
    many(root, ".cache/{name}/{i}.jpg")
    many(root, "apple/.ipynb_checkpoints/{i}-checkpoint.jpg", 1)
    return right


def an_export_of_google(root: Path) -> Labels:
    right = many(root, "{name}/IMG_{i}.jpg")
    for path in right:
        write_json(root / f"{path}.json", {"title": Path(path).name, "photoTakenTime": {"timestamp": "1"}})
    return right


def films_among_the_photos(root: Path) -> Labels:
    right = many(root, "{name}/PXL_2024010112{i}.jpg")
    for name in NAMES:
        write(root / name / "PXL_2024.mp4", "x")
        write_json(root / name / "metadata.json", {"title": name})
    return right


def suffixes_of_any_case(root: Path) -> Labels:
    right = {}
    for path, name in many(root, "{name}/{i}.jpg").items():
        other = path.replace(".jpg", ".JPEG" if "0" in path else ".Jpg")
        os.rename(root / path, root / other)
        right[other] = name
    return right


def no_suffixes(root: Path) -> Labels:
    right = {path.removesuffix(".jpg"): name for path, name in many(root, "{name}/{i}.jpg").items()}
    for path in right:
        os.rename(root / f"{path}.jpg", root / path)
    return right


def numbers_for_folders(root: Path) -> Labels:
    return many(root, "{name}/{i}.jpg", names=("0", "1", "2", "10"))


def emoji_and_blanks(root: Path) -> Labels:
    return many(root, "{name}/my photo {i} (1).jpg", names=("🍎 apple", "🍐 pear", "a  b"))


def folders_that_are_links(root: Path) -> Labels:
    right = many(root.parent / "elsewhere", "{name}/{i}.jpg")
    root.mkdir()
    for name in NAMES:
        os.symlink(root.parent / "elsewhere" / name, root / name)
    return right


def files_that_are_links(root: Path) -> Labels:
    right = {}
    for path, name in many(root.parent / "elsewhere", "{name}_{i}.jpg").items():
        (root / name).mkdir(parents=True, exist_ok=True)
        right[f"{name}/{path}"] = name
        os.symlink(root.parent / "elsewhere" / path, root / name / path)
    return right


READ = builders(globals(), "Labels")


@pytest.mark.parametrize("build", READ, ids=lambda build: build.__name__)
def test_it_is_read(build: Callable[[Path], Labels], tmp_path: Path) -> None:
    root = tmp_path / "data"
    right = build(root)
    prepared = read(root)
    # Links lead to where the images are.
    found = {path.rpartition("elsewhere/")[2]: name for path, name in labels(prepared, root).items()}
    assert found == right
    assert prepared.problems.count("error") == 0


# --- The user's to say ---


def two_columns_that_may_be_the_class(root: Path) -> tuple[str, ...]:
    right = many(root, "images/{k}{i}.jpg")
    table(root / "a.csv", ("image", "brand", "product"), *((file, name[:1], name) for file, name in names_of(right)))
    return ("brand or product", "line 2 is 'apple'", "--columns image=image,label=brand")


def one_name_in_two_folders(root: Path) -> tuple[str, ...]:
    right = many(root, "a/{k}_{i}.jpg")
    many(root, "b/{k}_{i}.jpg")
    table(root / "l.csv", ("image", "label"), *names_of(right))
    return ("l.csv", "may be those of a or b", "--image-root")


def a_folder_of_one_name_in_each_class(root: Path) -> tuple[str, ...]:
    many(root, "{name}/large/{i}.jpg")
    return ("which level of folders", "several folders hold one called large", "--depth 1")


def a_spreadsheet_with_the_labels(root: Path) -> tuple[str, ...]:
    many(root, "img/{k}_{i}.jpg")
    with zipfile.ZipFile(root / "list.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "x")
    return ("only one class", "list.xlsx", "save it as CSV UTF-8")


def a_table_that_names_other_images(root: Path) -> tuple[str, ...]:
    many(root, "img/{k}_{i}.jpg")
    table(root / "labels.csv", ("image", "label"))
    return ("only one class", "labels.csv (no image that is here is recognised in it)", "16 images in the folder img")


def annotations_that_are_empty(root: Path) -> tuple[str, ...]:
    for path in many(root, "images/{k}_{i}.jpg"):
        write(root / "labels" / f"{Path(path).stem}.txt", "")
    write(root / "data.yaml", "names: [a, b]\ntrain: images\n")
    return ("only one class", "16 .txt files beside images, which are empty: nothing is annotated in them")


def boxes_of_one_class(root: Path) -> tuple[str, ...]:
    for path in many(root, "images/{k}_{i}.jpg"):
        write(root / "labels" / f"{Path(path).stem}.txt", "0 0.5 0.5 0.4 0.4\n")
    write(root / "data.yaml", "names: [bottle]\n")
    return ("only one class to train on: 'bottle'", "16 images, all of them 'bottle'", "--format class-tree")


def nothing_annotated_in_coco(root: Path) -> tuple[str, ...]:
    images = [{"id": n, "file_name": Path(path).name} for n, path in enumerate(many(root, "{k}_{i}.jpg"))]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    write_json(root / "ann.json", {"images": images, "annotations": [], "categories": categories})
    return ("nothing is annotated in any of its 16 images", "images[0]", "--format class-tree")


ASKED = builders(globals(), "tuple[str, ...]")


@pytest.mark.parametrize("build", ASKED, ids=lambda build: build.__name__)
def test_it_is_asked_about(build: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    assert_asked(build, tmp_path / "data")


def test_rounded_numbers_are_said(tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}_{i}.jpg", names=("4.00557E+12", "4,00558E+12", "4005591"))
    table(tmp_path / "l.csv", ("image", "ean"), *((f'"{file}"', f'"{name}"') for file, name in names_of(right)))
    cases = read(tmp_path).problems.cases["rounded-label"].examples
    assert sorted(where for where, _ in cases) == ["4,00558E+12", "4.00557E+12"]
