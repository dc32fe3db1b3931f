"""What evaluation measured goes with the index: a copy answers as the original, and a changed one says that it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features.extractor import Extractor
from shitu_cli.index.files import FileStore, export_index, load_index, save_index
from shitu_cli.index.measured import block_of, change_since, is_block, noted
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.steps.measured_threshold import block_for_index, measured_threshold, note_in_index
from tests.command import shitu
from tests.features.detectors import coloured, recogniser
from tests.index.made import gallery, vectors


def promise(wanted: float, threshold: float) -> dict[str, Any]:
    shares = {
        "false_answers": wanted,
        "false_answers_95": [0.0, 0.2],
        "right": 0.9,
        "right_95": [0.8, 1.0],
        "wrong": 0.0,
    }
    return {"wanted": wanted, "threshold": threshold, **shares}


UNKNOWN = {
    "suggested": promise(0.05, 0.6),
    "promises": [promise(0.05, 0.6), promise(0.01, 0.8)],
    "labels": 7,
    "problem": None,
    "how": "photos of 9 classes",
}


def evaluate(reports: Path, features: str, unknown: Any = UNKNOWN) -> None:
    """What an evaluation of these features leaves in a workspace."""
    reports.mkdir(exist_ok=True)
    values = {"metrics": {}, "measured": {"features": features, "options": []}, "unknown": unknown}
    (reports / "evaluate.json").write_text(json.dumps(values))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_keeps_what_was_measured_through_changes(tmp_path: Path, kind: str) -> None:
    block = block_of(UNKNOWN)
    index = VectorIndex.build(gallery(100), BuildOptions(kind, model="m", measured=block))
    assert change_since(index.manifest) is None
    save_index(index, tmp_path / "i")
    index = load_index(tmp_path / "i")
    assert index.manifest.measured == {**(block or {}), "count": 100, "next_id": 100}
    index.remove([3])
    assert "held 100 images, before it was changed (now 99)" in str(change_since(index.manifest))
    table = FeatureTable(vectors(1, seed=5), ["new"], ["new.jpg"])
    index.add(table)
    assert "(now 100)" in str(change_since(index.manifest))  # as many, and yet others
    export_index(index, tmp_path / "e")
    assert load_index(tmp_path / "e").manifest == index.manifest


def test_an_evaluation_is_noted_without_touching_the_vectors(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    save_index(VectorIndex.build(gallery(50), BuildOptions(model="m")), folder)
    before = {file.name: file.stat().st_ino for file in folder.iterdir()}
    assert not note_in_index(folder, "another model", UNKNOWN) and load_index(folder).manifest.measured is None
    assert note_in_index(folder, "m", UNKNOWN)
    after = {file.name: file.stat().st_ino for file in folder.iterdir()}
    assert [name for name in after if before.get(name) != after[name]] == ["manifest.json"]
    measured = measured_threshold(tmp_path / "no reports", "m", load_index(folder).manifest, 7)
    assert measured is not None and measured.value == 0.6 and len(measured.meaning) == 2
    assert measured_threshold(tmp_path / "no reports", "another model", load_index(folder).manifest, 7) is None
    assert note_in_index(folder, "m", {**UNKNOWN, "suggested": None})  # a newer one suggests nothing
    assert load_index(folder).manifest.measured is None
    assert not note_in_index(tmp_path / "nothing", "m", UNKNOWN)


def test_while_another_process_writes_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_index(VectorIndex.build(gallery(50), BuildOptions(model="m")), tmp_path / "i")
    monkeypatch.setattr("shitu_cli.index.files.PATIENCE", 0.05)
    with FileStore(tmp_path / "i").writing(), pytest.raises(EnvironmentProblem):
        note_in_index(tmp_path / "i", "m", UNKNOWN)


def test_an_index_of_more_labels_is_held_against_a_stricter_threshold(tmp_path: Path) -> None:
    manifest = VectorIndex.build(gallery(50), BuildOptions(model="m", measured=block_of(UNKNOWN))).manifest
    measured = measured_threshold(tmp_path, "m", manifest, 14)
    assert measured is not None and measured.value == 0.723


def test_a_new_index_takes_the_workspaces_evaluation(tmp_path: Path) -> None:
    evaluate(tmp_path, "m")
    assert block_for_index(tmp_path, "m") == block_of(UNKNOWN)
    assert block_for_index(tmp_path, "other") is None and block_for_index(tmp_path, "") is None
    evaluate(tmp_path, "m", {**UNKNOWN, "suggested": promise(0.05, float("nan"))})
    assert block_for_index(tmp_path, "m") is None


BLOCK = {**(block_of(UNKNOWN) or {}), "count": 50, "next_id": 50}
BAD_BLOCKS: list[Any] = [
    [],
    {},
    {**BLOCK, "more": 1},
    {**BLOCK, "labels": -1},
    {**BLOCK, "labels": True},
    {**BLOCK, "count": None},
    {**BLOCK, "suggested": None},
    {**BLOCK, "promises": [promise(0.1, 7.0)]},
    {**BLOCK, "promises": [promise(0.1, 0.5)] * 101},
    {**BLOCK, "suggested": {**promise(0.1, 0.5), "right_95": [0.1]}},
    {**BLOCK, "suggested": {**promise(0.1, 0.5), "right": "0.9"}},
]


def test_blocks_of_strangers(tmp_path: Path) -> None:
    assert is_block(BLOCK) and is_block(None)
    save_index(VectorIndex.build(gallery(50), BuildOptions(model="m")), tmp_path / "i")
    file = tmp_path / "i" / "manifest.json"
    values = json.loads(file.read_text())
    for bad in BAD_BLOCKS:
        assert not is_block(bad)
        file.write_text(json.dumps({**values, "measured": bad}))
        with pytest.raises(DataError) as problem:
            load_index(tmp_path / "i")
        assert "measured" in "".join(problem.value.details)


def test_a_copy_answers_as_in_the_workspace(tmp_path: Path) -> None:
    """Built where an evaluation is, carried to a machine that has neither workspace nor reports."""
    import cv2

    shop = tmp_path / "shop"
    shop.mkdir()
    recogniser(shop / "inference")
    for name, colour in (("yellow", (255, 255, 60)), ("pink", (255, 60, 255))):
        for number in range(2):
            file = shop / f"photos/{name}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), coloured((number, 1, colour), (2, 2, colour))[:, :, ::-1])
    evaluate(shop / "reports", Extractor(shop / "inference").fingerprint)
    shitu("index", "build", "photos", "--model", "inference", "--index", "index", cwd=shop)
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in ("inference", "index"):
        shutil.copytree(shop / name, copy / name)
    shutil.copytree(shop / "photos", copy / "photos")
    asked = ("search", "photos/pink/0.png", "--threshold", "auto", "--model", "inference", "--index", "index")
    text = shitu(*asked, cwd=copy).stdout
    assert text == shitu(*asked, cwd=shop).stdout and "below 0.6 an image is unknown" in text
    assert "held" not in text
    shitu("index", "remove", "--id", "0", "--index", "index", cwd=copy)
    assert "measured when the index held 4 images, before it was changed (now 3)" in " ".join(
        shitu(*asked, cwd=copy).stdout.split()
    )


def test_noting_none_leaves_a_manifest_as_it_was() -> None:
    manifest = VectorIndex.build(gallery(10), BuildOptions(model="m")).manifest
    assert noted(manifest, None) == manifest


def test_a_block_of_a_stranger_without_a_threshold_to_fall_back_on_is_refused() -> None:
    whole = {**{key: UNKNOWN[key] for key in ("suggested", "promises", "labels")}, "count": 1, "next_id": None}
    assert is_block(whole)
    assert not is_block({**whole, "promises": []})
    assert not is_block({**whole, "promises": [promise(0.05, 0.1)]})


def test_where_labels_are_not_counted_that_is_said(tmp_path: Path) -> None:
    """A server may hold ten times the labels of the evaluation: its false answers are not those measured."""
    manifest = VectorIndex.build(gallery(10), BuildOptions(model="m", measured=block_of(UNKNOWN))).manifest
    measured = measured_threshold(tmp_path, "m", manifest, None)
    assert measured is not None and "measured with 7 labels: if the index holds more" in measured.meaning[-1]
