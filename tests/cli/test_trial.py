"""What a stranger's trial found: each once wrong, or silent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli import Extractor
from shitu_cli.errors import DataError
from tests.cli.test_mistakes import fails, snapshot
from tests.command import SMALL, shitu

MakeImages = Callable[..., dict[str, list[Path]]]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, make_images: MakeImages) -> Path:
    """A workspace with an exported model, trained a single epoch."""
    root = tmp_path_factory.mktemp("trial")
    make_images(root / "data", classes=3)
    shitu("prepare", "data", cwd=root)
    shitu("train", *SMALL, "--epochs", "1", cwd=root)
    shitu("export", "--out", "inference/", cwd=root)
    return root


def test_the_workspace_may_be_named_before_the_command(space: Path, tmp_path: Path) -> None:
    shutil.copytree(space / "lists", tmp_path / "here/lists")
    shutil.copy(space / "shitu.yaml", tmp_path / "here/shitu.yaml")
    got = json.loads(shitu("-w", str(space), "index", "build", "--json", cwd=tmp_path / "here").stdout)
    assert got["count"] and (space / "index").is_dir() and not (tmp_path / "here/index").exists()
    fails("-w", "nowhere", "evaluate", cwd=tmp_path / "here", code=2, says=("nowhere is not a workspace",))


def test_features_remember_their_model(space: Path, tmp_path: Path) -> None:
    done = shitu("extract", "data", "--out", "f.npy", cwd=space)
    assert "next: shitu index build --features f.npy" in done.stdout + done.stderr
    done = shitu("index", "build", "--features", "f.npy", "--index", "of-features", cwd=space)
    assert "is not known" not in done.stdout + done.stderr
    shitu("search", "data/class_000/000.jpg", "--index", "of-features", cwd=space)
    # Features of other bytes than the note speaks of, and of another model.
    np.save(space / "g.npy", np.load(space / "f.npy")[:, ::-1])
    shutil.copy(space / "f.tsv", space / "g.tsv")
    shutil.copy(space / "f.npy.model.json", space / "g.npy.model.json")
    done = shitu("index", "build", "--features", "g.npy", "--index", "of-others", cwd=space)
    assert "which model made these vectors is not known" in done.stdout + done.stderr
    note = json.loads((space / "f.npy.model.json").read_text())
    (space / "f.npy.model.json").write_text(json.dumps({**note, "model": "another"}))
    says = ("f.npy was made by another model",)
    fails("index", "build", "--features", "f.npy", "--model", "inference", cwd=space, code=3, says=says)
    shitu("index", "build", "--features", "f.npy", "--index", "foreign", cwd=space)
    says = ("was built with another model",)
    fails("search", "data/class_000/000.jpg", "--index", "foreign", cwd=space, code=3, says=says)


def test_an_export_is_old_when_its_weights_are_others(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied, copy_function=shutil.copyfile)
    now = (copied / "inference/manifest.json").stat().st_mtime
    os.utime(copied / "output/best_model.pdparams", (now + 9, now + 9))
    done = shitu("extract", "data", "--out", "h.npy", cwd=copied)
    assert "older model" not in done.stdout + done.stderr
    with (copied / "output/best_model.pdparams").open("ab") as file:
        file.write(b"x")
    done = shitu("extract", "data", "--out", "h.npy", cwd=copied)
    assert "of an older model than the trained: shitu export renews it" in done.stdout + done.stderr


def test_one_picture_is_one_picture(space: Path) -> None:
    extractor = Extractor(space / "inference")
    picture = space / "data/class_000/000.jpg"
    together = extractor.extract([picture])
    assert together.shape[0] == 1
    for single in (picture, str(picture), picture.read_bytes()):
        np.testing.assert_array_equal(extractor.extract(single), together)
    with pytest.raises(DataError, match=r"nothing\.jpg"):
        extractor.extract("nothing.jpg")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("Optimizer.lr.learning_rate=0;1", "Optimizer.lr.learning_rate: got '0;1', expected a number"),
        ("Arch.Head.scale=-16", "Arch.Head.scale: got -16"),
        ("DataLoader.Train.dataset.transform_ops.0.DecodeImage.to_rgb=Ture", "are true or false"),
        (
            "DataLoader.Train.dataset.transform_ops.1.RandCropImage.size=0",
            "got 0, expected a whole number of at least 1",
        ),
    ],
)
def test_impossible_values_are_refused(space: Path, override: str, says: str) -> None:
    before = snapshot(space / "output")
    fails("train", *SMALL, "-o", override, cwd=space, code=4, says=(says,))
    assert snapshot(space / "output") == before


def test_strict_stops_at_warnings_with_fix_too(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=3)
    for path in made["class_002"][1:]:
        path.unlink()  # a class of one picture is a warning
    fails("prepare", "data", "--fix", "--strict", cwd=tmp_path, code=3, says=("to mend first",))
    assert not (tmp_path / "shitu.yaml").exists()
    shitu("prepare", "data", "--fix", cwd=tmp_path)


def test_a_run_that_was_stopped_early_is_to_be_continued(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    for path in (copied / "output").glob("best_model.*"):
        path.unlink()
    fails("evaluate", cwd=copied, code=2, says=("no trained weights", "shitu train --resume"))


def test_evaluation_tells_when_the_training_list_has_changed(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    done = shitu("evaluate", cwd=copied)
    assert "has changed since" not in done.stdout + done.stderr
    listed = copied / "lists/train_list.txt"
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[1:]))
    done = shitu("evaluate", cwd=copied)
    assert "the training list has changed since this model was trained" in done.stdout + done.stderr
