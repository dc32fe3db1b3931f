"""Layouts that people have, beyond those of tools: what `prepare` makes of each, or what it asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.errors import ShituError
from shitu_cli.preparation.formats.base import ReadOptions
from shitu_cli.preparation.prepare import Choices, Prepared, read_and_split
from shitu_cli.preparation.reading import check_source
from shitu_cli.reporting import SilentReporter
from tests.preparation.test_formats import draw, write

NAMES = ("apple", "pear", "lemon", "plum")
Labels = dict[str, str]


def many(root: Path, pattern: str, each: int | Iterable[int] = 4, names: Iterable[str] = NAMES) -> Labels:
    """Draw images of several classes, `pattern` with {k}, {i} and {name}; path → class name."""
    found = {}
    for k, name in enumerate(names):
        for i in range(each) if isinstance(each, int) else each:
            path = pattern.format(k=k, i=i, name=name)
            draw(root / path, (40, 36))
            found[path] = name
    return found


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def table(path: Path, *rows: Iterable[object], sep: str = ",") -> None:
    write(path, "".join(sep.join(map(str, row)) + "\n" for row in rows))


def read(root: Path, source: str = "", **options: object) -> Prepared:
    choices = Choices(quick=True, read=ReadOptions(**options))  # type: ignore[arg-type]
    return read_and_split([root / source], choices, SilentReporter())


def labels(made: Prepared, root: Path) -> Labels:
    """path below `root` → class name, over all lists."""
    names = {number: name for name, number in made.names.items()}
    found = {}
    for part in (made.train, made.query, made.gallery):
        for n in range(len(part)) if part is not None else ():
            path = os.path.relpath(os.path.abspath(made.image_root / part.path(n)), root)
            found[path] = names[int(part.labels[n])]
    return found


def queries(made: Prepared, root: Path) -> set[str]:
    assert made.query is not None
    return {os.path.relpath(os.path.abspath(made.image_root / path), root) for path in made.query.paths()}


# --- Read rightly ---


def columns_of_a_shop(root: Path) -> Labels:
    right = many(root, "photos/{k}_{i}.jpg")
    rows = ((f"photos/{k}_{i}.jpg", 9.9 + k, "2024-01-0" + str(i + 1), NAMES[k]) for k in range(4) for i in range(4))
    table(root / "stock.csv", ("picture", "price", "added", "product"), *rows)
    return right


def label_before_names(root: Path) -> Labels:
    right = many(root, "{k}_{i}.jpg")
    table(root / "t.csv", ("path", "label", "label_name"), *((p, NAMES.index(n), n) for p, n in right.items()))
    return right


def label_and_coarse_category(root: Path) -> Labels:
    right = many(root, "{k}_{i}.jpg")
    table(root / "t.csv", ("path", "category", "label"), *((p, "ab"[NAMES.index(n) // 2], n) for p, n in right.items()))
    return right


def semicolons_and_a_blank_line(root: Path) -> Labels:
    right = many(root, "{k}_{i}.jpg")
    write(root / "t.csv", "file;class\n\n" + "".join(f"{p};{n}\n" for p, n in right.items()))
    return right


def quoted_commas(root: Path) -> Labels:
    right = many(root, "{k}_{i}.jpg", names=("big, red", "small, red", 'a "b"'))
    quoted = {n: '"' + n.replace('"', '""') + '"' for n in right.values()}
    write(root / "t.csv", "file,title\n" + "".join(f"{p},{quoted[n]}\n" for p, n in right.items()))
    return right


def table_in_a_folder_of_its_own(root: Path) -> Labels:
    right = many(root, "data/images/{k}{i}a.jpg")
    table(root / "data/meta/labels.csv", ("image", "label"), *((p[12:], n) for p, n in right.items()))
    return right


def ids_without_suffix(root: Path) -> Labels:
    right = many(root, "train/{k}f{i}c2.png")
    table(root / "train.csv", ("id", "breed"), *((p[6:-4], n) for p, n in right.items()))
    many(root, "test/x{k}{i}.png", 1)
    return right


def a_table_without_header_label_last(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    write(root / "train.csv", "".join(f"img/{p[4:]},{n}\n" for p, n in right.items()))
    return right


def label_first_list(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    write(root / "list.txt", "".join(f"{n}\t{p}\n" for p, n in right.items()))
    return right


def pipes(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    write(root / "labels.txt", "".join(f"{p}|{n}\n" for p, n in right.items()))
    return right


def blanks_in_paths(root: Path) -> Labels:
    right = many(root, "my photos/{name} {i}.jpg")
    write(root / "train.txt", "".join(f"my photos/{p[10:]} {n}\n" for p, n in right.items()))
    return right


def two_suffixes_in_a_name(root: Path) -> Labels:
    right = many(root, "{name}/{i}.jpg 640w.jpg")
    write(root / "train_list.txt", "".join(f"{p}\t{n}\n" for p, n in right.items()))
    return right


def other_case(root: Path) -> Labels:
    right = many(root, "Images/{k}_{i}.JPG")
    table(root / "t.csv", ("image", "label"), *((p.lower(), n) for p, n in right.items()))
    return right


def a_windows_share(root: Path) -> Labels:
    right = many(root, "img/{k}_{i}.jpg")
    table(root / "t.csv", ("image", "label"), *((r"\\nas\shop\img" + f"\\{p[4:]}", n) for p, n in right.items()))
    return right


def addresses_with_escapes(root: Path) -> Labels:
    right = many(root, "got/{name} {i}.jpg")
    encoded = ((f"https://x.example/a/{p[4:].replace(' ', '%20')}?w=1", n) for p, n in right.items())
    table(root / "t.csv", ("url", "label"), *encoded)
    return right


def batches_by_date(root: Path) -> Labels:
    return many(root, "{name}/20240115/{i}.jpg") | many(root, "{name}/20240116/{i}.jpg")


def products_in_brands(root: Path) -> Labels:
    return {p: "/".join(p.split("/")[:2]) for p in many(root, "brand{k}/{name}/{i}.jpg")}


def an_archive_in_an_archive(root: Path) -> Labels:
    return many(root, "fruit/fruit-v2/images/{name}/{i}.jpg")


def letters_that_are_classes(root: Path) -> Labels:
    return many(root, "{name}/{name}_{i}.jpg", names="abcd")


def masks_beside(root: Path) -> Labels:
    right = many(root, "images/{name}/{name}{i}.jpg")
    many(root, "masks/{name}/{name}{i}.png")
    write(root / "readme.md", "x")
    return right


def masks_of_the_images_beside(root: Path) -> Labels:
    """Painted ones, named and numbered like the images, are no class; with two kinds of them."""
    right = many(root, "{name}/{name}_{i}.png")
    for number, path in enumerate(right):
        painted = np.full((36, 40, 3), (200, 30 * (number % 4), 10), np.uint8)
        painted[8:20, 10:30] = (0, 255, 255)
        write_image(root / "masks" / path.rpartition("/")[2], painted)
        write_image(root / "depth" / path.rpartition("/")[2], np.tile(np.arange(40, dtype=np.uint8) * 6, (36, 1)))
    return right


def classes_called_as_masks_are(root: Path) -> Labels:
    """Faces with and without a mask, numbered from 0 in each folder; so are alpha and labels."""
    return many(root, "{name}/{i}.jpg", names=("mask", "no_mask", "alpha", "beta", "labels"))


def names_of_hashes(root: Path) -> Labels:
    found = many(root, "{name}/{k}{i}ff.jpg")
    for path in list(found):
        (root / path).rename(root / path[:-4])
    return {path[:-4]: name for path, name in found.items()}


READ: list[tuple[Callable[[Path], Labels], str]] = [
    *((build, "") for build in (
        columns_of_a_shop, label_before_names, label_and_coarse_category, semicolons_and_a_blank_line, quoted_commas,
        table_in_a_folder_of_its_own, ids_without_suffix, a_table_without_header_label_last, label_first_list, pipes,
        blanks_in_paths, two_suffixes_in_a_name, other_case, a_windows_share, addresses_with_escapes, batches_by_date,
        products_in_brands, an_archive_in_an_archive, letters_that_are_classes, masks_beside, names_of_hashes,
        masks_of_the_images_beside, classes_called_as_masks_are,
    )),
]  # fmt: skip


@pytest.mark.parametrize(("build", "source"), READ, ids=lambda value: getattr(value, "__name__", str(value)))
def test_read(build: Callable[[Path], Labels], source: str, tmp_path: Path) -> None:
    right = build(tmp_path)
    made = read(tmp_path, source)
    assert labels(made, tmp_path) == right
    assert made.query is not None and made.rows.readings


# --- Splits ---


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "val"), ("Training", "Testing"), ("train_images", "test_images"), ("01-train", "02-test"),
        ("fruit_train", "fruit_test"), ("train2017", "val2017"), ("TRAIN_SET", "VALIDATION_SET"),
        ("data/trn", "data/tst"), ("训练集", "测试集"),
    ],
)  # fmt: skip
def test_spellings_of_splits(train: str, test: str, tmp_path: Path) -> None:
    right, held = many(tmp_path, train + "/{name}/{i}.jpg"), many(tmp_path, test + "/{name}/{i}.jpg", (7, 8))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right | held and queries(made, tmp_path) == held.keys()


def test_splits_below_the_classes(tmp_path: Path) -> None:
    right, held = many(tmp_path, "{name}/train/{i}.jpg"), many(tmp_path, "{name}/test/{i}.jpg", (7, 8))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right | held and queries(made, tmp_path) == held.keys()


def test_lists_of_paths_split_a_table(tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}_{i}.jpg", 6)
    table(tmp_path / "labels.csv", ("image", "label"), *right.items())
    for name, chosen in (("train", range(4)), ("test", (4, 5))):
        write(tmp_path / f"{name}.txt", "".join(f"img/{k}_{i}.jpg\n" for k in range(4) for i in chosen))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right
    assert queries(made, tmp_path) == {f"img/{k}_{i}.jpg" for k in range(4) for i in (4, 5)}


# --- Asked, with both readings and the way out ---


def two_finer_columns(root: Path) -> None:
    many(root, "{k}_{i}.jpg")
    rows = ((f"{k}_{i}.jpg", "ab"[k // 2], k) for k in range(4) for i in range(4))
    table(root / "t.csv", ("file", "brand", "model"), *rows)


def two_tables_that_disagree(root: Path) -> None:
    right = many(root, "{k}_{i}.jpg")
    table(root / "labels.csv", ("file", "label"), *right.items())
    table(root / "labels_new.csv", ("file", "label"), *((p, n[::-1]) for p, n in right.items()))


def two_folders_of_one_list(root: Path) -> None:
    right = many(root, "large/{k}_{i}.jpg")
    many(root, "small/{k}_{i}.jpg")
    table(root / "t.csv", ("file", "label"), *((p[6:], n) for p, n in right.items()))


def colours_below_models(root: Path) -> None:
    for colour in ("red", "blue"):
        many(root, "{name}/" + colour + "/{i}.jpg")


def images_at_two_levels(root: Path) -> None:
    many(root, "{name}/{i}.jpg")
    many(root, "apple/gala/{i}.jpg", names=("x",))


def boxes_either_way(root: Path) -> None:
    right = many(root, "{k}_{i}.jpg")
    table(root / "t.csv", ("file", "label", "bbox"), *((p, n, "2 3 20 18") for p, n in right.items()))


def several_classes_in_a_row(root: Path) -> None:
    right = many(root, "{k}_{i}.jpg")
    table(root / "_classes.csv", ("filename", *NAMES), *((p, 1, 1, 0, 0) for p in right))


def folders_that_sort_by_name(root: Path) -> None:
    many(root, "{k}/{i}/{k}{i}ab.jpg")


def one_image_of_each_class(root: Path) -> None:
    many(root, "{name}/0.jpg", 1)


def none_is_there(root: Path) -> None:
    many(root, "img/{k}_{i}.jpg")
    table(root / "t.csv", ("image", "label"), *((f"other/{n}x.jpg", n) for n in range(9)))


def scores_and_two_names(root: Path) -> None:
    rows = many(root, "{k}_{i}.jpg")
    write(root / "train_list.txt", "".join(f"{p},{i % 4},{i % 3}\n" for i, p in enumerate(rows)))


ASKED: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (two_finer_columns, ("t.csv", "brand or model", "--columns image=file,label=brand")),
    (two_tables_that_disagree, ("two labels", "labels.csv:2: apple", "labels_new.csv:2: elppa", "shitu prepare")),
    (two_folders_of_one_list, ("t.csv", "large or small", "--image-root")),
    (colours_below_models, ("which level of folders", "--depth 1", "--depth 2", "apple/blue")),
    (images_at_two_levels, ("which level of folders", "apple/gala", "--depth 1")),
    (boxes_either_way, ("t.csv", "more than one way", "x,y,width,height", "box=bbox:xywh")),
    (several_classes_in_a_row, ("_classes.csv", "apple")),
    (folders_that_sort_by_name, ("only sort the images", "--depth 1")),
    (one_image_of_each_class, ("no image can be held out for evaluation", "single image", "--split none")),
    (none_is_there, ("t.csv names 9 images, none of which is below", "--image-root", "--format class-tree")),
    (scores_and_two_names, ("train_list.txt", "2 or 3", "--columns image=1,label=2")),
]


@pytest.mark.parametrize(("build", "says"), ASKED, ids=lambda value: getattr(value, "__name__", ""))
def test_asked(build: Callable[[Path], None], says: tuple[str, ...], tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(ShituError) as caught:
        read(tmp_path)
    text = "\n".join([caught.value.message, *caught.value.details, str(caught.value.hint)])
    assert [word for word in says if word not in text] == [], text


def test_the_ways_out_are_right(tmp_path: Path) -> None:
    two_finer_columns(tmp_path / "a")
    assert set(read(tmp_path / "a", columns={"image": "file", "label": "brand"}).names) == {"a", "b"}
    colours_below_models(tmp_path / "b")
    assert set(read(tmp_path / "b", depth=1).names) == set(NAMES)
    assert "apple/red" in read(tmp_path / "b", depth=2).names
    two_folders_of_one_list(tmp_path / "c")
    assert set(labels(read(tmp_path / "c", image_root=tmp_path / "c/small"), tmp_path / "c")) >= {"small/0_0.jpg"}
    boxes_either_way(tmp_path / "d")
    columns = {"image": "file", "label": "label", "box": "bbox:xywh"}
    made = read(tmp_path / "d", columns=columns)
    assert made.train.box(0) == (2, 3, 22, 21)
    scores_and_two_names(tmp_path / "e")
    made = read(tmp_path / "e", "train_list.txt", columns={"image": "1", "label": "2", "camera": "3"})
    assert len(made.names) == 4 and made.train.ids is not None


# --- What lies beside is said ---


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    right = many(tmp_path, "train/{k}{i}.jpg")
    table(tmp_path / "train.csv", ("image", "label"), *((p[6:], n) for p, n in right.items()))
    many(tmp_path, "test/t{k}{i}.jpg", 1)
    table(tmp_path / "sample_submission.csv", ("image", "label"), *((f"t{k}0.jpg", "apple") for k in range(4)))
    table(tmp_path / "test.csv", ("image",), *((f"t{k}0.jpg",) for k in range(4)))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right
    assert "submission" in made.rows.unused["sample_submission.csv"]
    assert made.rows.label_files == ["train.csv"] and "image = image, class = label" in made.rows.readings[0]


def test_boxes_of_one_image_stay_on_one_side(tmp_path: Path) -> None:
    rows = []
    for i in range(12):
        draw(tmp_path / f"{i}.jpg", (80, 40))
        rows += [(f"{i}.jpg", NAMES[i % 3], 2, 2, 30, 38), (f"{i}.jpg", NAMES[(i + 1) % 3], 45, 2, 78, 38)]
    table(tmp_path / "t.csv", ("image", "label", "x_1", "y_1", "x_2", "y_2"), *rows)
    made = read(tmp_path, "t.csv")
    assert made.query is not None and len(made.query)
    assert not set(made.query.paths()) & set(made.train.paths())


# --- Several sources ---


def test_a_second_batch_of_the_same_products(tmp_path: Path) -> None:
    many(tmp_path, "data/{name}/{i}.jpg"), many(tmp_path, "batch2/{name}/{i}.jpg")
    sources = [tmp_path / "data", tmp_path / "batch2"]
    made = read_and_split(sources, Choices(quick=True), SilentReporter())
    assert set(made.names) == set(NAMES) and "--keep-apart" in made.rows.readings[-1]
    made = read_and_split(sources, Choices(quick=True, keep_apart=True), SilentReporter())
    assert len(made.names) == 8 and "batch2/apple" in made.names


def test_numbers_of_two_data_sets_are_never_one_class(tmp_path: Path) -> None:
    for part in "ab":
        found = many(tmp_path, part + "/{k}_{i}.jpg")
        table(tmp_path / part / "t.csv", ("image", "label"), *((p[2:], NAMES.index(n)) for p, n in found.items()))
    made = read_and_split([tmp_path / "a", tmp_path / "b"], Choices(quick=True), SilentReporter())
    assert len(made.names) == 8


def test_evaluation_of_several_sources_is_that_of_each(tmp_path: Path) -> None:
    for part in ("train", "query", "gallery"):
        many(tmp_path, f"lists/{part}/" + "{name}/{i}.jpg", 2, names=("a", "b"))
    many(tmp_path, "folders/train/{name}/{i}.jpg", 3), many(tmp_path, "folders/test/{name}/{i}.jpg", (7, 8))
    many(tmp_path, "plain/{name}/{i}.jpg", 3, names=("x", "y"))
    sources = [tmp_path / name for name in ("lists", "folders", "plain")]
    made = read_and_split(sources, Choices(quick=True), SilentReporter())
    assert made.query is not None and made.gallery is not None
    assert (len(made.train), len(made.query), len(made.gallery)) == (4 + 12 + 6, 4 + 8, 4 + 12)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    many(tmp_path, "{name}/{i}.jpg")
    os.mkfifo(tmp_path / "t.csv")
    assert len(read(tmp_path).names) == 4
    with pytest.raises(ShituError, match="it is a pipe, not a regular file"):
        check_source(tmp_path / "t.csv")
    with pytest.raises(ShituError, match="it is a device"):
        check_source(Path("/dev/zero"))


@pytest.mark.parametrize(("column", "yes", "no"), [("is_valid", "True", "False"), ("is_train", "0", "1")])
def test_a_column_that_is_true_for_one_split_is_the_split(column: str, yes: str, no: str, tmp_path: Path) -> None:
    """As fastai writes it; images of validation were trained on without a word."""
    right = many(tmp_path, "{name}{i}.jpg")
    rows = [(path, name, yes if "3." in path else no) for path, name in right.items()]
    table(tmp_path / "items.csv", ("image", "breed", column), *rows)
    made = read(tmp_path)
    assert labels(made, tmp_path) == right and queries(made, tmp_path) == {f"{name}3.jpg" for name in NAMES}


def test_a_split_of_no_known_words_is_told_to_be_ignored(tmp_path: Path) -> None:
    right = many(tmp_path, "{name}{i}.jpg")
    table(tmp_path / "items.csv", ("image", "label", "fold"), *((path, name, path[-5]) for path, name in right.items()))
    assert any(
        "fold does not hold splits such as train or val: not used" in line for line in read(tmp_path).rows.readings
    )


def test_a_split_that_is_held_out_is_never_trained(tmp_path: Path) -> None:
    """Of two words, one of which was not known, the column was passed over."""
    right = many(tmp_path, "{name}{i}.jpg")
    rows = [(path, name, "Holdout" if "3." in path else "Train") for path, name in right.items()]
    table(tmp_path / "items.csv", ("image", "label", "split"), *rows)
    assert queries(read(tmp_path), tmp_path) == {path for path, _, part in rows if part == "Holdout"}
    table(tmp_path / "items.csv", ("image", "label", "split"), *((*row[:2], row[2].replace("out", "")) for row in rows))
    assert "split 'hold', expected train" in read(tmp_path).problems.lines("error")[0]
