"""The gallery of labels: suspects are shown, hostile names stay text, and ticks become corrections that apply.

The browser's part needs playwright and Chromium.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shitu_cli.preparation.comparison import COMPARED
from shitu_cli.report.label_gallery import choose
from tests.browser import CHROMIUM, keep, needs_browser
from tests.command import shitu

EVIL = "<img src=x onerror=alert(1)>&amp;\"' \u202edrow,;"


def test_suspects_come_first_then_some_of_each_class() -> None:
    labels = ["a"] * 6 + ["b"] * 3
    unlike = np.array([0, 5, 1, 0, 0, 0, 0, 2, 0], float)
    ranks = {3: 2, 8: 0}
    assert choose(labels, ranks, unlike, 4) == [8, 3, 1, 7]
    assert choose(labels, ranks, unlike, 1) == [8]
    assert sorted(choose(labels, ranks, unlike, 100)) == list(range(9))


def test_millions_of_images_are_sampled() -> None:
    images = 5 * COMPARED
    chosen = choose(["a", "b"] * (images // 2), {7: 0}, np.zeros(images), 50)
    assert len(set(chosen)) == 50 and chosen[0] == 7 and {number % 2 for number in chosen} == {0, 1}


@pytest.fixture
def work(tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> Path:
    """A workspace of 3 classes, one of a hostile name, with an image that is in all of them, and a tiny one."""
    images = make_images(tmp_path / "data")
    shutil.copytree(tmp_path / "data/class_002", tmp_path / "data" / EVIL)
    shutil.rmtree(tmp_path / "data/class_002")
    shutil.copy(images["class_000"][0], tmp_path / "data" / EVIL / "wrong.jpg")
    shutil.copy(images["class_000"][0], tmp_path / "data/class_001/again.jpg")
    cv2.imwrite(str(tmp_path / "data/class_001/tiny.png"), np.full((9, 9, 3), 99, np.uint8))
    shitu("prepare", "data", "-w", "work", cwd=tmp_path)
    return tmp_path / "work"


def gallery_of(work: Path) -> dict[str, Any]:
    text = (work / "reports/prepare.html").read_text()
    assert EVIL not in text and "<img src=x" not in text
    match = re.search(r'<script type="application/json" id="labels">(.*?)</script>', text)
    assert match is not None
    values: dict[str, Any] = json.loads(match[1])
    return values


def test_the_page_holds_every_suspect_with_its_reason(work: Path) -> None:
    gallery = gallery_of(work)
    reasons = {image["path"]: image["why"] for image in gallery["images"] if image["why"]}
    alike = {f"{EVIL}/wrong.jpg", "class_000/000.jpg", "class_001/again.jpg"}
    assert set(reasons) == alike | {"class_001/tiny.png"}
    assert reasons["class_001/tiny.png"] == ["tiny"] and [reason[-9:] for reason in reasons[f"{EVIL}/wrong.jpg"]] == [
        "class_000",
        "class_001",
    ]
    pairs = [{gallery["images"][at]["path"] for at in pair} for pair in gallery["pairs"]]
    assert pairs == [{f"{EVIL}/wrong.jpg", path} for path in sorted(alike)[1:]] and len(gallery["images"]) == 15
    assert all(image["thumb"].startswith("data:image/jpeg") for image in gallery["images"])


def test_boxes_of_one_file_are_no_suspects(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "data", size=(80, 64))
    boxes = [("left", "1,2,30,40"), ("right", "40,20,79,60")]
    lines = [f"class_00{c}/00{n}.jpg,{box},{name}" for c in range(3) for n in range(4) for name, box in boxes]
    (tmp_path / "data/boxes.csv").write_text("\n".join(["path,x1,y1,x2,y2,class", *lines]) + "\n")
    shitu("prepare", "data", "-w", "work", cwd=tmp_path)
    gallery = gallery_of(tmp_path / "work")
    assert len(gallery["images"]) == 24 and gallery["pairs"] == [] and not any(i["why"] for i in gallery["images"])
    assert "class_000/000.jpg#1,2,30,40" in [image["path"] for image in gallery["images"]]
    assert "All 24 images; 0 of them should be checked" in (tmp_path / "work/reports/prepare.html").read_text()
    assert "nearly identical images within" not in (tmp_path / "work/reports/prepare.html").read_text()


def test_corrections_of_last_time_are_in_the_next_table(work: Path) -> None:
    (work / "c.csv").write_text("path,label\n../data/class_001/tiny.png,\nclass_000/001.jpg,class_001\n")
    shitu("prepare", "../data", "--corrections", "c.csv", cwd=work)
    assert "1 image left out, 1 relabelled, by c.csv.</p>" in (work / "reports/prepare.html").read_text()
    assert gallery_of(work)["earlier"] == {"class_001/tiny.png": "", "class_000/001.jpg": "class_001"}


@needs_browser
def test_ticks_and_labels_become_corrections_that_apply(work: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark", viewport={"width": 900, "height": 900})
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((work / "reports/prepare.html").as_uri())
        assert page.locator(".pair .card").count() == 4 and page.locator("#save").is_disabled()
        wrong = page.locator(".card").filter(has=page.locator("span", has_text="wrong.jpg"))
        ticks = wrong.locator("[type=checkbox]")
        ticks.first.check()
        assert [ticks.nth(n).is_checked() for n in range(ticks.count())] == [True, True]
        ticks.last.uncheck()
        wrong.locator("[type=text]").last.fill("class_000")
        again = page.locator(".card").filter(has=page.locator("span", has_text="again.jpg"))
        again.locator("[type=checkbox]").check()
        page.select_option("#view", "smallest")
        tiny = page.locator(".card").first
        assert "tiny.png" in tiny.inner_text() and page.locator(".card").count() == 15
        tiny.locator("input[type=checkbox]").focus()
        page.keyboard.press("Space")
        page.locator(".card", has_text="class_000/001.jpg").locator("input[type=text]").fill(EVIL)
        assert page.locator("#count").inner_text() == "2 left out, 2 relabelled"
        page.locator(".card", has_text="class_000/002.jpg").locator("button").press("Enter")
        large = page.locator("#large img")
        large.wait_for()
        page.wait_for_function("document.querySelector('#large img').complete")
        assert large.evaluate("image => [image.src.slice(0, 5), image.naturalWidth]") == ["file:", 40]
        keep(page, "gallery-large")
        page.keyboard.press("Escape")
        page.locator("#tools").scroll_into_view_if_needed()
        keep(page, "gallery")
        with page.expect_download() as download:
            page.locator("#save").press("Enter")
        table = tmp_path / download.value.suggested_filename
        download.value.save_as(table)
        browser.close()
    assert complaints == []
    with table.open(encoding="utf-8", newline="") as file:
        assert dict(csv.reader(file)) == {
            "path": "label",
            f"{EVIL}/wrong.jpg": "class_000",
            "class_001/again.jpg": "",
            "class_001/tiny.png": "",
            "class_000/001.jpg": EVIL,
        }
    done = shitu("prepare", "data", "-w", "work", "--corrections", "corrections.csv", cwd=tmp_path)
    assert "2 images left out, 2 relabelled, by corrections.csv" in done.stdout and "label-noise" not in done.stdout
