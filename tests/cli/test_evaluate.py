"""Evaluation on several processes, its cache, its page, and an independent computation of its figures."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.command import SMALL, shitu

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = "<img src=x onerror=alert(1)>&\"'"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("evaluate")
    make_images(root / "data", classes=7, per_class=9)
    (root / "data/class_003").rename(root / "data" / NASTY)
    shitu("prepare", "data", cwd=root)
    shitu("train", *SMALL, "--epochs", "2", cwd=root)
    yield root


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_same_bytes(trained: Path, processes: int) -> None:
    one = shitu("evaluate", "--json", "--no-cache", cwd=trained).stdout
    report = (trained / "reports/evaluate.json").read_bytes()
    several = shitu("evaluate", "--json", "--no-cache", "--devices", f"cpu:{processes}", cwd=trained).stdout
    assert several == one
    assert (trained / "reports/evaluate.json").read_bytes() == report


def test_the_figures_agree_with_plain_numpy(trained: Path, tmp_path: Path) -> None:
    """Features from `shitu extract` of the checkpoint, metrics by sorting."""
    values = json.loads(shitu("evaluate", "--json", cwd=trained).stdout)["metrics"]
    features, labels = {}, {}
    for name in ("query", "gallery"):
        lines = [line.split("\t") for line in (trained / f"lists/{name}_list.txt").read_text().splitlines()]
        listed = tmp_path / f"train_{name}.txt"
        listed.write_text("".join(f"{trained}/data/{path}\t{label}\n" for path, label in lines))
        out = tmp_path / f"{name}.npy"
        shitu("extract", str(listed), "--model", "output/best_model", "--out", str(out), cwd=trained)
        features[name], labels[name] = np.load(out), np.array([int(label) for _, label in lines])
    order = np.argsort(-(features["query"] @ features["gallery"].T), axis=1, kind="stable")
    right = labels["gallery"][order] == labels["query"][:, None]
    precision = np.cumsum(right, 1) / np.arange(1, right.shape[1] + 1)
    assert values["recall@1"] == pytest.approx(right[:, 0].mean(), abs=1e-9)
    assert values["recall@5"] == pytest.approx(right[:, :5].any(1).mean(), abs=1e-9)
    assert values["mAP"] == pytest.approx(((precision * right).sum(1) / right.sum(1)).mean(), abs=1e-6)


def test_the_cache_serves_the_same_and_never_stale_features(trained: Path) -> None:
    first = shitu("evaluate", "--json", cwd=trained).stdout
    again = shitu("evaluate", "--json", cwd=trained)
    assert again.stdout == first and "from the cache" in again.stderr
    picture = next((trained / "data/class_000").iterdir())
    other = next((trained / "data/class_001").iterdir())
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


@pytest.mark.parametrize("page", ["prepare.html", "evaluate.html"])
def test_pages_are_self_contained_and_safe(trained: Path, page: str) -> None:
    shitu("evaluate", cwd=trained)
    text = (trained / "reports" / page).read_text()
    parser = _Tags()
    parser.feed(text)
    assert parser.bad == []
    assert "&lt;img src=x onerror=alert(1)&gt;" in text and NASTY not in text
    assert "http://" not in text and "https://" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("page", ["prepare.html", "evaluate.html"])
def test_pages_in_a_real_browser(trained: Path, page: str) -> None:
    assert CHROMIUM is not None
    shitu("evaluate", cwd=trained)
    url = (trained / "reports" / page).as_uri()
    argv = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert "<h1>shitu" in done.stdout and "alert(1)&gt;" in done.stdout


def test_open_set_excludes_the_query_itself(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "data", classes=6, per_class=4)
    shitu("prepare", "data", "--split", "open", "--share", "0.4", cwd=tmp_path)
    lists = tmp_path / "lists"
    assert (lists / "query_list.txt").read_text() == (lists / "gallery_list.txt").read_text()
    shitu("train", *SMALL, "--epochs", "1", cwd=tmp_path)
    values = json.loads(shitu("evaluate", "--json", cwd=tmp_path).stdout)
    assert values["metrics"]["precision@5"] <= 3 / 5 and values["unanswerable"] == 0


def test_queries_of_other_labels_are_an_error_not_a_figure(trained: Path, tmp_path: Path) -> None:
    lists = trained / "lists"
    kept = (lists / "query_list.txt").read_bytes()
    lines = [line.split("\t")[0] for line in kept.decode().splitlines()]
    try:
        (lists / "query_list.txt").write_text("".join(f"{path}\t99\n" for path in lines))
        done = shitu("evaluate", cwd=trained, check=False)
    finally:
        (lists / "query_list.txt").write_bytes(kept)
    assert done.returncode == 3 and "none of the" in done.stderr
