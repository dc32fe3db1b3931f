"""A server with a detector: an answer for each thing in a photo, and corrections that reach what is in the index."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shitu_cli.features.detection.boxes import Detection
from shitu_cli.index.files import load_index
from shitu_cli.service import batching
from tests.service.conftest import Network, Server, png

Maker = Callable[..., Server]


class Boxes:
    """Stands for a detector: the left and the right half of an image that is twice as wide as high."""

    path = Path("mainbody")

    def detect(self, image: np.ndarray, *, threshold: float | None = None, most: int | None = None) -> list[Detection]:
        height, width = image.shape[:2]
        if width != 2 * height:
            return []
        halves = [Detection((0.0, 0.0, height, height), 0.9), Detection((height, 0.0, width, height), 0.6)]
        return [half for half in halves if (half.score or 0) >= (threshold or 0)]


def pair(left: int, right: int, noise: int = 50, side: int = 24) -> bytes:
    """A photo with two things side by side."""
    data = [np.frombuffer(png(seed, noise, side), np.uint8) for seed in (left, right)]
    halves = [cv2.imdecode(one, cv2.IMREAD_COLOR) for one in data]
    return cv2.imencode(".png", np.hstack(halves))[1].tobytes()


@pytest.fixture
def shop(make_server: Maker) -> Server:
    return make_server(detector=Boxes())


def ask(server: Server, address: str, **values: Any) -> Any:
    answer = server.client.post(address, json=values)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def test_each_thing_in_a_photo_has_an_answer(shop: Server) -> None:
    both, unknown, single = shop.search(pair(1, 3), pair(2, 99), png(4, 77), top=2)["results"]
    assert {(one["answer"]["label"], *one["box"]) for one in both["objects"]} == {
        ("thing 1", 0, 0, 24, 24),
        ("thing 3", 24, 0, 48, 24),
    }
    assert both["answer"] == both["objects"][0]["answer"] and len(both["matches"]) == 2
    assert [(one["answer"]["label"], one["box_score"]) for one in unknown["objects"]] == [("thing 2", 0.9), (None, 0.6)]
    assert [(one["answer"]["label"], one["box"], one["box_score"]) for one in single["objects"]] == [
        ("thing 4", [0, 0, 24, 24], None)
    ]
    assert shop.client.get("/stats").json()["detector"] == "mainbody"


def test_without_a_detector_nothing_is_said_of_things(server: Server) -> None:
    result = server.search(pair(1, 3))["results"][0]
    assert set(result) == {"answer", "matches"} and server.client.get("/stats").json()["detector"] is None


def test_what_is_added_is_the_surest_thing_or_the_one_that_is_named(shop: Server) -> None:
    (first,) = shop.add("left", pair(60, 61)).json()["added"]
    assert first["path"].endswith(".png#0,0,24,24")
    photo = {"image": ("a.png", pair(60, 61), "image/png")}
    named = shop.client.post("/add", files=photo, data={"label": "right", "box": "24,0,48,24"}).json()["added"][0]
    assert named["path"] == first["path"].replace("#0,0,24,24", "#24,0,48,24")
    labels = {one["answer"]["label"] for one in shop.search(pair(60, 61))["results"][0]["objects"]}
    assert labels == {"left", "right"}
    shown = shop.client.get(f"/items/{named['id']}/image")
    assert cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR).shape == (24, 24, 3)
    features = shop.client.post("/features", files={"image": pair(60, 61)}).json()["features"][0]
    assert np.allclose(features, load_index(shop.folder / "index").vectors(np.array([first["id"]]))[0], atol=1e-6)


def test_a_photo_stays_while_another_part_of_it_is_in_the_index(shop: Server) -> None:
    (first,) = shop.add("left", pair(60, 61)).json()["added"]
    photo = {"image": ("a.png", pair(60, 61), "image/png")}
    second = shop.client.post("/add", files=photo, data={"label": "right", "box": "24,0,48,24"}).json()["added"][0]
    file = Path(first["path"].partition("#")[0])
    shop.client.post("/remove", json={"ids": [first["id"]]})
    assert file.exists()
    shop.client.post("/remove", json={"ids": [second["id"]]})
    assert not file.exists()


@pytest.mark.parametrize("box", ["24,0,20,24", "1,2,3", "a,b,c,d", "-1,0,5,5", "nan,0,5,5"])
def test_boxes_that_are_none(shop: Server, box: str) -> None:
    photo = {"image": ("a.png", pair(60, 61), "image/png")}
    refused = shop.client.post("/add", files=photo, data={"label": "x", "box": box})
    assert refused.status_code == 422 and "box" in json.dumps(refused.json())


def test_a_box_outside_of_the_photo(shop: Server) -> None:
    photo = {"image": ("a.png", pair(60, 61), "image/png")}
    refused = shop.client.post("/add", files=photo, data={"label": "x", "box": "500,0,600,24"})
    assert refused.status_code == 422 and "lies outside the image" in json.dumps(refused.json())


def test_clients_of_paddlex_get_every_box(shop: Server) -> None:
    text = base64.b64encode(pair(1, 99)).decode()
    known, foreign = ask(shop, "/shitu-infer", image=text)["detectedObjects"]
    assert known["bbox"] == [0, 0, 24, 24] and known["score"] == 0.9 and known["recResults"][0]["label"] == "thing 1"
    assert foreign["bbox"] == [24, 0, 48, 24] and foreign["recResults"] == []
    assert len(ask(shop, "/shitu-infer", image=text, detThreshold=0.7)["detectedObjects"]) == 1
    whole = ask(shop, "/shitu-infer", image=base64.b64encode(png(2, 8)).decode(), visualize=True)
    assert [(one["bbox"], one["score"]) for one in whole["detectedObjects"]] == [([0, 0, 24, 24], 0)]
    pairs = [{"image": base64.b64encode(pair(70, 71)).decode(), "label": "both"}]
    key = ask(shop, "/shitu-index-build", imageLabelPairs=pairs)["indexKey"]
    found = ask(shop, "/shitu-infer", image=pairs[0]["image"], indexKey=key, recThreshold=0.99)["detectedObjects"]
    assert [one["recResults"] for one in found] == [[], []]  # added whole, asked for its halves


def test_a_correction_reaches_what_is_in_the_index(server: Server) -> None:
    photo = (server.folder / "gallery" / "1-2.png").read_bytes()
    assert server.search(photo)["results"][0]["matches"][0]["score"] > 0.9999
    files = {"image": ("a.png", photo, "image/png")}
    reply = server.client.post("/add", files=files, data={"label": "thing 3", "correct": "true"}).json()
    assert [(item["label"], Path(item["path"]).name) for item in reply["removed"]] == [("thing 1", "1-2.png")]
    assert reply["count"] == 15 and (server.folder / "gallery" / "1-2.png").exists()  # it is the user's
    matches = server.search(photo)["results"][0]["matches"]
    assert matches[0]["label"] == "thing 3" and matches[1]["score"] < 0.9999
    assert dict(load_index(server.folder / "index").labels)[reply["added"][0]["id"]] == "thing 3"
    again = server.client.post("/add", files=files, data={"label": "thing 1", "correct": "true"}).json()
    assert again["replaced"] == 1 and again["removed"] == [] and again["count"] == 15  # it was kept here: one path


def test_without_being_asked_nothing_leaves_the_index(server: Server) -> None:
    photo = (server.folder / "gallery" / "1-2.png").read_bytes()
    reply = server.add("thing 3", photo).json()
    assert reply["removed"] == [] and reply["count"] == 16


def test_the_same_bytes_are_the_same_photo_where_features_are_a_little_different(server: Server) -> None:
    photo = (server.folder / "gallery" / "1-2.png").read_bytes()
    network: Any = server.desk.state.extractor
    exact = network.compute

    def other_program(images: np.ndarray) -> np.ndarray:
        features = exact(images) + np.float32(1e-3)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    network.compute = other_program
    files = {"image": ("a.png", photo, "image/png")}
    reply = server.client.post("/add", files=files, data={"label": "new", "correct": "true"}).json()
    assert [item["label"] for item in reply["removed"]] == ["thing 1"]


def test_engines_that_compute_side_by_side_keep_nobody_waiting(
    make_server: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "compute_threads", lambda: 2)
    network = Network(tmp_path / "inference", side_by_side=True)
    server = make_server(network=network)
    exact, both = network.compute, threading.Barrier(2)

    def slow(images: np.ndarray) -> np.ndarray:
        both.wait(20)  # passes only when two images are in the network at once
        return exact(images)

    network.compute = slow
    results = server.search(png(1, 30), png(2, 30))["results"]
    assert [result["answer"]["label"] for result in results] == ["thing 1", "thing 2"]
    network.compute = exact
    monkeypatch.setattr("shitu_cli.service.views.SMALL", 0)  # an index of which one search for many is faster
    results = server.search(*[png(n, 31) for n in range(5)])["results"]
    assert [result["answer"]["label"] for result in results] == [f"thing {n}" for n in range(5)]
    assert server.client.post("/search", content=b"no image").status_code == 422
    assert server.desk.batcher.waiting == 0
