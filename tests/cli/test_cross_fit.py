"""A threshold where every class was trained: by trainings without some of the classes, which are not made twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli import load_config
from shitu_cli.config.schema import Config
from shitu_cli.data.lists import read_list
from shitu_cli.errors import UsageError
from shitu_cli.reporting import SilentReporter
from shitu_cli.steps import cross_train
from shitu_cli.training.teacher import find_teacher
from shitu_cli.training.unlabelled import find_unlabelled
from tests.command import SMALL, shitu

CLASSES = 9


class Warnings(SilentReporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Path:
    root = tmp_path_factory.mktemp("cross_fit")
    make_images(root / "data", classes=CLASSES, per_class=4)
    shitu("prepare", "data", "--split", "closed", cwd=root)
    return root


def test_a_fold_has_neither_images_nor_a_place_for_its_classes(space: Path, tmp_path: Path) -> None:
    config = load_config(space / "shitu.yaml")
    fold = cross_train._without(config, np.asarray([2, 5]), tmp_path)
    assert fold.DataLoader.train is not None and fold.Arch.head is not None
    images = read_list(Path(fold.DataLoader.train.dataset.cls_label_path))
    assert sorted(set(images.labels.tolist())) == list(range(CLASSES - 2)) and fold.Arch.head.class_num == CLASSES - 2
    whole = read_list(Path(config.DataLoader.train.dataset.cls_label_path))  # type: ignore[union-attr]
    rest = [path for path, label in zip(whole.paths(), whole.labels, strict=True) if label not in (2, 5)]
    assert images.paths() == rest and fold.DataLoader.query == config.DataLoader.query
    assert Path(fold.Global.output_dir).is_relative_to(tmp_path)


def test_a_fold_learns_nothing_from_images_of_its_classes_among_those_without_labels(
    space: Path, tmp_path: Path, make_images: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(space, tmp_path, dirs_exist_ok=True)
    make_images(root / "more", classes=1, per_class=3, seed=1)
    (root / "output").mkdir()
    (root / "output/latest.pdparams").write_bytes(b"weights")
    flags = {"Loss.Train.+TeacherLoss.teacher": "./output/best_model", "Loss.Train.+TeacherLoss.unlabelled": str(root)}
    config, folds, reporter = load_config(root / "shitu.yaml", flags=flags), list[Config](), Warnings()
    monkeypatch.setattr(cross_train, "_train", lambda config, folder, reporter: folds.append(config))
    monkeypatch.setattr(cross_train, "_features", lambda config, flip, reporter: [np.zeros(0), np.zeros(0)])
    list(cross_train.cross_trained(config, root / "output/latest", 2, reporter=reporter))
    assert len(folds) == 2
    for fold in folds:
        unlabelled = find_unlabelled(fold, find_teacher(fold), 0)
        assert unlabelled is not None and not unlabelled.left_out
        files = [Path(unlabelled.dataset.location(n)) for n in range(len(unlabelled.dataset))]
        assert sorted(file.resolve() for file in files) == sorted((root / "more").rglob("*.jpg"))
    for text in ("may have been trained on things of the classes that are left", "may show things of the classes"):
        assert [warning for warning in reporter.texts if text in warning]


def test_without_a_training_list_there_is_nothing_to_repeat(space: Path) -> None:
    config = load_config(space / "shitu.yaml", ["DataLoader.Train.dataset.cls_label_path=nowhere.txt"])
    with pytest.raises(UsageError, match="trains the network of this workspace again"):
        next(cross_train.cross_trained(config, space / "output/latest", 2, reporter=SilentReporter()))


def test_options_that_do_not_go_together(space: Path) -> None:
    for words in (("--unknown", "data"), ("--devices", "cpu:2")):
        done = shitu("evaluate", "--cross-fit", "2", *words, cwd=space, check=False)
        assert done.returncode == 2 and "--cross-fit cannot be combined" in done.stderr


@pytest.mark.slow
def test_a_closed_split_gets_a_threshold(space: Path) -> None:
    # Other values than those of the config: they have to be those of the trainings that follow too.
    shitu("train", *SMALL, "--epochs", "4", "--batch-size", "4", "--lr", "0.02", cwd=space)

    def evaluate(*words: str) -> tuple[dict[str, Any], str]:
        done = shitu("evaluate", "--json", *words, cwd=space)
        return json.loads(done.stdout)["unknown"], done.stderr

    fitted, said = evaluate("--cross-fit", "2", "--far", "0.2")
    assert fitted["how"] == "photos of 9 classes, each left out of one of 2 trainings and of the index"
    assert fitted["classes"] == CLASSES and fitted["photos"] >= CLASSES and "training 2 of 2" in said
    folds = sorted((space / ".shitu").glob("**/cross-fit/*/*"))
    assert [fold.name for fold in folds] == ["1", "2"]
    texts = [(fold / "output/train.log").read_text() for fold in folds]
    assert all("4 epochs" in text for text in texts) and "of 4 classes" in texts[0] and "of 5 classes" in texts[1]
    logs = [(fold / "output/train.log").read_bytes() for fold in folds]
    again, _ = evaluate("--cross-fit", "2", "--far", "0.2")
    assert again == fitted and [(fold / "output/train.log").read_bytes() for fold in folds] == logs
