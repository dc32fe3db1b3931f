"""`shitu index` over feature files, in any directory and without a model: what it says of places and files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.steps.gallery import stored_path
from shitu_cli.templates import read_template
from shitu_cli.workspace import Workspace
from tests.command import shitu
from tests.index.made import vectors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """features.npy of 20 images of two classes, with their table."""
    np.save(tmp_path / "features.npy", vectors(20))
    rows = "".join(f"{n}.jpg\tclass {n % 2}\n" for n in range(20))
    (tmp_path / "features.tsv").write_text(f"path\tlabel\n{rows}")
    return tmp_path


def test_features_and_an_index_need_no_workspace(folder: Path) -> None:
    index = ("--index", "i")
    done = shitu("index", "build", "--features", "features.npy", *index, cwd=folder)
    assert "20 vectors of 24 values, 2 labels, flat" in done.stdout
    assert "added 0, replaced 20" in shitu("index", "add", "--features", "features.npy", *index, cwd=folder).stdout
    text = " ".join(shitu("index", "show", *index, cwd=folder).stdout.split())
    assert "class 0 10 class 1 10" in text
    shown = json.loads(shitu("index", "show", "--json", *index, cwd=folder).stdout)
    assert shown["classes"] == {"class 0": 10, "class 1": 10}
    assert shown["count"] == 20 and shown["items"][0]["label"] == "class 0"
    assert "removed 10" in shitu("index", "remove", "--label", "class 1", *index, cwd=folder).stdout


@pytest.mark.parametrize(
    ("line", "way"),
    [
        ("index show", "or name the index: --index index/"),
        ("index export out", "or name the index: --index index/"),
        ("search a.jpg", "or name the index: --index index/"),
        ("search a.jpg --index i", "or name the model: --model inference/"),
        ("index add a.jpg --index i", "or name the model: --model inference/"),
        ("extract a.jpg", "or name the model: --model inference/"),
        ("index build a.jpg --model m", "or say where: shitu index build a.jpg --index index/ --model m"),
    ],
)
def test_what_works_without_a_workspace_is_said(line: str, way: str, folder: Path) -> None:
    """The index of vectors from elsewhere does not say with which model to compute others."""
    (folder / "a.jpg").write_bytes(b"not opened")
    shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder)
    done = shitu(*line.split(), cwd=folder, check=False)
    assert done.returncode == 2 and "no workspace" in done.stderr
    assert f"hint: shitu prepare ./data, {way}" in " ".join(done.stderr.split())


def test_an_image_under_two_labels_is_named(folder: Path) -> None:
    table = folder / "features.tsv"
    table.write_text(table.read_text().replace("2.jpg\tclass 0\n", "1.jpg\tclass 0\n", 1))
    done = shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder)
    says = " ".join(done.stderr.split())
    assert "1 image came more than once: only the last of each is indexed, some under another label" in says
    assert "1.jpg: class 1, then class 0" in says


def test_images_without_a_label_are_removed_together(folder: Path) -> None:
    """An empty word is refused as a label: it is what an unset variable of the shell gives."""
    index = ("--index", "i")
    table = folder / "features.tsv"
    table.write_text(table.read_text().replace("class 1", ""))
    assert (
        "10 images without a label" in shitu("index", "build", "--features", "features.npy", *index, cwd=folder).stderr
    )
    done = shitu("index", "remove", "--label", "", *index, cwd=folder, check=False)
    assert done.returncode == 2 and "an empty argument after --label" in done.stderr
    assert "removed 10" in shitu("index", "remove", "--unlabelled", *index, cwd=folder).stdout
    assert json.loads(shitu("index", "show", "--json", *index, cwd=folder).stdout)["classes"] == {"class 0": 10}
    done = shitu("index", "remove", "--unlabelled", *index, cwd=folder, check=False)
    assert done.returncode == 2 and "not in the index: (no label)" in done.stderr


def test_another_spelling_of_a_label_is_said(folder: Path) -> None:
    """Else a class is split in two without a word: fruit/apple of the whole folder, apple of the one inside."""
    index = ("--index", "i")
    table = folder / "features.tsv"
    table.write_text(table.read_text().replace("class 0", "Fruit/Red apple"))
    shitu("index", "build", "--features", "features.npy", *index, cwd=folder)
    done = shitu("index", "add", "--features", "features.npy", "--label", "red_apple", *index, cwd=folder)
    text = " ".join((done.stdout + done.stderr).split())
    assert "new in the index: red_apple" in text
    assert "'red_apple' is a new label, but 'Fruit/Red apple' is already in the index; if both mean the same: " in text
    assert "--label 'Fruit/Red apple'" in text
    table.write_text(table.read_text().replace("Fruit/Red apple", "red-Apple"))
    done = shitu("index", "add", "--features", "features.npy", *index, cwd=folder)  # --label would be for both classes
    text = " ".join((done.stdout + done.stderr).split())
    assert "both mean the same: shitu index remove --label red-Apple --index i, then add its images alone with" in text
    done = shitu("index", "add", "--features", "features.npy", "--label", "class 10", *index, cwd=folder)
    assert "new in the index: class 10" in done.stdout and "a new label" not in done.stderr
    done = shitu("index", "add", "--features", "features.npy", "--label", "class 10", *index, cwd=folder)
    assert "new in the index" not in done.stdout
    done = shitu("index", "remove", "--label", "Class_10", *index, cwd=folder, check=False)
    assert done.returncode == 2 and "shitu index remove --label 'class 10'" in " ".join(done.stderr.split())


def test_a_place_that_no_index_can_have(folder: Path) -> None:
    for command in (["build", "--features", "features.npy"], ["show"], ["remove", "x.jpg"]):
        for place in ("x" * 300, f"{'x' * 200}/" * 30):
            done = shitu("index", *command, "--index", place, cwd=folder, check=False)
            assert done.returncode == 2 and "the name is too long" in done.stderr
    assert sorted(os.listdir(folder)) == ["features.npy", "features.tsv"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("vector.index", b"IxMp", "vector.index is damaged"),
        ("manifest.json", b"{", "manifest.json:1"),
        ("manifest.json", b'{"format": 1}', "manifest.json: kind is missing"),
        ("items.tsv", b"", "not the file that was written with the index"),
    ],
)
def test_a_damaged_index_is_said_with_the_way_out(folder: Path, name: str, content: bytes, says: str) -> None:
    shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder)
    (folder / "i" / name).write_bytes(content)
    done = shitu("index", "show", "--index", "i", cwd=folder, check=False)
    assert done.returncode == 3 and says in done.stderr.replace("\n", "") and "index build" in done.stderr


def test_a_table_of_other_vectors_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shitu_cli.features.origin import Origin, note_origin
    from shitu_cli.files import sha256_of
    from shitu_cli.index import sources

    monkeypatch.setattr(sources, "PAUSE", 0.0)
    note_origin(folder / "features.npy", Origin("m", sha256_of(folder / "features.npy"), "0" * 64))
    done = shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder, check=False)
    assert done.returncode == 3 and not (folder / "i").exists()
    assert "does not belong to the vectors of features.npy" in done.stderr.replace("\n", " ")


def test_a_search_loads_what_it_needs(
    exported: Path,
    make_images: Callable[..., object],
    tmp_path: Path,
) -> None:
    """A cold search for an image waits for imports above all: no Paddle, no compiler, no readers of data sets."""
    make_images(tmp_path / "data", classes=2, per_class=2)
    shutil.copytree(exported, tmp_path / "model")
    for file in ("inference.pdmodel", "inference.json", "inference.pdiparams"):
        (tmp_path / "model" / file).unlink()  # leaves what ONNX Runtime runs
    where = ("--model", "model", "--index", "i")
    shitu("index", "build", "data", *where, cwd=tmp_path)
    argv = [sys.executable, "-X", "importtime", "-m", "shitu_cli", "search", "data/class_000/000.jpg", *where]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"onnxruntime", "shitu_cli.index.vectors"} <= loaded  # it has really searched
    heavy = {"paddle", "numba", "scipy", "pandas", "pymilvus", "httpx", "torch", "openvino", "fastapi", "PIL"}
    heavy |= {"shitu_cli.preparation.formats", "shitu_cli.evaluation.metrics", "shitu_cli.training.checkpoint"}
    heavy |= {"shitu_cli.config.schema", "shitu_cli.config.parts.augmentations", "numpy.ma", "numpy.random"}
    heavy |= {"faiss", "pydantic"}  # a small flat index, and options that need no conversion
    heavy |= {"shitu_cli.features.detection.detector", "shitu_cli.features.shard_file"}
    assert sorted(heavy & loaded) == []


def test_search_says_what_an_image_shows(
    exported: Path,
    make_images: Callable[..., object],
    tmp_path: Path,
) -> None:
    make_images(tmp_path / "data", classes=3, per_class=4)
    where = ("--model", str(exported), "--index", "i")
    shitu("index", "build", "data", *where, cwd=tmp_path)
    query = ("search", "data/class_001/000.jpg", *where)
    text = " ".join(shitu(*query, "--html", "s.html", cwd=tmp_path).stdout.split())
    photo = shitu(
        "search", "--html", "data/class_001/001.jpg", *query[1:], cwd=tmp_path, check=False
    )  # as if --html were a flag
    assert photo.returncode == 2 and "expected a name that ends in .html" in photo.stderr
    unwritten = shitu(*query, "--html", "s.html/s.html", cwd=tmp_path, check=False)
    assert unwritten.returncode == 5 and "most like class_001" in unwritten.stdout  # what was computed is shown
    assert "query class" not in (tmp_path / "s.html").read_text()
    assert re.search(
        r"data/class_001/000\.jpg: most like class_001 \(\d+% of the votes; \d of 5 neighbours agree\)", text
    )
    text = " ".join(shitu(*query, "--threshold", "1", cwd=tmp_path).stdout.split())
    assert "unknown (nearest: class_001, " in text or "this is class_001" in text
    result = json.loads(shitu(*query, "--top", "1", "--json", cwd=tmp_path).stdout)["results"][0]
    assert len(result["matches"]) == 1 and result["matches"][0]["path"].endswith("data/class_001/000.jpg")
    answer = result["answer"]
    assert answer["label"] == "class_001" and answer["voters"] == 5 and 0 < answer["confidence"] <= 1
    for threshold in ("nan", "1.1", "-1.5", "high"):
        done = shitu(*query, "--threshold", threshold, cwd=tmp_path, check=False)
        assert done.returncode == 2 and "expected a number from -1 to 1, or auto" in done.stderr


def listed(*index: str, cwd: Path) -> list[str]:
    return [item["path"] for item in json.loads(shitu("index", "show", "--json", *index, cwd=cwd).stdout)["items"]]


def test_features_lead_to_their_images_from_any_directory(folder: Path) -> None:
    from shitu_cli.features.origin import Origin, note_origin
    from shitu_cli.files import sha256_of

    (folder / "photos").mkdir()
    (folder / "photos/0.jpg").write_bytes(b"")
    file = folder / "features.npy"
    for written_in, path in ((folder, "0.jpg"), (folder / "photos", "photos/0.jpg")):
        where = os.path.relpath(written_in, folder)
        note_origin(file, Origin("m", sha256_of(file), sha256_of(folder / "features.tsv"), where))
        shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder)
        assert listed("--index", "i", cwd=folder)[0] == str(folder / path)
    shutil.move(folder / "photos", folder / "elsewhere")  # only from here, if at all
    shitu("index", "build", "--features", "../features.npy", "--index", "i", cwd=folder / "elsewhere")
    assert listed("--index", "i", cwd=folder / "elsewhere")[0] == str(folder / "elsewhere/0.jpg")


def test_a_path_means_the_image_that_it_leads_to(folder: Path) -> None:
    (folder / "shitu.yaml").write_text(read_template("quick"))
    (folder / "sub").mkdir()
    table = folder / "features.tsv"
    table.write_text(table.read_text().replace("\n1.jpg", "\nsub/0.jpg"))
    shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder)
    assert "removed 1" in shitu("index", "remove", "0.jpg", "--index", "../i", cwd=folder / "sub").stdout
    left = listed("--index", "i", cwd=folder)
    assert "0.jpg" in left and "sub/0.jpg" not in left
    assert "removed 1" in shitu("index", "remove", "0.jpg", "--index", "../i", cwd=folder / "sub").stdout  # as shown


def test_an_image_is_the_same_through_a_link_to_the_workspace(folder: Path) -> None:
    (folder / "ws").mkdir()
    (folder / "ws/shitu.yaml").write_text("")
    (folder / "link").symlink_to(folder / "ws")
    space = Workspace(folder / "link")
    (folder / "ws/photo.jpg").symlink_to(folder / "features.npy")  # this link is the image
    for path in (folder / "ws/photo.jpg", folder / "link/photo.jpg"):
        assert stored_path(space, str(path)) == "photo.jpg"
    assert stored_path(space, str(folder / "photo.jpg")) == str(folder / "photo.jpg")


@pytest.mark.parametrize(
    ("label", "says"), [("", "an empty argument after --label"), (" \t", "--label: the name of a label is empty")]
)
def test_a_label_without_a_name_is_refused(folder: Path, label: str, says: str) -> None:
    """A script whose variable is not set would take the labels of images away."""
    shitu("index", "build", "--features", "features.npy", "--index", "i", cwd=folder)
    words = ("index", "add", "--features", "features.npy", "--label", label, "--index", "i")
    done = shitu(*words, cwd=folder, check=False)
    assert done.returncode == 2 and says in done.stderr
