"""Which pictures a command line means, and under which labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.preparation.sources import Pictures, find_pictures


def test_the_label_is_the_folder_that_a_picture_lies_in(
    tmp_path: Path, make_images: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "data/sub", classes=2, per_class=1)
    folder = tmp_path / "data/sub/class_000"
    assert find_pictures([str(tmp_path / "data")]).labels == ["sub/class_000", "sub/class_001"]
    assert find_pictures([str(tmp_path / "data/sub"), f"{folder}/"]).labels == ["class_000", "class_001", "class_000"]
    monkeypatch.chdir(folder)
    assert find_pictures(["."]).labels == ["class_000"]
    assert find_pictures(["000.jpg", "*.jpg"]).labels == ["", ""]


def test_lists_of_the_workspace_give_names(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "data", classes=2, per_class=1)
    (tmp_path / "train_list.txt").write_text("class_000/000.jpg\t0\nclass_001/000.jpg\t1\n")
    (tmp_path / "label_map.txt").write_text("0\tred\n1\tblue\n")
    assert find_pictures([str(tmp_path / "train_list.txt")], lambda path: tmp_path / "data").labels == ["red", "blue"]
    assert find_pictures([str(tmp_path / "train_list.txt")]).labels == ["0", "1"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([""], "1 picture without label"),
        (["", ""], "2 pictures without label"),
        (["a"], "1 picture of label a"),
        (["a", "a"], "2 pictures of label a"),
        (["a", "b", "b"], "3 pictures of 2 labels"),
        (["a", "", ""], "3 pictures of 1 label (2 without)"),
    ],
)
def test_pictures_described(labels: list[str], told: str) -> None:
    assert Pictures([str(n) for n in range(len(labels))], labels, [None] * len(labels)).described() == told
