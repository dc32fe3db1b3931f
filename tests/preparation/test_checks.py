"""Lists that contradict themselves or each other: an image named again, other numbers of classes, images of none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import shitu
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, many, read, table


def test_an_image_in_two_lists_under_two_labels_is_a_problem_with_both_lines(tmp_path: Path) -> None:
    """Each list by itself is right; together one of them spoils the evaluation."""
    right = {path: "0123"[int(path[4])] for path in many(tmp_path / "data", "img/{k}_{i}.jpg", 6)}
    parts = {"train": "012", "query": "3", "gallery": "45"}
    lines = {
        part: [f"{path}\t{label}\n" for path, label in right.items() if path[6] in numbers]
        for part, numbers in parts.items()
    }
    lines["gallery"] += ["img/2_3.jpg\t3\n", "img/1_0.jpg\t2\n", lines["gallery"][0]]
    for part, texts in lines.items():
        write(tmp_path / f"data/{part}_list.txt", "".join(texts))
    done = shitu("prepare", "data", "--json", cwd=tmp_path, check=False)
    problems = {item["kind"]: item for item in json.loads(done.stdout)["problems"]}
    assert done.returncode == 3 and problems["duplicate-line"]["count"] == 1
    assert problems["label-conflict"]["examples"] == [
        {"where": "data/query_list.txt:3 (img/2_3.jpg)", "detail": "'3' at data/gallery_list.txt:9, '2' here"},
        {"where": "data/train_list.txt:4 (img/1_0.jpg)", "detail": "'2' at data/gallery_list.txt:10, '1' here"},
    ]
    shitu("prepare", "data", "--fix", cwd=tmp_path)
    for part, rows in lines.items():
        left = (tmp_path / f"lists/{part}_list.txt").read_text()
        assert "2_3.jpg" not in left and "1_0.jpg" not in left
        assert len(left.splitlines()) == len(rows) - (3 if part == "gallery" else 1)


def lists_of_folders(root: Path, numbers: dict[str, str], folders: str = "{name}") -> None:
    """Write train.txt and test.txt of images in folders; `numbers` are the labels of the folders in each."""
    for part, digits in numbers.items():
        right = many(root, folders + f"/{part}{{i}}.jpg")
        labels = dict(zip(dict.fromkeys(right.values()), digits, strict=True))
        write(root / f"{part}.txt", "".join(f"{path} {labels[name]}\n" for path, name in right.items()))


@pytest.mark.parametrize("digits", ["1234", "0213"], ids=["from 1", "in another order"])
def test_lists_that_number_the_same_folders_otherwise_are_a_problem(digits: str, tmp_path: Path) -> None:
    """As encoded by itself, each list has labels 0, 1, 2: every query would be compared with another class."""
    lists_of_folders(tmp_path / "data", {"train": "0123", "test": digits})
    done = shitu("prepare", "data", "--json", cwd=tmp_path, check=False)
    problems = {item["kind"]: item for item in json.loads(done.stdout)["problems"]}
    wrong = [(folder, digits[n], str(n)) for n, folder in enumerate(("apple", "pear", "lemon", "plum"))]
    assert done.returncode == 3
    assert {item["detail"] for item in problems["other-numbers"]["examples"]} == {
        f"{other!r} here, {own!r} at data/train.txt:{4 * int(own) + 1} ({folder}/train0.jpg)"
        for folder, other, own in wrong
        if other != own
    }
    shitu("prepare", "data", "--format", "class-tree", "-w", "folders", cwd=tmp_path)


def test_lists_of_different_folders_that_both_number_from_0_are_a_problem(tmp_path: Path) -> None:
    lists_of_folders(tmp_path, {"train": "0123"})
    new = many(tmp_path, "{name}/{i}.jpg", names=("fig", "kiwi", "nut"))
    numbers = {"fig": 0, "kiwi": 1, "nut": 2}
    write(tmp_path / "test.txt", "".join(f"{path} {numbers[name]}\n" for path, name in new.items()))
    cases = read(tmp_path).problems.cases["other-numbers"]
    assert cases.count == 3
    where = f"'0' here and at {tmp_path}/train.txt:1 (apple/train0.jpg)"
    assert cases.examples[0] == (f"{tmp_path}/test.txt:1 (fig/0.jpg)", where)
    write(tmp_path / "test.txt", "".join(f"{path} {numbers[name] + 4}\n" for path, name in new.items()))
    assert "other-numbers" not in read(tmp_path).problems.cases


@pytest.mark.parametrize("other", ["new {name}", "{name}2", "x{k}y"])
def test_folders_of_queries_may_have_names_of_their_own(other: str, tmp_path: Path) -> None:
    for part, folder in {"train": "{name}", "test": other}.items():
        right = many(tmp_path, folder + f"/{part}{{i}}.jpg")
        write(tmp_path / f"{part}.txt", "".join(f"{path} {NAMES.index(name)}\n" for path, name in right.items()))
    assert "other-numbers" not in read(tmp_path).problems.cases


def test_labels_that_are_called_like_other_folders_are_told(tmp_path: Path) -> None:
    """A table that was sorted by one column only, or one that corrects the folders."""
    right = many(tmp_path, "{name}/{i}.jpg")
    rows = [(path, "pear" if path == "apple/3.jpg" else name) for path, name in right.items()]
    table(tmp_path / "t.csv", ("image", "label"), *rows)
    cases = read(tmp_path).problems.cases["other-folder"]
    assert cases.examples == [(f"{tmp_path}/t.csv:5 (apple/3.jpg)", "labelled 'pear'")] and cases.count == 1


@pytest.mark.parametrize("folders", ["{k}", "seq_{k}"])
def test_folders_that_only_number_images_say_nothing_about_labels(folders: str, tmp_path: Path) -> None:
    """Sequences of two splits may be numbered from 0 each."""
    root = tmp_path / "data"
    lists_of_folders(root, {"train": "0123", "test": "1032"}, folders)
    assert "other-numbers" not in read(root).problems.cases


@pytest.mark.parametrize("split", ["closed", "open"])
def test_images_of_no_class_are_neither_trained_nor_queries(split: str, tmp_path: Path) -> None:
    right = many(tmp_path / "data", "img/{k}{i}.jpg", 5, "abcdefgh")
    lines = (f"img/{path[4:]} {-1 if path.endswith(('0.jpg', '1.jpg')) else path[4]}\n" for path in right)
    write(tmp_path / "data/all.txt", "".join(lines))
    done = shitu("prepare", "data", "--split", split, "--json", cwd=tmp_path)
    problems = {item["kind"]: item["count"] for item in json.loads(done.stdout)["problems"]}
    assert problems["untrained"] == 16 and "unasked" not in problems
    for part in ("train", "query", "gallery"):
        assert "-1" not in (tmp_path / f"lists/{part}_list.txt").read_text().split()


def test_queries_of_no_class_are_left_out_and_told(tmp_path: Path) -> None:
    right = {path: path[4] for path in many(tmp_path / "data", "img/{k}{i}.jpg", 6)}
    for part, digits in {"train": "012", "query": "3", "gallery": "45"}.items():
        chosen = [(path, label) for path, label in right.items() if path[5] in digits]
        extra = [(path, -1 if path in ("img/03.jpg", "img/04.jpg") else label) for path, label in chosen]
        write(tmp_path / f"data/{part}.txt", "".join(f"{path} {label}\n" for path, label in extra))
    made = read(tmp_path / "data")
    assert made.problems.cases["unasked"].examples == [(f"{tmp_path}/data/query.txt:1 (img/03.jpg)", "")]
    assert made.query is not None and made.gallery is not None
    assert made.query.labels.min() == 1 and made.gallery.labels.min() == -1
