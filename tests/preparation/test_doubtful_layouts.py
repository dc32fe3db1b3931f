"""Layouts whose lists, folders and names say different things, or are nearly those of a public set: what counts."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from shitu_cli.preparation.prepare import Choices, read_and_split
from shitu_cli.reporting import SilentReporter
from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_read, builders
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, Labels, labels, many, queries, read, table


def list_of(paths: Iterable[str], below: str = "") -> str:
    return "".join(f"{path.removeprefix(below)}\n" for path in paths)


def last(right: Labels) -> Labels:
    """The last image of each class."""
    return {path: name for path, name in right.items() if "3." in path}


# --- Read rightly: labels of all images, and those that are held out ---


def lists_beside_the_folders_of_splits(root: Path) -> tuple[Labels, Labels]:
    """The folders train and test are no part of the classes, though lists of paths say the splits too."""
    right, held = many(root, "train/{name}/{i}.jpg"), many(root, "test/{name}/t{i}.jpg", 2)
    write(root / "train.txt", list_of(right))
    write(root / "test.txt", list_of(held))
    return right | held, held


def words_run_together_in_names_of_lists(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "Images/{name}/{i}.jpg")
    write(root / "TrainImages.txt", list_of(right.keys() - last(right).keys(), "Images/"))
    write(root / "TestImages.txt", list_of(last(right), "Images/"))
    return right, last(right)


def train_and_val_together_beside_each(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "images/{name}{i}.jpg")
    write(root / "train.txt", "".join(f"{path} {name}\n" for path, name in right.items() if path not in last(right)))
    write(root / "val.txt", "".join(f"{path} {name}\n" for path, name in last(right).items()))
    write(root / "trainval.txt", "".join(f"{path} {name}\n" for path, name in right.items()))
    return right, last(right)


def a_table_of_splits_beside_folders(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "{name}/{name}{i}.jpg")
    table(root / "s.csv", ("file", "purpose"), *((p, "test" if p in last(right) else "train") for p in right))
    return right, last(right)


def a_list_of_splits_beside_folders(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "{name}/{name}{i}.jpg")
    write(root / "s.txt", "".join(f"{path} {'val' if path in last(right) else 'train'}\n" for path in right))
    return right, last(right)


def a_column_that_holds_nothing_but_splits(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "{name}{i}.jpg")
    rows = ((path, name, "valid" if path in last(right) else "TRAIN") for path, name in right.items())
    table(root / "birds.csv", ("filepaths", "labels", "data set"), *rows)
    return right, last(right)


def folders_to_train_on_and_a_table_of_the_others(root: Path) -> tuple[Labels, Labels]:
    """As ImageNet is given out: classes of val are in a table only, and it must not be trained on that alone."""
    right, held = many(root, "train/{name}/{i}.jpg"), many(root, "val/v{k}{i}.jpg", 2)
    table(root / "val_labels.csv", ("image", "label"), *((Path(path).name, name) for path, name in held.items()))
    return right | held, held


def tables_of_boxes_in_a_cell_beside_folders(root: Path) -> tuple[Labels, Labels]:
    """A label with a box in one cell is no class: the folders are; the tables name the images of each split."""
    right = many(root, "images/{name}/{name}{i}.jpg", 6)
    held = {path: name for path, name in right.items() if "5." in path}
    for part, paths in (("train", right.keys() - held.keys()), ("val", held.keys())):
        rows = ((Path(path).stem, f"{right[path]} 1 2 {20 + n} 30") for n, path in enumerate(sorted(paths)))
        table(root / f"{part}_solution.csv", ("ImageId", "PredictionString"), *rows)
    return right, held


def queries_and_gallery_in_the_folder_of_the_test(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "train/{name}/{i}.jpg", names=("t1", "t2")) | many(root, "test/gallery/{name}/{i}.jpg", 2)
    held = many(root, "test/query/{name}/q{i}.jpg", 1)
    return right | held, held


def lists_of_each_split_in_json(root: Path) -> tuple[Labels, Labels]:
    """CoOp's split_zhou_*.json: [image, label, name]."""
    right = many(root, "images/{k}{i}.jpg")
    rows = {path: [path.removeprefix("images/"), NAMES.index(name), name] for path, name in right.items()}
    held = last(right)
    parts = {"train": [rows[path] for path in right if path not in held], "test": [rows[path] for path in held]}
    write_json(root / "split_zhou_fruit.json", parts)
    return right, held


def records_of_each_split_in_json(root: Path) -> tuple[Labels, Labels]:
    right = many(root, "images/{k}{i}.jpg")
    records = {path: {"path": path, "sku": name} for path, name in right.items()}
    held = last(right)
    parts = {"train": [records[path] for path in right if path not in held], "val": [records[path] for path in held]}
    write_json(root / "data.json", parts)
    return right, held


def few_birds_in_the_files_of_cub(root: Path) -> tuple[Labels, Labels]:
    """None of its classes is of the half to evaluate: train_test_split.txt counts."""
    right = in_the_files_of_cub(root, "0001", "0002", "0003")
    return right, last(right)


def in_the_files_of_cub(root: Path, *names: str) -> Labels:
    right = many(root, "images/{name}/{i}.jpg", names=names)
    lines = [f"{n} {path.removeprefix('images/')}" for n, path in enumerate(right)]
    write(root / "images.txt", list_of(lines))
    write(root / "image_class_labels.txt", list_of(f"{n} {int(name)}" for n, name in enumerate(right.values())))
    write(root / "train_test_split.txt", list_of(f"{n} {int(path not in last(right))}" for n, path in enumerate(right)))
    write(root / "classes.txt", list_of(f"{int(name)} {name}" for name in names))
    return right


SPLIT = builders(globals(), "tuple[Labels, Labels]")


@pytest.mark.parametrize("build", SPLIT, ids=lambda build: build.__name__)
def test_splits_are_kept(build: Callable[[Path], tuple[Labels, Labels]], tmp_path: Path) -> None:
    right, held = build(tmp_path)
    made = read(tmp_path)
    assert labels(made, tmp_path) == right and queries(made, tmp_path) == held.keys()
    assert made.query is not None and not set(made.train.paths()) & set(made.query.paths())


def a_partition_that_is_not_of_in_shop(root: Path) -> Labels:
    right = many(root, "img/{name}/{i}.jpg")
    write(root / "Eval/list_eval_partition.txt", f"16\nimage_name  evaluation_status\n{list_of(right)}")
    return right


def numbers_in_names_of_lists_that_are_not_of_veri_wild(root: Path) -> Labels:
    right = many(root, "images/{name}{i}.jpg")
    write(root / "train_9000.txt", "".join(f"{p} {n}\n" for p, n in right.items() if p not in last(right)))
    write(root / "test_3000.txt", "".join(f"{path} {name}\n" for path, name in last(right).items()))
    return right


def names_and_classes_that_are_not_of_products_10k(root: Path) -> Labels:
    right = many(root, "train/{k}_{i}.jpg")
    table(root / "train.csv", ("name", "class"), *((Path(path).name, name) for path, name in right.items()))
    return right


def birds_of_other_numbers_than_in_cub(root: Path) -> Labels:
    """NABirds has the files of CUB-200-2011, but its classes are no halves to train and to evaluate."""
    return in_the_files_of_cub(root, "0295", "0817", "1010")


def signs_between_paths_and_labels(root: Path) -> Labels:
    """They became a part of the names."""
    right = many(root, "img/{k}{i}.jpg", names=("red apple", "lemon", "a -> b", "> 5 kg"))
    write(root / "labels.txt", list_of(f"{path} -> {name}" for path, name in right.items()))
    return right


def categories_whose_ids_have_longer_names(root: Path) -> Labels:
    """Herbarium 2022: image_id and category_id where COCO has id."""
    right = many(root, "train_images/{k}/{k}_{i}.jpg")
    images = [{"image_id": path[13:-4], "file_name": path[13:]} for path in right]
    objects = [{"image_id": path[13:-4], "category_id": NAMES.index(name)} for path, name in right.items()]
    kinds = [{"category_id": n, "scientificName": name} for n, name in enumerate(NAMES)]
    write_json(root / "train_metadata.json", {"images": images, "annotations": objects, "categories": kinds})
    return right


def number_label_and_path_of_mxnet(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg", names=("0", "1", "2"))
    write(root / "train.lst", list_of(f"{n}\t{name}.000000\t{path}" for n, (path, name) in enumerate(right.items())))
    return right


def letters_encoded_in_two_ways(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg", names=("café", "thé"))
    forms = (
        (Path(path).name, unicodedata.normalize("NFD" if path in last(right) else "NFC", name))
        for path, name in right.items()
    )
    table(root / "l.csv", ("image", "label"), *forms)
    return right


def depths_and_outlines_of_the_images_in_a_table(root: Path) -> Labels:
    right = many(root, "rgb/{name}{i}.png")
    for folder in ("depth", "outlines"):
        many(root, folder + "/{name}{i}.png")
    table(root / "labels.csv", ("image", "label"), *right.items())
    return right


def a_number_of_lines_above_a_list(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg")
    write(root / "Anno/list_img.txt", "16\n" + list_of(f"{path}    {name}" for path, name in right.items()))
    return right


def what_md5sum_writes_beside_folders(root: Path) -> Labels:
    right = many(root, "{name}/{i}.jpg")
    write(root / "checksums.txt", list_of(f"{number:032x}  {path}" for number, path in enumerate(right)))
    return right


def quotes_around_paths_and_names(root: Path) -> Labels:
    right = many(root, "img/my {k} {i}.jpg", names=("red apple", "pear", "plum"))
    write(root / "l.txt", list_of(f'"{path}" "{name}"' for path, name in right.items()))
    return right


READ = builders(globals(), "Labels")


@pytest.mark.parametrize("build", READ, ids=lambda build: build.__name__)
def test_it_is_read(build: Callable[[Path], Labels], tmp_path: Path) -> None:
    assert_read(build, tmp_path)


@pytest.mark.parametrize("lists", [False, True])
def test_merged_sources_called_train_and_val_are_those_splits(lists: bool, tmp_path: Path) -> None:
    many(tmp_path, "train/{name}/{i}.jpg"), many(tmp_path, "val/{name}/v{i}.jpg", 2)
    sources = [tmp_path / "train", tmp_path / "val"]
    for source in sources if lists else ():
        write(
            source.with_suffix(".txt"),
            "".join(f"{p.relative_to(tmp_path)} {p.parent.name}\n" for p in source.glob("*/*")),
        )
    sources = [source.with_suffix(".txt") for source in sources] if lists else sources
    made = read_and_split(sources, Choices(quick=True), SilentReporter())
    assert made.query is not None and {Path(path).name[0] for path in made.query.paths()} == {"v"}
    assert (len(made.train), len(made.query)) == (16, 8) and "splits by the names of the sources" in made.rows.readings[
        -1
    ]


def test_numbers_in_sources_called_train_and_val_are_the_same_classes(tmp_path: Path) -> None:
    """Kept apart, nothing that is evaluated would have been trained."""
    for part in ("train", "val", "more"):
        right = many(tmp_path, "img/" + part + "{k}{i}.jpg", 2, names="0123")
        write(tmp_path / f"{part}.txt", list_of(f"{path} {name}" for path, name in right.items()))
    sources = [tmp_path / "train.txt", tmp_path / "val.txt"]
    made = read_and_split(sources, Choices(quick=True), SilentReporter())
    assert set(made.rows.labels) == set("0123") and made.query is not None and len(made.query) == 8
    other = read_and_split([*sources, tmp_path / "more.txt"], Choices(quick=True), SilentReporter())
    assert "classes: kept apart by source" in other.rows.readings
    apart = read_and_split(sources, Choices(quick=True, keep_apart=True), SilentReporter())
    assert len(set(apart.rows.labels)) == 8 and "kept apart" in apart.rows.readings[-1]


@pytest.mark.parametrize("line", ["{p} {n} {s}", "{p} {s} {n}", "{p}\t{n}\t{s}", "{p}\t{s}\t{n}", "{p},{n},{s}"])
@pytest.mark.parametrize("names", [("red apple", "pear", "plum"), ("0", "1", "2")], ids=["names", "numbers"])
def test_a_list_says_the_split_of_each_line(line: str, names: tuple[str, ...], tmp_path: Path) -> None:
    """Read as a part of the label, it made two classes of each."""
    right = many(tmp_path, "img/{k}{i}.jpg", names=names)
    lines = (line.format(p=path, n=name, s="test" if path in last(right) else "train") for path, name in right.items())
    write(tmp_path / "all.txt", list_of(lines))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right and queries(made, tmp_path) == last(right).keys()
