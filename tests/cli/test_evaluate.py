"""Evaluation on several processes, its cache, its page, and an independent computation of its figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shitu_cli import journal
from shitu_cli.training import online
from shitu_cli.training.history import read_histories
from tests.browser import CHROMIUM, needs_browser
from tests.command import SMALL, shitu, shitu_process
from tests.hostile import is_harmless
from tests.kills import Killed

NASTY = "<img src=x onerror=alert(1)>&\"'\x1b[2J\u202e\u061c"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("evaluate")
    make_images(root / "data", classes=7, per_class=9)
    (root / "data/class_003").rename(root / "data" / NASTY)
    for picture in sorted((root / "data/class_004").iterdir())[:3]:
        picture.rename(picture.with_name(f'"><svg onload=alert(2)>{picture.name}'))
    for number in (1, 4, 7):  # wrong labels, so that no ranking is perfect and every figure has something to tell
        shutil.move(root / f"data/class_005/00{number}.jpg", root / f"data/class_006/wrong_{number}.jpg")
    shitu("prepare", "data", cwd=root)
    with pytest.MonkeyPatch.context() as patch:  # its score counts, though features still coincide after one epoch
        patch.setattr(online, "UNDECIDED", "not_asked")
        shitu("train", SMALL[0], SMALL[1], "--epochs", "1", cwd=root)
    shitu("train", *SMALL, "--epochs", "2", cwd=root)
    yield root


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_same_bytes(trained: Path, processes: int) -> None:
    one = shitu("evaluate", "--json", "--no-cache", cwd=trained).stdout
    report = (trained / "reports/evaluate.json").read_bytes()
    several = shitu("evaluate", "--json", "--no-cache", "--devices", f"cpu:{processes}", cwd=trained).stdout
    assert several == one
    assert (trained / "reports/evaluate.json").read_bytes() == report


@pytest.mark.slow
def test_shards_give_the_bytes_of_one_process(trained: Path, tmp_path: Path) -> None:
    space = shutil.copytree(trained, tmp_path / "space")
    options = ["--no-cache", "--flip"]
    one = shitu("evaluate", "--json", *options, cwd=space).stdout
    report = (space / "reports/evaluate-with-options.json").read_bytes()
    for number in (2, 1):
        done = shitu("evaluate", *options, "--shard", f"{number}/2", cwd=space)
    assert f"next: when all parts are there: shitu evaluate --merge {space}/reports/shards --flip" in done.stdout
    shards = str(space / "reports/shards")
    assert shitu("evaluate", "--json", *options, "--merge", shards, cwd=space).stdout == one
    assert (space / "reports/evaluate-with-options.json").read_bytes() == report
    listed = space / "lists/query_list.txt"
    listed.write_text("".join(reversed(listed.read_text().splitlines(keepends=True))))
    other = shitu("evaluate", "--merge", shards, cwd=space, check=False)
    assert other.returncode == 3 and "options: the shards were computed with other options" in other.stderr
    assert "list: the shards were not computed from" in other.stderr
    (space / "reports/shards/evaluate.2-of-2.shard").unlink()
    other = shitu("evaluate", "--flip", "--merge", shards, cwd=space, check=False)
    assert other.returncode == 3 and "missing: 2/2" in other.stderr
    other = shitu("merge", shards, cwd=space, check=False)
    assert other.returncode == 2 and "shards of shitu evaluate, not of shitu extract" in other.stderr


def by_sorting(space: Path, scratch: Path, *, itself: bool) -> dict[str, float]:
    """Metrics in plain numpy from what `shitu extract` gives for the lists; `itself`: a query is no match of itself."""
    features, labels = {}, {}
    for name in ("query", "gallery"):
        lines = [line.split("\t") for line in (space / f"lists/{name}_list.txt").read_text().splitlines()]
        listed = scratch / f"train_{name}.txt"
        listed.write_text("".join(f"{space}/data/{path}\t{label}\n" for path, label in lines))
        out = scratch / f"{name}.npy"
        shitu("extract", str(listed), "--model", "output/best_model", "--out", str(out), cwd=space)
        features[name], labels[name] = np.load(out), np.array([int(label) for _, label in lines])
    similarity = features["query"] @ features["gallery"].T
    if itself:
        np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : similarity.shape[1] - itself]
    right = labels["gallery"][order] == labels["query"][:, None]
    precision = np.cumsum(right, 1) / np.arange(1, right.shape[1] + 1)
    count = right.sum(1)
    last = right.shape[1] - np.argmax(right[:, ::-1], axis=1)
    return {
        "recall@1": right[:, 0].mean(),
        "recall@5": right[:, :5].any(1).mean(),
        "precision@5": right[:, :5].mean(),
        "mAP": ((precision * right).sum(1) / count).mean(),
        "R-precision": np.mean([row[:n].mean() for row, n in zip(right, count, strict=True)]),
        "mINP": (count / last).mean(),
        "MRR": (1 / (1 + np.argmax(right, axis=1))).mean(),
    }


def agree(values: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-6), name


def test_the_figures_agree_with_plain_numpy(trained: Path, tmp_path: Path) -> None:
    values = json.loads(shitu("evaluate", "--json", cwd=trained).stdout)
    agree(values["metrics"], by_sorting(trained, tmp_path, itself=False))
    # The network that was trained, though -o chose it and shitu.yaml names another.
    assert values["measured"]["model"] == "output/best_model (PPLCNet_x0_25)"


@pytest.mark.slow
def test_the_cache_serves_the_same_and_never_stale_features(trained: Path) -> None:
    first = shitu("evaluate", "--json", cwd=trained).stdout
    again = shitu("evaluate", "--json", cwd=trained)
    assert again.stdout == first and "from the cache" in again.stderr
    picture = min((trained / "data/class_000").iterdir())
    other = min((trained / "data/class_001").iterdir())
    before = picture.read_bytes()
    picture.write_bytes(other.read_bytes())
    try:
        assert shitu("evaluate", "--json", cwd=trained).stdout != first
    finally:
        picture.write_bytes(before)
    assert shitu("evaluate", "--json", "-o", "Global.feature_binarize=sign", cwd=trained).stdout != first


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if any(name.startswith("on") for name in values) or tag in ("iframe", "link", "object"):
            self.bad.append(tag)
        if tag in ("img", "script") and not (values.get("src") or "data:").startswith("data:"):
            self.bad.append(f"{tag} {values['src']}")


# How a tag begins in the data of the gallery, and in markup.
@pytest.mark.parametrize(("page", "opened"), [("prepare.html", "\\u003c"), ("evaluate.html", "&lt;")])
def test_pages_are_self_contained_and_safe(trained: Path, page: str, opened: str) -> None:
    done = shitu("evaluate", cwd=trained)
    text = (trained / "reports" / page).read_text()
    assert is_harmless(text) and is_harmless(done.stdout + done.stderr)
    parser = _Tags()
    parser.feed(text)
    assert parser.bad == []
    assert f"{opened}img src=x onerror=alert(1)" in text and NASTY not in text
    assert "Content-Security-Policy" in text and "'unsafe-" not in text
    assert "http://" not in text and "https://" not in text and "<svg onload" not in text


def test_the_page_compares_the_runs_of_the_workspace(trained: Path) -> None:
    done = shitu("evaluate", cwd=trained)
    assert re.search(r"^\d+ of \d+ photos found an image of their class first", done.stdout, re.M)
    assert done.stdout.index("image of their class first") < done.stdout.index("recall@1")  # before any other figure
    assert "photos of 8 classes that the network was not trained on, but there are none" in done.stdout
    earlier, newest = read_histories(trained / "output")
    assert (earlier.name, len(earlier.losses), len(earlier.scores)) == ("earlier/001", 1, 1)
    assert (newest.name, len(newest.losses), newest.scores) == ("", 2, [])
    text = (trained / "reports/evaluate.html").read_text()
    training = text[text.index("<h2>Training</h2>") :]
    assert training.count("<polyline") == 1 and training.count("<circle") == 2  # losses of 2 and 1 epochs, one recall
    for told in ("run 1", "run 2", "output/earlier/001", "PPLCNet_x0_25", "1 of 1", "2 of 2"):
        assert told in training
    assert f"{newest.losses[-1]:.4f}" in training and f"{earlier.scores[0][1]:.4f}" in training


def test_a_kill_between_a_report_and_its_page_is_made_good(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports, move = [trained / "reports" / name for name in ("evaluate.json", "evaluate.html")], journal._move
    shitu("evaluate", cwd=trained)
    values = reports[0].read_bytes()
    for file in reports:
        file.write_text("old")

    def move_one(staged: Path, target: Path) -> None:
        if reports[0].read_bytes() == values:
            raise Killed
        move(staged, target)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_move", move_one)
        assert shitu("evaluate", cwd=trained, check=False).returncode == 1
    assert [file.read_bytes() == b"old" for file in reports] == [False, True]
    shitu(cwd=trained)
    assert reports[0].read_bytes() == values and reports[1].read_text().startswith("<!doctype html>")


def test_checkpoints_of_others_are_no_history(tmp_path: Path) -> None:
    assert read_histories(tmp_path) == []
    (tmp_path / "latest.pdstates").write_bytes(b"\x80\x04]q\x00.")
    (tmp_path / "earlier/001").mkdir(parents=True)
    (tmp_path / "earlier/001/latest.pdstates").write_text('{"format": 1, "state": {}}')
    assert read_histories(tmp_path) == []


def test_other_figures_from_the_same_features(trained: Path, make_images: Callable[..., object]) -> None:
    """Chosen shares of false answers, means over classes, binary features, flipped pictures: each does what it says."""
    foreign = ("--unknown", "foreign", "--far", "0.3", "--far", "0.1")
    make_images(trained / "foreign", classes=9, per_class=4, seed=5)
    for folder in (trained / "foreign").iterdir():
        folder.rename(folder.with_name(f"foreign {folder.name}"))
    plain = json.loads(shitu("evaluate", "--json", *foreign, cwd=trained).stdout)
    promises = plain["unknown"]["promises"]
    assert [row["wanted"] for row in promises] == [0.3, 0.2, 0.1, 0.05]  # fewer than one of 36 photos shows nothing
    thresholds, right = [row["threshold"] for row in promises], [row["right"] for row in promises]
    assert thresholds == sorted(thresholds) and right == sorted(right, reverse=True)
    assert plain["unknown"]["suggested"] == promises[0] and plain["unknown"]["classes"] == 9
    for name, value in plain["macro"].items():
        assert value == pytest.approx(np.mean([row[name] for row in plain["per_class"]]))
    low, high = plain["intervals_95"]["mAP"]
    assert low < plain["metrics"]["mAP"] < high
    for args in (["--flip"], ["-o", "Global.feature_binarize=sign"]):
        other = json.loads(shitu("evaluate", "--json", *args, cwd=trained).stdout)
        assert other["metrics"] != plain["metrics"], args
        assert (other["unknown"] is not None) == ("--flip" in args)
    wrong = shitu("evaluate", "--far", "2", cwd=trained, check=False)
    assert wrong.returncode == 2 and "--far" in wrong.stderr


def test_rankings_by_neighbours(trained: Path) -> None:
    done = shitu("evaluate", "--rerank", "-o", "Global.feature_normalize=False", cwd=trained, check=False)
    assert done.returncode == 4 and "need features of unit length" in done.stderr
    again = json.loads(shitu("evaluate", "--json", "--rerank", "--query-expansion", "3", cwd=trained).stdout)
    assert again["unknown"] is None and again["metrics"]["mAP"] > 0


@needs_browser
@pytest.mark.parametrize("page", ["prepare.html", "evaluate.html"])
def test_pages_in_a_real_browser(trained: Path, page: str) -> None:
    assert CHROMIUM is not None
    shitu("evaluate", cwd=trained)
    url = (trained / "reports" / page).as_uri()
    argv = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert "<h1>shitu" in done.stdout and "alert(1)&gt;" in done.stdout


@pytest.mark.slow
def test_open_set_excludes_the_query_itself(tmp_path: Path, make_images: Callable[..., object]) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    make_images(tmp_path / "data", classes=6, per_class=4)
    shitu("prepare", "data", "--split", "open", "--share", "0.4", cwd=tmp_path)
    lists = tmp_path / "lists"
    assert (lists / "query_list.txt").read_text() == (lists / "gallery_list.txt").read_text()
    shitu("train", *SMALL, "--epochs", "1", cwd=tmp_path)
    values = json.loads(shitu("evaluate", "--json", cwd=tmp_path).stdout)
    assert values["metrics"]["precision@5"] <= 3 / 5 and values["unanswerable"] == 0
    agree(values["metrics"], by_sorting(tmp_path, scratch, itself=True))


def test_queries_of_other_labels_are_an_error_not_a_figure(trained: Path, tmp_path: Path) -> None:
    lists = trained / "lists"
    kept = (lists / "query_list.txt").read_bytes()
    lines = [line.split("\t")[0] for line in kept.decode().splitlines()]
    gallery = (lists / "gallery_list.txt").read_text()
    try:
        one = [line for line in gallery.splitlines() if line.endswith("\t0")]
        (lists / "gallery_list.txt").write_text("\n".join(one) + "\n")
        assert "gallery images have the same label, so every search is right" in shitu("evaluate", cwd=trained).stderr
    finally:
        (lists / "gallery_list.txt").write_text(gallery)
    try:
        (lists / "query_list.txt").write_text("".join(f"{path}\t99\n" for path in lines))
        done = shitu("evaluate", cwd=trained, check=False)
    finally:
        (lists / "query_list.txt").write_bytes(kept)
    assert done.returncode == 3 and "queries has an image of its label in the gallery" in done.stderr
    assert "checkpoint, run by" in done.stdout and "features of" not in done.stdout + done.stderr  # none is computed


@pytest.mark.slow
def test_an_error_of_all_processes_is_shown_once(trained: Path) -> None:
    queries = trained / "lists/query_list.txt"
    kept = queries.read_bytes()
    try:
        queries.write_text("".join(f"{line.split(chr(9))[0]}\t99\n" for line in kept.decode().splitlines()))
        done = shitu_process("evaluate", "--devices", "cpu:2", cwd=trained, check=False)
    finally:
        queries.write_bytes(kept)
    assert done.returncode == 3 and done.stderr.count("error: ") == 1, done.stderr
    assert "has an image of its label" in done.stderr and "--resume" not in done.stderr


def test_images_that_lists_name_again_are_told_with_their_lines(trained_workspace: Path) -> None:
    """Lists of people may hold what `prepare` leaves out: it counts, but not in silence."""
    query, gallery, train = (trained_workspace / f"lists/{name}_list.txt" for name in ("query", "gallery", "train"))
    lines = query.read_text().splitlines()
    (path, label), second, third = lines[0].split("\t"), lines[1].split("\t")[0], lines[2]
    extra = [f"./{path}\t{label}", third]
    with query.open("a") as file:
        file.write("\n".join(extra) + "\n")
    with gallery.open("a") as file:
        file.write(f"{second}\t4\n")
    said = " ".join(shitu("evaluate", cwd=trained_workspace).stderr.split())
    count = len(lines)
    assert "2 lines name images again and count each time" in said
    assert f"query_list.txt:{count + 1}, also at" in said and "query_list.txt:1;" in said
    assert "1 image has several labels, of which only one can be right" in said
    assert f"gallery_list.txt:{len(gallery.read_text().splitlines())} says 4" in said
    train.write_text(train.read_text() + train.read_text().splitlines()[0] + "\n")
    said = " ".join(shitu("train", *SMALL[:2], "--epochs", "1", cwd=trained_workspace).stderr.split())
    assert "train_list.txt:1" in said and "1 line names an image again and counts" in said
    assert "2 lines name images again" in said
