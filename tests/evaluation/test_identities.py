"""A photo is no answer to itself, by whatever path the other list names it: else every recall would be 1."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import DataError
from shitu_cli.evaluation import identities
from shitu_cli.evaluation.evaluate import evaluate_lists
from shitu_cli.evaluation.identities import identities_of
from shitu_cli.features.list_features import ListFeatures
from shitu_cli.reporting import SilentReporter

ONE_PHOTO = np.ones((1, 4), np.float32)


def parts_of(space: Path, *lists: list[str]) -> list[ListFeatures]:
    """Return the images of each list, whose features are the same but for paths that end with an exclamation mark."""
    split = load_config(space / "shitu.yaml").DataLoader.query
    assert split is not None
    parts = []
    for number, paths in enumerate(lists):
        features = np.concatenate([ONE_PHOTO + index * path.endswith("!") for index, path in enumerate(paths, 1)])
        file = space / f"lists/{number}.txt"
        file.write_text("".join(f"{path.rstrip('!')}\t0\n" for path in paths))
        dataset = RecDataset(dataclasses.replace(split.dataset, cls_label_path=str(file)))
        parts.append(ListFeatures(dataset, features, {}))
    return parts


def test_one_photo_is_the_same_by_all_its_paths(workspace: Path) -> None:
    photo = workspace / "data/class_000/000.jpg"
    (workspace / "link").symlink_to(workspace / "data")
    (workspace / "data/named.jpg").symlink_to(photo)
    os.link(photo, workspace / "data/again.jpg")
    (workspace / "data/copy.jpg").write_bytes(photo.read_bytes())
    names = ["./class_000/000.jpg", "class_001/../class_000/000.jpg", "class_000//000.jpg", str(photo)]
    names += [str(workspace / "link/class_000/000.jpg"), "named.jpg", "again.jpg"]
    query, gallery = identities_of(
        *parts_of(workspace, ["class_000/000.jpg"], [*names, "class_000/001.jpg", "copy.jpg"])
    )
    assert gallery[:-2].tolist() == [query[0]] * len(names)
    assert len({query[0], *gallery[-2:].tolist()}) == 3  # a copy is another photo, which prepare warns of


def test_photos_that_are_elsewhere_are_known_by_their_plain_paths(workspace: Path) -> None:
    """As where shards of other machines are merged."""
    names = ["gone/a.jpg", "./gone/a.jpg", "gone//b.jpg", "x.tar::a.jpg"]
    query, gallery = identities_of(*parts_of(workspace, ["gone/a.jpg", "x.tar::a.jpg"], names))
    assert gallery.tolist() == [query[0], query[0], gallery[2], query[1]] and len({*gallery.tolist()}) == 3


def test_only_files_that_may_be_one_are_asked_about(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking about millions of files on a network's disk takes longer than ranking them."""
    asked: list[str] = []
    monkeypatch.setattr(identities, "_file_of", lambda path: asked.append(path) or path)
    names = ["class_000/000.jpg!", "class_000/001.jpg!", "class_000/002.jpg"]
    identities_of(*parts_of(workspace, ["class_000/003.jpg"], names))
    assert [Path(path).name for path in asked] == ["003.jpg", "002.jpg"]


def test_another_spelling_needs_no_equal_features(workspace: Path) -> None:
    """As where query and gallery are prepared in different ways."""
    (workspace / "link").symlink_to(workspace / "data")
    names = ["./class_000/000.jpg!", "class_001/../class_000/000.jpg!", f"{workspace}/link/class_000/000.jpg!"]
    query, gallery = identities_of(*parts_of(workspace, ["class_000/000.jpg"], [*names, "class_000/001.jpg!"]))
    assert gallery[:-1].tolist() == [query[0]] * 3 and gallery[-1] != query[0]


def test_queries_that_only_find_themselves_have_no_answer(workspace: Path) -> None:
    parts = parts_of(workspace, ["class_000/000.jpg"], ["./class_000/000.jpg"])
    with pytest.raises(DataError, match="none of the 1 queries can be answered") as problem:
        evaluate_lists(parts[0], parts[1], load_config(workspace / "shitu.yaml"), SilentReporter())
    assert "0.txt and" in str(problem.value.hint) and "1.txt" in str(problem.value.hint)
