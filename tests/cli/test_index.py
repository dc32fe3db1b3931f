"""`shitu index` and `shitu search` as a user runs them: in a directory, in Milvus, and when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.index import open_index
from shitu_cli.index.store import BuildOptions
from shitu_cli.reporting import SilentReporter
from shitu_cli.workspace import Workspace
from tests.cli.test_mistakes import fails, snapshot
from tests.command import SMALL, shitu, shitu_started
from tests.index.made import gallery

PICTURE = "data/class_001/000.jpg"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Iterator[Path]:
    """A workspace with an exported model, 24 pictures of 4 classes, and their features; its indexes are elsewhere."""
    root = tmp_path_factory.mktemp("index")
    make_images(root / "data", classes=4, per_class=6)
    shitu("prepare", "data", "--split", "none", cwd=root)
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "8", cwd=root)
    shitu("export", "--out", "inference/", "--format", "onnx", cwd=root)
    shitu("extract", "data", "--out", "features.npy", cwd=root)
    yield root


def answers(*args: str, cwd: Path) -> list[tuple[str, str, float]]:
    """Label, path and score of what the first picture finds."""
    matches = json.loads(shitu("search", *args, "--json", cwd=cwd).stdout)["results"][0]["matches"]
    return [(m["label"], m["path"], m["score"]) for m in matches]


@pytest.fixture(params=["directory", "milvus"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The options for an index of this test's own."""
    if request.param == "directory":
        return ["--index", str(tmp_path / "i")]
    pytest.importorskip("milvus_lite", reason="milvus is an extra")
    return ["--store", f"milvus:{tmp_path / 'g.db'}", "--collection", "mine"]


def test_the_same_commands_for_every_store(space: Path, where: list[str]) -> None:
    fails("index", "show", *where, cwd=space, code=2, says=("no index", "shitu index build"))
    done = shitu("index", "build", *where, cwd=space)
    assert "24 vectors of 1280 values, 4 labels, flat" in done.stdout
    assert " ".join(["next: shitu search photo.jpg", *where]) in done.stdout
    first = answers(PICTURE, *where, "--top", "3", cwd=space)
    assert first[0][:2] == ("class_001", PICTURE) and first[0][2] > 0.999 and len(first) == 3
    done = shitu("index", "remove", PICTURE, "--label", "class_003", *where, cwd=space)
    assert "removed 7" in done.stdout and "17 vectors" in done.stdout
    done = shitu("index", "add", PICTURE, "data/class_002/000.jpg", "--label", "new", *where, cwd=space)
    assert "added 1, replaced 1" in done.stdout and "18 vectors" in done.stdout
    assert answers(PICTURE, *where, "--threshold", "0.99999", cwd=space) == [("new", PICTURE, first[0][2])]
    shown = json.loads(shitu("index", "show", "--json", *where, cwd=space).stdout)
    assert shown["count"] == len(shown["items"]) == 18 and shown["labels"] == 4
    assert [item["label"] for item in shown["items"] if item["path"] == "data/class_002/000.jpg"] == ["new"]
    fails("index", "remove", "--label", "nobody", "--id", "999", *where, cwd=space, code=2, says=("999, nobody",))


def test_vectors_of_another_kind_are_refused(space: Path, where: list[str]) -> None:
    options = dict(zip(where[::2], where[1::2], strict=True))
    store = open_index(options.get("--index") or options["--store"], collection=options.get("--collection", ""))
    store.build(gallery(9, size=8), BuildOptions(), SilentReporter())
    store.close()
    fails("search", PICTURE, *where, cwd=space, code=3, says=("1280 values, the index 8", "shitu index build"))
    store.build(gallery(9, size=1280), BuildOptions(model="of a friend", model_path="theirs/"), SilentReporter())
    store.close()
    says = ("another model", "theirs/", "shitu index build")
    fails("search", PICTURE, *where, cwd=space, code=3, says=says)
    fails("index", "add", PICTURE, "--label", "a", *where, cwd=space, code=3, says=says)


def write(file: Path, features: np.ndarray) -> None:
    np.save(file, features)
    rows = "".join(f"{n}.jpg\t{n % 3}\n" for n in range(len(features)))
    file.with_suffix(".tsv").write_text("path\tlabel\n" + rows)


def test_options_that_do_not_go_together(space: Path, tmp_path: Path) -> None:
    index, store = ("--index", str(tmp_path / "i")), ("--store", "milvus:g.db")
    fails("index", "show", *index, *store, cwd=space, code=2, says=("--index and --store",))
    fails("index", "show", "--collection", "a", cwd=space, code=2, says=("--collection is for", "--store"))
    fails("index", "show", "--store", "redis:h", cwd=space, code=2, says=("expected milvus:http://host:19530",))
    fails("index", "build", "data", "--features", "features.npy", *index, cwd=space, code=2, says=("give one",))
    fails("index", "build", "--kind", "lsh", *index, cwd=space, code=2, says=("flat, hnsw, ivf, binary",))
    fails("index", "build", "--features", "no.npy", *index, cwd=space, code=2, says=("no such file: no.npy",))
    write(space / "foreign.npy", np.ones((9, 8), np.float32))
    model = ("--model", "inference")
    says = ("foreign.npy holds vectors of 8 values, but inference returns 1280",)
    fails("index", "build", "--features", "foreign.npy", *model, *index, cwd=space, code=3, says=says)
    assert not (tmp_path / "i").exists()


def test_a_picture_of_one_pixel(space: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    index = ("--index", str(tmp_path / "i"))
    shitu("index", "build", "--features", "features.npy", *index, cwd=space)
    done = shitu("index", "add", str(tmp_path / "dot.png"), "--label", "dot", *index, cwd=space)
    assert "25 vectors" in done.stdout


def test_the_page_marks_right_and_wrong(space: Path, tmp_path: Path) -> None:
    index = ("--index", str(tmp_path / "i"))
    shitu("index", "build", *index, cwd=space)
    listed = len((space / "lists/train_list.txt").read_text().splitlines())
    shitu("search", "lists/train_list.txt", "--top", "20", "--html", str(tmp_path / "s.html"), *index, cwd=space)
    page = (tmp_path / "s.html").read_text()
    assert page.count("<h2>") == listed and "data:image/" in page
    assert 'class="right"' in page and 'class="wrong"' in page
    # The folder that a query lies in says nothing of what it shows.
    shitu("search", "data", PICTURE, "--html", str(tmp_path / "s.html"), *index, cwd=space)
    page = (tmp_path / "s.html").read_text()
    assert page.count("<h2>") == 25 and 'class="right"' not in page and "query class" not in page
    says = ("--threshold auto needs a plain evaluation", "shitu evaluate")
    fails("search", PICTURE, "--threshold", "auto", *index, cwd=space, code=2, says=says)
    fails(
        "search",
        PICTURE,
        "--threshold",
        "high",
        *index,
        cwd=space,
        code=2,
        says=("expected a number from -1 to 1, or auto",),
    )


def test_an_index_of_paddlex_is_asked_and_taken_over(space: Path, tmp_path: Path) -> None:
    shitu("index", "build", "--features", "features.npy", "--index", str(tmp_path / "i"), cwd=space)
    shitu("index", "export", str(tmp_path / "theirs"), "--index", str(tmp_path / "i"), cwd=space)
    for name in ("items.tsv", "manifest.json", "id_map.yaml"):  # PaddleClas's is left
        (tmp_path / "theirs" / name).unlink()
    assert answers(PICTURE, "--index", str(tmp_path / "theirs"), cwd=space)[0][0] == "class_001"
    taken = ("--features", str(tmp_path / "theirs/vector.index"), "--model", "inference", "--kind", "ivf")
    shitu("index", "build", *taken, "--index", str(tmp_path / "new"), cwd=space)
    assert answers(PICTURE, "--index", str(tmp_path / "new"), cwd=space)[0][:2] == ("class_001", PICTURE)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux shells do")
def test_a_full_disk_keeps_the_index_before(space: Path, tmp_path: Path) -> None:
    index = tmp_path / "i"
    shitu("index", "build", "--index", str(index), cwd=space)
    before = snapshot(index)
    words = f"{sys.executable} -m shitu_cli index add {PICTURE} --label new --index {index}"
    script = f"trap '' XFSZ; ulimit -f 60; exec {words}"  # KB: less than the vectors need
    done = subprocess.run(["bash", "-c", script], cwd=space, capture_output=True, text=True)
    assert done.returncode == 5 and "cannot write" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert snapshot(index) == before and not list(tmp_path.glob(".i.*"))


def test_two_writers_at_once(space: Path, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    with Workspace(tmp_path).lock("index"):
        says = (f"another `shitu index` (process {os.getpid()})", "wait until it ends")
        fails("index", "build", "--index", str(tmp_path / "i"), cwd=space, code=5, says=says)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_a_kill_in_the_middle_costs_nothing(space: Path, tmp_path: Path) -> None:
    index = ("--index", str(tmp_path / "i"))
    shitu("index", "build", "--features", "features.npy", *index, cwd=space)
    before = snapshot(tmp_path / "i")
    write(space / "many.npy", np.random.default_rng(0).standard_normal((60_000, 64)).astype(np.float32))
    process = shitu_started("index", "build", "--features", "many.npy", *index, cwd=space)
    while process.poll() is None and not list(tmp_path.glob(".i.*.tmp/*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it was done before the kill: {output}"
    assert snapshot(tmp_path / "i") == before
    assert list(tmp_path.glob(".i.*.tmp"))
    shitu("index", "build", "--features", "many.npy", *index, cwd=space)
    assert not list(tmp_path.glob(".i.*")), "what the killed one left"
    assert "60,000 vectors" in shitu("index", "show", *index, cwd=space).stdout


def test_an_index_needs_no_workspace_around_it(space: Path, tmp_path: Path) -> None:
    """It names its model: what is done with a directory that holds one works there, whatever the command."""
    model = ("--model", str(space / "inference"), "--index", "index")
    shitu("index", "build", str(space / "data"), *model, cwd=tmp_path)
    photo = str(space / "data/class_000/000.jpg")
    assert "24 vectors" in shitu("index", "show", cwd=tmp_path).stdout
    assert json.loads(shitu("index", "add", photo, "--label", "new", "--json", cwd=tmp_path).stdout)["replaced"] == 1
    shitu("index", "remove", "--label", "class_003", cwd=tmp_path)
    exported = json.loads(shitu("index", "export", "out", "--json", cwd=tmp_path).stdout)
    assert exported == {"directory": "out", "changed_labels": []}
    assert shitu("-w", str(tmp_path), "index", "show", "-q", cwd=space).stdout.count("class_") == 3
    assert answers(photo, cwd=tmp_path)[0][0] == "new"
    named = {"SHITU_WORKSPACE": str(tmp_path)}
    assert shitu("index", "show", "-q", cwd=space, env=named).stdout.count("class_") == 3
    misspelt = shitu("index", "show", cwd=tmp_path, env={"SHITU_WORKSPACE": "nowhere"}, check=False)
    assert misspelt.returncode == 2 and "nowhere is not a workspace" in misspelt.stderr
    fails("evaluate", cwd=tmp_path, code=2, says=("no workspace",))


def test_an_index_finds_its_model_where_both_were_copied_to(space: Path, tmp_path: Path) -> None:
    shutil.copytree(space / "inference", tmp_path / "here/inference")
    model = ("--model", str(tmp_path / "here/inference"), "--index", str(tmp_path / "here/index"))
    shitu("index", "build", "--features", "features.npy", *model, cwd=space)
    (tmp_path / "here").rename(tmp_path / "there")
    photo = str(space / PICTURE)
    assert answers(photo, cwd=tmp_path / "there")[0][0] == "class_001"
    (tmp_path / "there/inference").rename(tmp_path / "there/gone")
    says = ("was built with is not on this machine", "name it with --model")
    for words in (("search", photo), ("index", "add", photo, "--label", "a")):
        fails(*words, cwd=tmp_path / "there", code=2, says=says)
    done = shitu("extract", photo, "--model", "gone", cwd=tmp_path / "there")
    assert "next: shitu index build --features features.npy --index index/ --model gone" in done.stdout
    proposal = ("index", "build", "--features", "features.npy", "--index", "index/", "--model", "gone")
    shitu(*proposal, cwd=tmp_path / "there")
