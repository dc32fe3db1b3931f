"""What a deployed model tells: of which evaluation a figure is, what is indexed, under which labels, by which model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.cli.evaluate import other_options
from shitu_cli.report.evaluation import is_worth_deploying
from shitu_cli.steps.evaluate import measuring_options
from shitu_cli.steps.settings import workspace_config
from shitu_cli.workspace import Workspace
from tests.cli.test_mistakes import fails, snapshot
from tests.command import SMALL, shitu, shitu_started

PICTURE = "data/class_001/000.jpg"
FOREIGN = ("--unknown", "not-ours")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Path:
    """24 pictures of 4 classes, some of each kept for queries; an exported model and its index."""
    root = tmp_path_factory.mktemp("deploy")
    make_images(root / "data", classes=4, per_class=6)
    shitu("prepare", "data", cwd=root)
    shitu("train", *SMALL, "--epochs", "1", "--batch-size", "8", cwd=root)
    shitu("export", "--out", "inference/", "--format", "onnx", cwd=root)
    shitu("index", "build", cwd=root)
    make_images(root / "not-ours", classes=24, per_class=1, seed=9)
    for file in sorted((root / "not-ours").glob("*/*.jpg")):  # in one folder each photo counts by itself
        file.rename(root / "not-ours" / f"{file.parent.name}.jpg")
    shitu("evaluate", *FOREIGN, cwd=root)
    shutil.copytree(root / "reports", root / "plain")
    return root


def says(*args: str, cwd: Path) -> str:
    done = shitu(*args, cwd=cwd)
    return done.stdout + done.stderr


def report(space: Path, name: str) -> dict:
    return json.loads((space / "reports" / name).read_text())


# ----------------------------------------------------------------------------------------------- evaluations


@pytest.fixture
def evaluated(space: Path) -> Path:
    """With the plain evaluation only."""
    shutil.rmtree(space / "reports")
    shutil.copytree(space / "plain", space / "reports")
    return space


def test_a_figure_of_other_options_does_not_pass_as_the_plain_one(evaluated: Path) -> None:
    before = snapshot(evaluated / "reports")
    text = says("evaluate", "--rerank", "--flip", cwd=evaluated)
    assert "(with --flip --rerank)" in text and "evaluate-with-options.json" in text
    after = snapshot(evaluated / "reports")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["evaluate-with-options.html", "evaluate-with-options.json"]
    other, plain = report(evaluated, "evaluate-with-options.json"), report(evaluated, "evaluate.json")
    assert other["measured"]["options"] == ["--flip", "--rerank"] and other["unknown"] is None
    assert plain["measured"]["options"] == [] and plain["unknown"]["suggested"]["wanted"] == 0.05
    assert "Measured with <code>--flip --rerank</code>" in after["evaluate-with-options.html"].decode()
    shown = says(cwd=evaluated)
    figures = f"recall@1 {plain['metrics']['recall@1']:.4f}, mAP {plain['metrics']['mAP']:.4f}"
    assert f"{figures}; with --flip --rerank: recall@1" in " ".join(shown.split())


@pytest.mark.parametrize(
    "args",
    [
        ("--query-expansion", "3"),
        ("--model", "inference"),
        ("-o", "Global.re_ranking=True"),
        ("-o", "Global.feature_binarize=sign"),
        ("-o", "Global.retrieval_feature_from=backbone"),
        ("-o", "DataLoader.Eval.Query.dataset.cls_label_path=lists/gallery_list.txt"),
    ],
)
def test_what_is_not_plain(space: Path, args: tuple[str, str]) -> None:
    assert options(space, *args) == (["--rerank"] if "re_ranking" in args[1] else [" ".join(args)])


@pytest.mark.parametrize("override", ["Global.epochs=3", "Global.re_ranking=False", "Global.device=cpu"])
def test_what_is_plain(space: Path, override: str) -> None:
    assert options(space, "-o", override) == []


def options(space: Path, name: str, value: str) -> list[str]:
    """What an evaluation with this option is told to be of."""
    found, overrides = Workspace(space), [value] if name == "-o" else []
    config = workspace_config(found, None, overrides)
    expansion = int(value) if name == "--query-expansion" else 0
    model = Path(value) if name == "--model" else None
    words = measuring_options(config, model, None, flip=False, expansion=expansion)
    return [*words, *other_options(found, config, None, overrides)]


def test_the_threshold_is_of_the_share_that_was_asked_for(evaluated: Path) -> None:
    search = ("search", PICTURE, "--threshold", "auto")

    def suggested(name: str = "evaluate.json") -> dict:
        return report(evaluated, name)["unknown"]["suggested"]

    plain = suggested()
    assert f"below {plain['threshold']:g} an image is unknown" in (text := says(*search, cwd=evaluated))
    assert "of 100 photos of things that are not in the index, " in text and "are answered rightly (" in text
    text = says("evaluate", "--far", "0.3", "--far", "0.05", *FOREIGN, cwd=evaluated)
    line = next(line for line in text.splitlines() if line.startswith("threshold"))
    asked = suggested()
    assert f"threshold {asked['threshold']:.3f} (search --threshold auto), measured on the photos of not-ours" in line
    assert asked["wanted"] == 0.3 and asked["threshold"] <= plain["threshold"] <= 1
    assert text.count("--threshold auto") == 1 and f"threshold {plain['threshold']:.3f}: of 100 photos" in text
    shitu("evaluate", "--flip", *FOREIGN, cwd=evaluated)  # these suggest a threshold too, of other features
    assert suggested("evaluate-with-options.json")
    assert json.loads(shitu(*search, "--json", cwd=evaluated).stdout)["threshold"] == asked["threshold"]
    shitu("evaluate", "--model", "inference", "--far", "0.1", *FOREIGN, cwd=evaluated)  # the same features, and newer
    newer = suggested("evaluate-with-options.json")
    assert newer["wanted"] == 0.1 and f"below {newer['threshold']:g} an image" in says(*search, cwd=evaluated)


def test_without_foreign_photos_a_closed_split_suggests_nothing(evaluated: Path) -> None:
    """Every class was trained on: whatever they score says nothing about things that come later."""
    text = says("evaluate", cwd=evaluated)
    assert "no threshold for search is suggested: measuring one takes photos of 8 classes that" in text
    assert "shitu evaluate --unknown ./not-ours" in text
    told = ("the evaluation suggests none", "but there are none", "shitu evaluate --unknown ./not-ours")
    fails("search", PICTURE, "--threshold", "auto", cwd=evaluated, code=2, says=told)


def test_foreign_photos_are_foreign(evaluated: Path) -> None:
    for source, words in (("data/class_001", "is in the query or gallery list"), ("nowhere", "no such image, folder")):
        fails("evaluate", "--unknown", source, cwd=evaluated, code=3 if "data" in source else 2, says=(words,))
    few = ("evaluate", "--unknown", "not-ours/class_000.jpg", "--unknown", "not-ours/class_001.jpg")
    assert "not trained on, but there are only 2" in says(*few, cwd=evaluated)


def test_a_network_that_finds_little_is_not_sent_on_to_export(evaluated: Path) -> None:
    values = report(evaluated, "evaluate.json")
    assert values["metrics"]["recall@1"] >= 0.5 and is_worth_deploying(values)
    assert not is_worth_deploying({**values, "metrics": {"recall@1": 0.08}})
    assert not is_worth_deploying({**values, "decided_by_rounding": values["queries"]})
    values["metrics"]["recall@1"] = 0.08
    (evaluated / "reports/evaluate.json").write_text(json.dumps(values))
    text = " ".join(says(cwd=evaluated).split())
    assert "too few to deploy; train longer" in text and "next: shitu train" in text


def test_a_threshold_of_other_features_is_not_taken(evaluated: Path, tmp_path: Path) -> None:
    search = ("search", PICTURE, "--threshold", "auto")
    values = report(evaluated, "evaluate.json")
    values["measured"]["features"] = "0" + values["measured"]["features"]
    (evaluated / "reports/evaluate.json").write_text(json.dumps(values))
    told = ("needs a plain evaluation of this model", "shitu evaluate --model", "inference")
    fails(*search, cwd=evaluated, code=2, says=told)
    assert "recall@1" in (shown := says(cwd=evaluated)) and "of an older model" in shown
    (evaluated / "reports/evaluate.json").rename(evaluated / "reports/evaluate-with-options.json")
    fails(*search, cwd=evaluated, code=2, says=("hint: shitu evaluate\n",))
    assert "evaluate   recall@1" in says(cwd=evaluated)  # of a workspace that was evaluated with options only
    index = ("--index", str(tmp_path / "b"))
    shitu("index", "build", "--kind", "binary", *index, cwd=evaluated)
    fails(*search, *index, cwd=evaluated, code=2, says=("shares of equal bits", "--threshold 0.8"))


def test_figures_are_shown_when_they_cannot_be_kept(evaluated: Path) -> None:
    reports, kept = evaluated / "reports", evaluated / "kept"
    expected = report(evaluated, "evaluate.json")
    reports.rename(kept)
    reports.write_text("in the way")
    try:
        told = ("recall@1", "threshold", "cannot write", "evaluate.json", "the figures are above")
        fails("evaluate", *FOREIGN, cwd=evaluated, code=5, says=told)
        done = shitu("evaluate", *FOREIGN, "--json", cwd=evaluated, check=False)
        assert done.returncode == 5 and json.loads(done.stdout) == expected and "cannot write" in done.stderr
    finally:
        reports.unlink()
        kept.rename(reports)


# ----------------------------------------------------------------------------------------------- models


def test_a_model_without_its_manifest_is_noticed(space: Path) -> None:
    manifest = space / "inference/manifest.json"
    text = manifest.read_bytes()
    manifest.unlink()
    try:
        told = ("holds a model, but no manifest.json", "shitu export", "--model output/best_model")
        fails("extract", PICTURE, "--out", "x.npy", cwd=space, code=3, says=told)
        for command in (("extract", PICTURE, "--out", "x.npy"), ("evaluate",)):
            assert "inference has no manifest.json: its images are prepared as its inference.yml says" in says(
                *command, "--model", "inference", cwd=space
            )
        shitu("extract", PICTURE, "--out", "x.npy", "--model", "output/best_model", cwd=space)
    finally:
        manifest.write_bytes(text)


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
@pytest.mark.slow
def test_what_a_killed_export_leaves_goes_with_the_next(space: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.mine.tmp").mkdir()  # not of this program
    words = ("export", "--out", str(tmp_path / "out"), "--format", "onnx")
    process = shitu_started(*words, cwd=space)
    while process.poll() is None and not list(tmp_path.glob(".out.????????.tmp/*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it was done before the kill: {output}"
    assert list(tmp_path.glob(".out.????????.tmp"))
    text = says(*words, cwd=space)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mine.tmp", "out"]
    assert f"next: shitu index build --model {tmp_path / 'out'}" in text


# ----------------------------------------------------------------------------------------------- galleries


def shown(space: Path, index: tuple[str, ...]) -> dict[str, str]:
    """Label by path."""
    items = json.loads(shitu("index", "show", "--json", *index, cwd=space).stdout)["items"]
    assert len({item["path"] for item in items}) == len(items)
    return {item["path"]: item["label"] for item in items}


def test_build_says_what_it_indexes(space: Path, tmp_path: Path) -> None:
    index = ("--index", str(tmp_path / "i"))
    gallery = len((space / "lists/gallery_list.txt").read_text().splitlines())
    lists = ["lists/gallery_list.txt", "lists/query_list.txt"]
    text = says("index", "build", *index, cwd=space)
    told = f"indexing {gallery} images of 4 labels: those of lists/gallery_list.txt (with the other lists: "
    assert f"{told}shitu index build {' '.join(lists)} --index {tmp_path / 'i'})" in text
    assert len(first := shown(space, index)) == gallery < 24
    assert "indexing 24 images of 4 labels" in says("index", "build", *index, *lists, cwd=space)
    assert len(whole := shown(space, index)) == 24  # under the same names, not numbers
    assert {path: whole[path] for path in first} == first
    text = says("index", "build", *index, "data", *lists, "data/class_001", cwd=space)
    assert "30 images came more than once" in text and shown(space, index) == whole


def test_paths_that_a_table_cannot_hold_are_told(space: Path, tmp_path: Path) -> None:
    names = [tmp_path / "a\tb.jpg", tmp_path / os.fsdecode(b"\xff.jpg"), tmp_path / "plain é.jpg"]
    for name in names:
        shutil.copy(space / "data/class_001/000.jpg", name)
    text = says("extract", *map(str, names), "--out", str(tmp_path / "f.npy"), "--model", "inference", cwd=space)
    assert "a tab, a line break or bytes that are not text in 2 paths" in text


def test_labels_of_a_folder_that_is_itself_a_class(space: Path, tmp_path: Path) -> None:
    text = says("extract", "data/class_002", "--out", "class.npy", "--model", "inference", cwd=space)
    assert "6 images of label class_002; " in text
    assert "next: shitu index build --features class.npy --model inference" in text
    assert {line.split("\t")[1] for line in (space / "class.tsv").read_text().splitlines()[1:]} == {"class_002"}
    assert "24 images of 4 labels" in says("extract", "data", "--out", "all.npy", cwd=space)
    assert "1 image of label class_001" in says("extract", PICTURE, "--out", "one.npy", cwd=space)
    shutil.copy(space / PICTURE, space / "bare.jpg")  # a workspace is no class
    assert "1 image without label" in says("extract", "bare.jpg", "--out", "one.npy", cwd=space)
    (space / "bare.jpg").unlink()
    index = ("--index", str(tmp_path / "i"))
    text = says("index", "build", "--features", "one.npy", *index, cwd=space)
    assert "1 image without a label: a search that finds them" in text
    assert "1 vector of 1280 values, 0 labels, flat" in text


def test_adding_tells_what_was_replaced_and_takes_features(space: Path, tmp_path: Path) -> None:
    index = ("--index", str(tmp_path / "i"))
    shitu("extract", "data/class_002", "data/class_003", "--out", "more.npy", cwd=space)
    shitu("extract", PICTURE, "--out", "bare.jsonl", cwd=space)
    bare = (space / "bare.jsonl").read_text()
    (space / "bare.jsonl").write_text(bare.replace('"class_001"', '""'))
    shitu("index", "build", "data/class_000", "data/class_002", *index, cwd=space)
    assert "added 6, replaced 6" in says("index", "add", "--features", "more.npy", *index, cwd=space)
    assert sorted(set(shown(space, index).values())) == ["class_000", "class_002", "class_003"]
    values = json.loads(shitu("index", "add", PICTURE, "--label", "new", "--json", *index, cwd=space).stdout)
    assert (values["added"], values["replaced"], values["count"]) == (1, 0, 19)
    fails("index", "add", "--features", "bare.jsonl", *index, cwd=space, code=2, says=(f"no label for {PICTURE}",))
    assert "added 0, replaced 1" in says(
        "index", "add", "--features", "bare.jsonl", "--label", "named", *index, cwd=space
    )
    assert shown(space, index)[PICTURE] == "named"
    note = json.loads((space / "more.npy.model.json").read_text())
    (space / "more.npy.model.json").write_text(json.dumps({**note, "model": "another"}))
    told = ("was built with another model", f"shitu index build --index {tmp_path / 'i'}")
    fails("index", "add", "--features", "more.npy", *index, cwd=space, code=3, says=told)
    fails("index", "add", *index, cwd=space, code=2, says=("no images were named", "--features features.npy"))
    fails("index", "add", "data", "--features", "more.npy", *index, cwd=space, code=2, says=("give one of them",))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_taking_out_of_approximate_kinds_says_what_it_costs(space: Path, tmp_path: Path, kind: str) -> None:
    index = ("--index", str(tmp_path / "i"))
    shitu("index", "build", "data", "--kind", kind, *index, cwd=space)
    text = says("index", "remove", PICTURE, *index, cwd=space)
    assert f"an {kind} index cannot replace or remove vectors: all 23 vectors are indexed again" in text
    assert "removed 1" in text and PICTURE not in shown(space, index)
    text = says("index", "add", "data/class_002", *index, cwd=space)
    assert "all 23 vectors are indexed again" in text and "added 0, replaced 6" in text


def test_hints_repeat_the_options_that_were_given(space: Path, tmp_path: Path) -> None:
    says = ("no index in no", f"shitu index build --index no -w {space}")
    fails("search", str(space / PICTURE), "--index", "no", "-w", str(space), cwd=tmp_path, code=2, says=says)
    fails("-w", str(space), "search", str(space / PICTURE), "--index", "no", cwd=tmp_path, code=2, says=says)


def test_an_unreadable_picture_is_named_once(space: Path, tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes((space / PICTURE).read_bytes())
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    done = shitu("extract", str(tmp_path), "--out", "some.npy", "--json", cwd=space)
    assert done.stderr.count("bad.jpg") == 1 and "1 of 2 images could not be read" in done.stderr
    assert list(json.loads(done.stdout)["skipped"].values()) == ["could not be read as an image"]
    assert np.load(space / "some.npy").shape[0] == 1
    text = says("index", "build", str(tmp_path), "--index", str(tmp_path / "i"), cwd=space)
    assert text.count("bad.jpg") == 1 and "indexing without 1 image that could not be read, such as" in text


def test_milvus_says_what_is_in_the_way(space: Path, tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="milvus is an extra")
    store = ("--store", f"milvus:{tmp_path / 'g.db'}")
    told = ("an index in Milvus is flat, hnsw, ivf", "leave out --kind, or --store")
    fails("index", "build", "--kind", "binary", *store, cwd=space, code=2, says=told)
    fails("search", PICTURE, *store, cwd=space, code=2, says=("hint: shitu index build --store milvus:",))
    done = shitu("index", "build", *store, cwd=space)
    assert "fork" not in done.stderr
