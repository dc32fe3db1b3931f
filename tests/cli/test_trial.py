"""What a stranger's trial found: each once wrong, or silent."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from shitu_cli import Extractor
from shitu_cli.config.schema import DatasetConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import DataError
from shitu_cli.evaluation.identities import identities_of
from shitu_cli.features.list_features import ListFeatures
from shitu_cli.features.resumable import BLOCK_IMAGES
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.problems import Problems
from shitu_cli.training.save_files import write_arrays
from shitu_cli.weights.paddle_files import read_paddle
from shitu_cli.workspace import Workspace
from tests.cli.test_mistakes import fails, snapshot
from tests.command import SMALL, all_end, children_of, shitu, shitu_process, shitu_started
from tests.conftest import MakeImages


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
    assert "is unknown" not in done.stdout + done.stderr
    shitu("search", "data/class_000/000.jpg", "--index", "of-features", cwd=space)
    # Features of other bytes than the note speaks of, and of another model.
    np.save(space / "g.npy", np.load(space / "f.npy")[:, ::-1])
    shutil.copy(space / "f.tsv", space / "g.tsv")
    shutil.copy(space / "f.npy.model.json", space / "g.npy.model.json")
    done = shitu("index", "build", "--features", "g.npy", "--index", "of-others", cwd=space)
    assert "the model that computed these vectors is unknown" in done.stdout + done.stderr
    note = json.loads((space / "f.npy.model.json").read_text())
    (space / "f.npy.model.json").write_text(json.dumps({**note, "model": "another"}))
    says = ("f.npy was computed by another model",)
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
    assert "was exported from older weights: shitu export refreshes it" in done.stdout + done.stderr


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
        ("DataLoader.Train.dataset.transform_ops.0.DecodeImage.to_rgb=Ture", "expected true: images are RGB here"),
        (
            "DataLoader.Train.dataset.transform_ops.1.RandCropImage.size=0",
            "got 0, expected a whole number from 1 to 4096",
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
    fails("prepare", "data", "--fix", "--strict", cwd=tmp_path, code=3, says=("to fix first",))
    assert not (tmp_path / "shitu.yaml").exists()
    shitu("prepare", "data", "--fix", cwd=tmp_path)


def test_a_run_that_was_stopped_early_is_to_be_continued(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    for path in (copied / "output").glob("best_model.*"):
        path.unlink()
    shutil.rmtree(copied / "output/checkpoints")
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


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", pytest.param("gone", marks=pytest.mark.slow)])
def test_a_best_model_that_cannot_be_read_is_taken_from_its_copy(space: Path, tmp_path: Path, damage: str) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    before = json.loads(shitu("evaluate", "--json", cwd=copied).stdout)["metrics"]
    weights = copied / "output/best_model.pdparams"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        weights.unlink()
    done = shitu("evaluate", "--json", "--no-cache", cwd=copied)
    assert "its intact copy" in done.stderr and json.loads(done.stdout)["metrics"] == before
    assert "its intact copy" in shitu("export", "--format", "pdmodel", cwd=copied).stderr
    shutil.rmtree(copied / "inference")
    assert "its intact copy" in shitu("extract", "data", "--out", "f.npy", cwd=copied).stderr


def test_weights_put_in_place_of_a_checkpoints_are_taken_as_they_are(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    state = read_paddle(copied / "output/best_model.pdparams")
    write_arrays(copied / "output/best_model.pdparams", {name: value * 0.5 for name, value in state.items()})
    done = shitu("evaluate", "--json", cwd=copied)
    assert "its intact copy" not in done.stderr


def test_prepare_does_not_change_lists_under_a_run(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    with Workspace(copied).lock("train"):
        fails("prepare", "data", cwd=copied, code=5, says=("another `shitu train`", f"process {os.getpid()}"))
    with Workspace(copied).lock("train", command="prepare"):
        fails("train", *SMALL, cwd=copied, code=5, says=("another `shitu prepare`",))


def test_a_resumed_run_saves_as_often_as_before(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    small = [*SMALL, "--batch-size", "4"]
    shitu("train", *small, "--epochs", "1", "--save-every-steps", "1", "--keep", "3", cwd=copied)
    shitu("train", "--resume", "--epochs", "2", cwd=copied)
    lines = (copied / "output/metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["kind"] in ("save", "resume")]
    resumed = [record["kind"] for record in records].index("resume")
    steps = [record["step"] for record in records[resumed + 1 :]]
    whole = next(record["step"] for record in records if record["kind"] == "save" and record["epoch"] == 1)
    assert set(range(whole + 1, 2 * whole + 1)) <= set(steps)
    assert len(list((copied / "output/checkpoints").glob("*.pdparams"))) >= 3


def test_model_and_index_are_enough_to_search(space: Path, tmp_path: Path) -> None:
    """A machine that only serves: no workspace there."""
    shitu("index", "build", "--index", str(tmp_path / "index"), cwd=space)
    shutil.copytree(space / "inference", tmp_path / "model")
    shutil.copytree(space / "data/class_000", tmp_path / "new/class_000")
    picture, options = "new/class_000/000.jpg", ("--model", "model", "--index", "index")
    done = shitu("search", picture, *options, "--top", "1", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["results"][0]["matches"][0]["label"] == "class_000"
    shitu("index", "add", "new", *options, cwd=tmp_path)
    (tmp_path / "below").mkdir()
    again = shitu(
        "index", "add", "../new", "--model", "../model", "--index", "../index", "--json", cwd=tmp_path / "below"
    )
    assert json.loads(again.stdout)["added"] == 0  # the same pictures, wherever the command is given
    shitu("index", "remove", "--label", "class_000", "--index", "index", cwd=tmp_path)
    shitu("index", "build", "new", "--model", "model", "--index", "other", cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    fails("search", f"../{picture}", "--model", "../model", cwd=tmp_path / "empty", code=2, says=("no workspace",))


def test_another_box_of_the_querys_photograph_is_no_find(tmp_path: Path) -> None:
    config = DatasetConfig("ImageNetDataset", str(tmp_path), str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("a.jpg\t0\t-\t0,0,8,8\na.jpg\t0\t-\t8,8,16,16\nb.jpg\t0\n")
    part = ListFeatures(RecDataset(config), np.eye(3, dtype=np.float32), {})
    first, second = identities_of(part, part)
    assert first[0] == first[1] == second[0] != first[2] and first[2] == second[2]


def test_one_file_name_in_another_encoding_leaves_the_others_alone(tmp_path: Path) -> None:
    names = ["苹果/1.jpg".encode(), "Äpfel/2.jpg".encode(), b"latin\xe9/3.jpg"]
    (tmp_path / "list.txt").write_bytes(b"".join(name + b"\t0\n" for name in names))
    text = read_list_text(tmp_path / "list.txt", Problems())
    assert [os.fsencode(line.split("\t")[0]) for line in text.splitlines()] == names


def test_formats_for_programs(tmp_path: Path) -> None:
    listed = json.loads(shitu("prepare", "--formats", "--json", cwd=tmp_path).stdout)
    assert {"format", "layout"} == set(listed[0]) and len(listed) > 10


@pytest.mark.slow
def test_the_next_command_keeps_where_the_run_is(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    lasting = ["-o", "Global.output_dir=./other run", "--device", "cpu"]
    done = shitu("train", *SMALL, "--epochs", "1", "-c", "shitu.yaml", *lasting, cwd=copied)
    told = done.stdout.strip().splitlines()[-1].removeprefix("next: shitu ")
    assert told == "evaluate -c shitu.yaml -o 'Global.output_dir=./other run' --device cpu"
    told = shitu(*shlex.split(told), cwd=copied).stdout.strip().splitlines()[-1].removeprefix("next: shitu ")
    assert told.startswith("export") and told.endswith("-c shitu.yaml -o 'Global.output_dir=./other run'")
    shitu(*shlex.split(told), "--format", "pdmodel", cwd=copied)


@pytest.mark.slow
def test_the_exported_directory_is_named_where_it_is_another(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    (copied / "inference").rename(copied / "elsewhere")
    (copied / "inference").symlink_to("elsewhere")
    done = shitu("export", "--format", "pdmodel", cwd=copied)
    assert done.stdout.strip().splitlines()[-1] == "next: shitu index build"
    assert "searches the whole gallery and gives another figure" in done.stdout  # its recall is not evaluate's
    done = shitu("export", "--format", "pdmodel", "-o", "Global.save_inference_dir=./models", cwd=copied)
    assert done.stdout.strip().splitlines()[-1].startswith("next: shitu index build --model models")


@pytest.mark.slow
def test_processes_that_extract_without_paddle_stop_when_told(space: Path) -> None:
    """What Paddle would have let through, had it been loaded."""
    names = "".join(f"data/class_000/000.jpg\t{n}\n" for n in range(60_000))
    (space / "many.txt").write_text(names)
    model = ("--model", "inference/inference.onnx")
    run = shitu_started("extract", "many.txt", "--out", "m.npy", "--devices", "cpu:2", *model, cwd=space)
    while not list(space.glob(".m.npy.part/*/block-*.json")):
        assert run.poll() is None
        time.sleep(0.1)
    children = children_of(run.pid)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=20)
    assert run.returncode == 130 and all_end(children)
    assert (
        len(list(space.glob(".m.npy.part/*/block-*.json"))) < 60_000 // BLOCK_IMAGES // 2
    )  # not at the end of the work


def test_new_classes_make_everything_after_prepare_out_of_date(
    space: Path, tmp_path: Path, make_images: MakeImages
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied)
    shitu("index", "build", cwd=copied)
    make_images(copied / "data", classes=4)
    shitu("prepare", "data", cwd=copied)
    lines = shitu(cwd=copied).stdout.splitlines()
    states = {line.split()[0]: line for line in lines if line.split()}
    assert "the training list has changed since" in states["train"]
    assert "of a model trained on earlier lists" in states["export"] and "trained on earlier lists" in states["index"]
    assert lines[-1] == "next: shitu train"


def test_a_checkpoint_is_run_without_the_remarks_of_libraries(space: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(space, copied, ignore=shutil.ignore_patterns("inference", "index"))
    done = shitu_process(
        "index", "build", "data/class_000", cwd=copied
    )  # its own: libraries speak when they are loaded
    assert [line for line in done.stderr.splitlines() if not line.startswith(("extracting", "indexing"))] == []
