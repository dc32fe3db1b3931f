"""Commands that find the things in an image first: each is recognised by itself, and its box is shown."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli import Searcher
from shitu_cli.errors import DataError
from shitu_cli.features.resumable import ResumableFeatures
from shitu_cli.processes import this_process
from tests.command import shitu
from tests.features import detectors
from tests.features.detectors import coloured

YELLOW, PINK, GREEN = (255, 255, 60), (255, 60, 255), (60, 255, 60)
MODEL = ("--model", "model")
DETECTOR = ("--detector", "mainbody")


def write(file: Path, *things: tuple[int, int, tuple[int, int, int]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), coloured(*things)[:, :, ::-1])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two products somewhere in the dark, an index of what a detector cut out of them, a shelf with both."""
    folder = tmp_path_factory.mktemp("shop")
    for number, (x, y) in enumerate([(0, 1), (2, 2), (3, 0)]):
        write(folder / f"photos/yellow/{number}.png", (x, y, YELLOW))
        write(folder / f"photos/pink/{number}.png", (y, x, PINK))
    write(folder / "shelf.png", (0, 0, PINK), (2, 3, YELLOW))
    write(folder / "foreign.png", (1, 1, GREEN))
    write(folder / "dark.png")
    detectors.recogniser(folder / "model")
    (folder / "mainbody").mkdir()
    detectors.paddle_finished(folder / "mainbody" / "model.onnx")
    (folder / "mainbody" / "infer_cfg.yml").write_text(detectors.DESCRIPTION)
    done = shitu("index", "build", "photos", *MODEL, *DETECTOR, "--index", "i", cwd=folder)
    assert "--detector mainbody" in done.stdout + done.stderr  # a search has to cut its images out as well
    return folder


def ask(shop: Path, *words: str) -> list[dict[str, object]]:
    where = (*MODEL, *DETECTOR, "--index", "i", "--threshold", "0.9", "--json")
    return json.loads(shitu("search", *words, *where, cwd=shop).stdout)["results"]


def test_an_index_holds_what_was_cut_out(shop: Path) -> None:
    shown = json.loads(shitu("index", "show", "--index", "i", "--json", cwd=shop).stdout)
    paths = {Path(item["path"]).name for item in shown["items"] if item["label"] == "yellow"}
    assert paths == {"0.png#0,32,32,64", "1.png#64,64,96,96", "2.png#96,0,128,32"}


def test_each_thing_has_an_answer(shop: Path) -> None:
    (shelf,) = ask(shop, "shelf.png")
    things = shelf["objects"]
    assert isinstance(things, list)
    assert {(one["answer"]["label"], *one["box"]) for one in things} == {
        ("pink", 0, 0, 32, 32),
        ("yellow", 64, 96, 96, 128),
    }
    assert shelf["answer"] == things[0]["answer"] and shelf["box"] == things[0]["box"]
    assert all(0.5 < one["box_score"] <= 1 and "objects" not in one for one in things)


def test_what_is_unknown_is_said_where_it_lies_and_an_empty_image_is_one_thing(shop: Path) -> None:
    foreign, dark = ask(shop, "foreign.png", "dark.png")
    assert [(one["answer"]["label"], one["box"]) for one in foreign["objects"]] == [(None, [32, 32, 64, 64])]  # type: ignore
    assert [(one["answer"]["label"], one["box_score"]) for one in dark["objects"]] == [(None, None)]  # type: ignore
    assert dark["box"] == [0, 0, 128, 128]


def test_in_words_and_on_a_page(shop: Path) -> None:
    where = (*MODEL, *DETECTOR, "--index", "i", "--top", "1")
    done = shitu("search", "shelf.png", *where, "--html", "page.html", cwd=shop)
    words = " ".join(done.stdout.split())
    assert "shelf.png, x 0 to 32, y 0 to 32: most like pink" in words
    assert "shelf.png, x 64 to 96, y 96 to 128: most like yellow" in words
    page = (shop / "page.html").read_text()
    assert "shelf.png: 2 things" in page and page.count("<h2>") == 3
    drawn = re.search(r'class="large"><img src="data:image/jpeg;base64,([^"]+)', page)
    assert drawn is not None
    image = cv2.imdecode(np.frombuffer(base64.b64decode(drawn[1]), np.uint8), cv2.IMREAD_COLOR)
    border, dark = image[96:128, 94].mean(axis=0), image[64:90, 20].mean(axis=0)
    assert image.shape[:2] == (128, 128) and border[1] > 60 > 20 > dark.max()  # the right side of the second box


def test_the_same_from_python(shop: Path) -> None:
    searcher = Searcher(shop / "model", shop / "i", threshold=0.9, detector=shop / "mainbody")
    answer = searcher.search(shop / "shelf.png", top=1)[0]
    assert [one.label for one in answer.objects] == [answer.label, "yellow" if answer.label == "pink" else "pink"]
    assert answer.area is not None and answer.area.score == pytest.approx(answer.objects[0].area.score)  # type: ignore
    array = cv2.imread(str(shop / "shelf.png"))[:, :, ::-1]
    data = (shop / "shelf.png").read_bytes()
    for image in (array, data):
        assert searcher.search([image], top=1)[0] == answer
    good, bad = searcher.search_readable([data, b"no image"])
    assert not isinstance(good, DataError) and isinstance(bad, DataError)
    with pytest.raises(DataError):
        searcher.search([data, b"no image"])


def test_features_of_what_is_cut_out(shop: Path) -> None:
    done = shitu("extract", "photos/pink", "dark.png", *MODEL, *DETECTOR, "--out", "f.npy", cwd=shop)
    assert "nothing was found in 1 of 4 images" in done.stdout
    assert "--detector" not in done.stdout + done.stderr  # what is cut out already is not cut out again
    names = [line.split("\t")[0] for line in (shop / "f.tsv").read_text().splitlines()[1:]]
    assert [name.rpartition("/")[2] for name in names] == [
        "0.png#32,0,64,32",
        "1.png#64,64,96,96",
        "2.png#0,96,32,128",
        "dark.png",
    ]
    features = np.load(shop / "f.npy")
    np.testing.assert_allclose(features[:3] @ features[:3].T, 1, atol=1e-5)
    whole = shitu("extract", "photos/pink", *MODEL, "--out", "w.npy", cwd=shop)
    assert "nothing was found" not in whole.stdout and not np.allclose(np.load(shop / "w.npy"), features[:3], atol=0.1)


def test_processes_share_what_is_cut_out(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of a launcher cuts out its own share, and the first one finds the others' work done."""
    words = ("extract", "photos", *MODEL, *DETECTOR, "--out")
    shitu(*words, str(tmp_path / "one.npy"), cwd=shop)
    missing: list[int] = []
    compute = ResumableFeatures.compute

    def counted(work: ResumableFeatures, *args: object, **named: int) -> None:
        missing.append(work.blocks - len(work.done()))
        compute(work, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ResumableFeatures, "compute", counted)
    for rank in ("1", "0"):
        ranks = {this_process.RANK: rank, this_process.WORLD: "2", this_process.DEVICE: "cpu"}
        shitu(*words, str(tmp_path / "two.npy"), cwd=shop, env=ranks)
    assert missing == [1, 0, 0]  # the other process; the first one's share, which is empty; the whole
    for ending in (".npy", ".tsv"):
        assert (tmp_path / f"two{ending}").read_bytes() == (tmp_path / f"one{ending}").read_bytes()


def test_parts_of_what_is_cut_out_are_joined(shop: Path, tmp_path: Path) -> None:
    """Each part looks for the things in its own images; the bytes are those of one process."""
    words = ("extract", "photos", *MODEL, *DETECTOR, "--batch-size", "2")
    shitu(*words, "--out", str(tmp_path / "one.npy"), cwd=shop)
    for part in ("2/2", "1/2"):
        shitu(*words, "--out", str(tmp_path / "two.npy"), "--shard", part, cwd=shop)
    shitu("merge", str(tmp_path), cwd=shop)
    for ending in (".npy", ".tsv"):
        assert (tmp_path / f"two{ending}").read_bytes() == (tmp_path / f"one{ending}").read_bytes()
    assert "#0,32,32,64" in (tmp_path / "two.tsv").read_text()
    unsure = ("--out", str(tmp_path / "two.npy"), "--shard", "1/2", "--detector-threshold", "0.9")
    shitu(*words, *unsure, cwd=shop)
    done = shitu("merge", str(tmp_path), cwd=shop, check=False)
    assert done.returncode == 3 and "another options" in done.stderr, done.stderr


def test_options_that_do_not_go_together(shop: Path) -> None:
    for words, says in (
        (("search", "shelf.png", "--max-boxes", "3"), "--max-boxes needs a detector"),
        (("search", "shelf.png", "--detector-threshold", "0.5"), "--detector-threshold needs a detector"),
        (("index", "build", "--features", "f.npy", *DETECTOR), "the vectors of --features are computed already"),
        (("extract", "photos", "--devices", "cpu:2", *DETECTOR), "leave out --devices; several processes compute"),
        (("search", "shelf.png", "--detector", "nowhere"), "no such detector: nowhere"),
    ):
        done = shitu(*words, *MODEL, cwd=shop, check=False)
        assert done.returncode == 2 and says in " ".join(done.stderr.split()), done.stderr
