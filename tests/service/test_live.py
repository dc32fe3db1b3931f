"""A new model, index or evaluation is taken over while the server answers, and only where they belong together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.files import atomic_write_json
from shitu_cli.index.files import save_index
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.service.gallery import FileGallery
from shitu_cli.service.live import Live
from shitu_cli.service.thresholds import MeasuredThreshold
from shitu_cli.steps.measured_threshold import Threshold
from tests.index.made import gallery
from tests.service.conftest import Network, write_index


class Models:
    """Opens the model whose name stands in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.opened = folder, 0
        folder.mkdir()
        self.export("m")

    def export(self, fingerprint: str) -> None:
        (self.folder / "new").write_text(fingerprint)
        os.replace(self.folder / "new", self.folder / "manifest.json")

    def __call__(self) -> Network:
        self.opened += 1
        text = (self.folder / "manifest.json").read_text()
        if text == "damaged":
            raise DataError("the model is damaged")
        return Network(self.folder, text)


@pytest.fixture
def models(tmp_path: Path) -> Models:
    write_index(tmp_path / "index", Network(tmp_path))
    return Models(tmp_path / "inference")


@pytest.fixture
def live(tmp_path: Path, models: Models) -> Live:
    def threshold_of(extractor: Any, view: object) -> Threshold:
        return Threshold(len(extractor.fingerprint) / 10)

    return Live(models, FileGallery(tmp_path / "index"), threshold_of)  # type: ignore[arg-type]


def test_nothing_new_opens_nothing(live: Live, models: Models) -> None:
    state = live.state
    live.refresh()
    assert live.state == state and models.opened == 1


def test_a_new_model_waits_for_its_index(live: Live, models: Models, tmp_path: Path) -> None:
    models.export("m2")
    live.refresh()
    assert live.state.extractor.fingerprint == "m" and "until the index is built again" in live.remark
    assert live.state.view.search(Network(tmp_path).compute(np.zeros((1, 4, 4, 3), np.uint8)), 1)  # goes on answering
    write_index(tmp_path / "index", Network(tmp_path), model="m2")
    live.refresh()
    assert live.state.extractor.fingerprint == "m2" and live.state.threshold.value == 0.2 and live.remark == ""
    assert models.opened == 2


def test_a_new_index_waits_for_its_model(live: Live, models: Models, tmp_path: Path) -> None:
    former = live.state
    write_index(tmp_path / "index", Network(tmp_path), things=7, model="m2")
    live.refresh()
    assert live.state == former and "another model" in live.remark
    models.export("m2")
    live.refresh()
    assert live.state.extractor.fingerprint == "m2" and live.state.view.manifest.count == 21  # type: ignore[union-attr]


def test_vectors_of_another_size_are_of_another_model(live: Live, tmp_path: Path) -> None:
    """An index of another program says nothing of its model; each search would be refused."""
    former = live.state
    save_index(VectorIndex.build(gallery(20, size=24)), tmp_path / "index")
    live.refresh()
    assert live.state == former and "another model" in live.remark
    with pytest.raises(DataError, match="was built with another model or preprocessing"):
        Live(lambda: former.extractor, live.gallery, lambda extractor, view: former.threshold)


def test_what_is_damaged_changes_nothing(live: Live, models: Models, tmp_path: Path) -> None:
    former = live.state
    models.export("damaged")
    with pytest.raises(DataError):
        live.refresh()
    assert live.state == former
    models.export("m")
    live.refresh()
    (tmp_path / "index" / "items.tsv").write_text("nonsense")
    os.utime(tmp_path / "index" / "vector.index")
    with pytest.raises(DataError):
        live.refresh()
    assert live.state.view.search(Network(tmp_path).compute(np.zeros((1, 4, 4, 3), np.uint8)), 1)


def test_a_model_of_another_index_is_refused(models: Models, tmp_path: Path) -> None:
    models.export("other")
    with pytest.raises(DataError, match="another model"):
        Live(models, FileGallery(tmp_path / "index"), lambda extractor, view: Threshold())  # type: ignore[arg-type]


def test_the_threshold_is_that_of_this_model(models: Models, tmp_path: Path) -> None:
    network: Any = Network(tmp_path)
    other: Any = Network(tmp_path, "other")
    view, measured = FileGallery(tmp_path / "index").latest(), MeasuredThreshold(tmp_path)
    assert measured(network, view) == Threshold(None, "none")
    promise = {"threshold": 0.61, "wanted": 0.05, "false_answers": 0.04, "right": 0.9}
    promise |= {"false_answers_95": [0.02, 0.07], "right_95": [0.85, 0.94]}
    unknown = {"labels": 5, "suggested": promise, "promises": [promise]}
    report = {"metrics": {}, "measured": {"features": "m"}, "unknown": unknown}
    atomic_write_json(tmp_path / "evaluate.json", report)
    threshold = measured(network, view)
    assert (threshold.value, threshold.source) == (0.61, "measured") and "about 4 get an answer" in threshold.meaning[0]
    assert measured(other, view) == Threshold(None, "none")
    assert view.index is not None
    view.index.manifest = replace(view.index.manifest, kind="binary")  # whose scores are no cosines
    assert measured(network, view) == Threshold(None, "none")
