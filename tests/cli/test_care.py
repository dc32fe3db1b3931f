"""Nothing of the user's is lost, and no option is ignored in silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.files import atomic_dir, atomic_write_text
from tests.cli.test_mistakes import fails, snapshot
from tests.command import SMALL, shitu
from tests.conftest import MakeImages


def test_lists_of_the_user_in_a_folder_called_lists(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=3)
    lines = [f"data/{f.parent.name}/{f.name} {n}\n" for n, files in enumerate(made.values()) for f in files]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train_list.txt").write_text("".join(lines))
    (tmp_path / "lists/query_list.txt").write_text("mine\n")
    before = snapshot(tmp_path)
    fails("prepare", "lists/train_list.txt", cwd=tmp_path, code=2, says=("writes its own lists", "-w"))
    fails("prepare", "data", cwd=tmp_path, code=2, says=("train_list.txt already exists", "-w"))
    assert snapshot(tmp_path) == before


def test_output_goes_into_the_workspace_wherever_the_command_is_given(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    shitu("prepare", "data", "-w", "work", cwd=tmp_path)
    (tmp_path / "output").mkdir()
    (tmp_path / "output/best_model.pdparams").write_bytes(b"of another run")
    shitu("train", *SMALL, "--epochs", "1", "-w", "work", cwd=tmp_path)
    assert (tmp_path / "output/best_model.pdparams").read_bytes() == b"of another run"
    assert (tmp_path / "work/output/best_model.pdparams").is_file()


def test_extract_never_writes_over_a_list(trained_workspace: Path) -> None:
    mine = "data/class_000/000.jpg\tx\n"
    (trained_workspace / "mine.tsv").write_text(mine)
    fails(
        "extract",
        "mine.tsv",
        "--out",
        "mine.npy",
        cwd=trained_workspace,
        code=2,
        says=("was not written by this command",),
    )
    assert (trained_workspace / "mine.tsv").read_text() == mine
    shitu("extract", "lists/train_list.txt", "--out", "f.npy", cwd=trained_workspace)
    count = len((trained_workspace / "lists/train_list.txt").read_text().splitlines())
    assert np.load(trained_workspace / "f.npy").shape[0] == count
    (trained_workspace / "bad.jpg").write_bytes(b"x")
    fails(
        "extract",
        "bad.jpg",
        "--out",
        "g.npy",
        cwd=trained_workspace,
        code=3,
        says=("none of the images could be read (1 tried)",),
    )
    assert not (trained_workspace / "g.npy").exists()


@pytest.mark.slow
def test_a_refused_resume_leaves_the_finished_model_usable(trained_workspace: Path) -> None:
    fails("train", "--resume", "-o", "Arch.Backbone.name=PPLCNet_x0_35", cwd=trained_workspace, code=2, says=("Arch",))
    shitu("evaluate", cwd=trained_workspace)


def test_an_evaluation_that_fails_does_not_cost_the_training(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3, per_class=6)
    shitu("prepare", "data", cwd=tmp_path)
    query = (tmp_path / "lists/query_list.txt").read_text().split("\t")[0]
    (tmp_path / "data" / query).unlink()
    args = ("train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "--epochs", "1")
    fails(*args, cwd=tmp_path, code=3, says=(query,))
    assert (tmp_path / "output/latest.pdparams").is_file()


def test_boxes_reach_the_index(tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(0)
    rows = ["image,label,box"]
    (tmp_path / "data").mkdir()
    for n in range(6):
        plain = np.full((60, 60, 3), (255, 40 * n, 0), np.uint8)
        sheet = np.concatenate([plain, rng.integers(0, 256, (60, 60, 3)).astype(np.uint8)], axis=1)
        cv2.imwrite(str(tmp_path / f"data/{n}.png"), sheet)
        rows += [f'{n}.png,plain,"0,0,60,60"', f'{n}.png,noise,"60,0,120,60"']
    (tmp_path / "data/t.csv").write_text("\n".join(rows) + "\n")
    shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "4", cwd=tmp_path)
    shitu("index", "build", "lists/train_list.txt", cwd=tmp_path)
    items = json.loads(shitu("index", "show", "--json", cwd=tmp_path).stdout)["items"]
    assert len(items) == 12 and items[0]["path"].endswith("#0,0,60,60")
    answer = json.loads(shitu("search", "lists/train_list.txt", "--top", "1", "--json", cwd=tmp_path).stdout)
    assert all(r["matches"][0]["path"].endswith(r["query"].rpartition("#")[2]) for r in answer["results"])


def test_options_that_would_be_ignored_are_refused(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data" / "train", classes=3)
    make_images(tmp_path / "data" / "test", classes=3, seed=1)
    fails("prepare", "data", "--split", "open", cwd=tmp_path, code=2, says=("a split of its own (test, train)",))
    fails(
        "prepare",
        "data",
        "--protocol",
        "dml",
        cwd=tmp_path,
        code=2,
        says=("split-tree has no choice of official splits",),
    )
    fails("prepare", "data", "--image-root", ".", cwd=tmp_path, code=2, says=("for lists, tables",))


def test_tables_named_train_and_test_are_two_splits(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=3)
    for split, chosen in (("train", slice(0, 3)), ("test", slice(3, 4))):
        rows = [f"{f.parent.name}/{f.name},{name}" for name, files in made.items() for f in files[chosen]]
        (tmp_path / f"data/{split}.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    shitu("prepare", "data", cwd=tmp_path)
    assert len((tmp_path / "lists/train_list.txt").read_text().splitlines()) == 9
    assert len((tmp_path / "lists/query_list.txt").read_text().splitlines()) == 3


def test_merged_folders_of_one_name(tmp_path: Path, make_images: MakeImages) -> None:
    for part in ("a", "b"):
        make_images(tmp_path / part / "images", classes=3, seed=ord(part))
    merge = ("prepare", "a/images", "b/images", "--merge", "--split", "none", "-w", "work")
    shitu(*merge, cwd=tmp_path)
    assert len((tmp_path / "work/lists/label_map.txt").read_text().splitlines()) == 3
    shitu(*merge, "--keep-apart", "--new-labels", cwd=tmp_path)
    assert len((tmp_path / "work/lists/label_map.txt").read_text().splitlines()) == 6


@pytest.mark.parametrize("name", ["②", "-1", "01", "1.0"])
def test_odd_class_names(tmp_path: Path, make_images: MakeImages, name: str) -> None:
    make_images(tmp_path / "data", classes=4)
    (tmp_path / "data/class_001").rename(tmp_path / "data" / name)
    done = shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    assert "next: shitu train" in done.stdout
    assert ("untrained" in done.stdout) == (name == "-1")


def test_links_are_followed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/old").write_text("x")
    os.symlink("real", tmp_path / "link")
    with atomic_dir(tmp_path / "link") as folder:
        (folder / "new").write_text("y")
    assert (tmp_path / "link").is_symlink() and [p.name for p in (tmp_path / "real").iterdir()] == ["new"]
    os.symlink("real/new", tmp_path / "file")
    atomic_write_text(tmp_path / "file", "z")
    assert (tmp_path / "file").is_symlink() and (tmp_path / "real/new").read_text() == "z"


def test_a_new_run_keeps_the_model_of_the_one_before(trained_workspace: Path) -> None:
    before = (trained_workspace / "output/best_model.pdparams").read_bytes()
    done = shitu("train", *SMALL, "--epochs", "1", "--seed", "4", cwd=trained_workspace)
    assert "the model of the previous run was moved to" in done.stdout
    assert (trained_workspace / "output/earlier/001/best_model.pdparams").read_bytes() == before
    assert (trained_workspace / "output/best_model.pdparams").read_bytes() != before
    values = json.loads(
        shitu("evaluate", "--model", "output/earlier/001/best_model", "--json", cwd=trained_workspace).stdout
    )
    assert values["metrics"]["recall@1"] >= 0
    assert "1 earlier model in output/earlier (" in shitu(cwd=trained_workspace).stdout
    done = shitu("train", *SMALL, "--epochs", "1", cwd=trained_workspace)
    assert "2 earlier models take" in done.stdout and "trained 1 epoch in" in done.stdout
    done = shitu("train", *SMALL, "--epochs", "1", "--keep-earlier", "1", cwd=trained_workspace)
    gone = ", ".join(str(trained_workspace / "output/earlier" / name) for name in ("001", "002"))
    assert f"removed because of --keep-earlier 1: {gone}" in done.stdout
    assert [path.name for path in (trained_workspace / "output/earlier").iterdir()] == ["003"]


def test_a_resume_with_other_classes_says_the_way_out(trained_workspace: Path, make_images: MakeImages) -> None:
    make_images(trained_workspace / "data", classes=7)
    shitu("prepare", "data", cwd=trained_workspace)
    start = f"--init-from {trained_workspace}/output/latest"
    says = ("the run to resume has 6 classes, train_list.txt has 7 now", start)
    fails("train", "--resume", "--epochs", "2", cwd=trained_workspace, code=2, says=says)
    shitu("train", *SMALL, "--epochs", "1", "--init-from", "output/latest", cwd=trained_workspace)


def test_pictures_left_out_of_training_are_told(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=3)
    shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    made["class_001"][2].write_bytes(b"")
    skipping = ("-o", "DataLoader.Train.dataset.on_error=skip", "--batch-size", "12")
    done = shitu("train", *SMALL, *skipping, "--epochs", "2", cwd=tmp_path)
    assert done.stderr.count("training without 1 image that could not be read, such as ") == 1
    assert "class_001/002.jpg: the file is empty" in done.stderr


def test_resume_keeps_the_options_of_the_run(workspace: Path) -> None:
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "12", "--lr", "0.01", cwd=workspace)
    done = shitu("train", "--resume", "--epochs", "2", cwd=workspace)
    assert "PPLCNet_x0_25" in done.stdout and "batches of 12" in done.stdout
    assert [line for line in done.stderr.splitlines() if "changed since" in line] == [
        "warning: changed since: Global.epochs: 1 then, 2 now"
    ]
    options = ("--lr", "0.02", "-o", "Loss.Train.CELoss.epsilon=0.1", "-o", "DataLoader.Train.sampler.shuffle=False")
    says = ("changed since: Optimizer.lr.learning_rate: 0.01 then, 0.02 now", "DataLoader.Train.sampler.shuffle: True")
    done = shitu("train", "--resume", "--epochs", "3", *options, cwd=workspace)
    assert all(text in done.stderr for text in says), done.stderr
    again = shitu("train", "--resume", cwd=workspace)
    assert "nothing to do: 3 epochs are done of 3" in again.stderr


def test_another_data_set_is_numbered_anew(workspace: Path, make_images: MakeImages) -> None:
    make_images(workspace / "other" / "x", classes=2, seed=5)
    make_images(workspace / "other" / "y", classes=2, seed=6)
    done = shitu("prepare", "other", "--depth", "2", cwd=workspace)
    assert "classes are numbered from 0 again" in done.stdout and "class_num: 6 → 4" in done.stdout


def test_pictures_of_many_kinds(tmp_path: Path, make_images: MakeImages) -> None:
    import cv2

    made = make_images(tmp_path / "data", classes=2, per_class=6)
    for n, suffix in enumerate((".gif", ".webp", ".bmp", ".tiff", ".png", ".avif")):
        image = cv2.imread(str(made["class_001"][n]))
        made["class_001"][n].with_suffix(suffix).write_bytes(cv2.imencode(suffix, image)[1].tobytes())
        made["class_001"][n].unlink()
    (tmp_path / "data/class_001/phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    done = shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    assert "12 labelled images" in done.stdout and "other-format" in done.stdout and "phone.heic" in done.stdout
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "4", cwd=tmp_path)


@pytest.mark.slow
def test_wrong_models_and_vectors_of_unknown_origin(trained_workspace: Path) -> None:
    fails("evaluate", "--model", "nope", cwd=trained_workspace, code=2, says=("no such model: nope",))
    shitu("extract", "data", "--out", "f.npz", cwd=trained_workspace)
    (trained_workspace / "f.npz.model.json").unlink()
    done = shitu("index", "build", "--features", "f.npz", cwd=trained_workspace)
    assert "the model that computed these vectors is unknown" in done.stderr
    shitu("index", "build", "--features", "f.npz", "--model", "output/best_model", cwd=trained_workspace)
    shitu("train", *SMALL, "--epochs", "1", "--seed", "9", cwd=trained_workspace)
    says = ("another model",)
    fails("search", "data/class_000/000.jpg", "--model", "output/best_model", cwd=trained_workspace, code=3, says=says)
    done = shitu("index", "add", "data/class_000", "--model", "output/earlier/001/best_model", cwd=trained_workspace)
    assert "class_000" in shitu("index", "show", "--json", cwd=trained_workspace).stdout


@pytest.mark.slow
def test_without_an_evaluation_split_the_rest_works(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    done = shitu("train", *SMALL, "--epochs", "1", cwd=tmp_path)
    assert "next: shitu export" in done.stdout
    fails("evaluate", cwd=tmp_path, code=3, says=("nothing to evaluate on", "--split open"))
    shitu("export", "--out", "inference/", cwd=tmp_path)
    shitu("index", "build", cwd=tmp_path)
    assert "class_000" in shitu("search", "data/class_000/000.jpg", cwd=tmp_path).stdout


def test_problems_of_the_command_line_blame_it(workspace: Path) -> None:
    fails("train", "-o", "Foo.bar=3", cwd=workspace, code=4, says=("-o Foo.bar",))
    fails("train", "-o", "Arch.Backbone.name=Foo", cwd=workspace, code=4, says=("-o Arch.Backbone.name",))
    fails("train", "--lr", "-1", cwd=workspace, code=2, says=("--lr",))
