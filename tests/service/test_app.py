"""Search, features, additions, removals and lists over HTTP, as a client sees them."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.reporting import HIDDEN
from shitu_cli.service.batching import Image, count_workers
from tests.service.conftest import KEY, Network, Server, png, write_index

Maker = Callable[..., Server]


def test_a_known_and_an_unknown_image(server: Server) -> None:
    reply = server.search(png(3, 77), png(99), top=2)
    known, unknown = reply["results"]
    assert reply["threshold"] == 0.8
    assert known["answer"]["label"] == "thing 3" and known["answer"]["voters"] == 5
    assert [match["label"] for match in known["matches"]] == ["thing 3"] * 2
    assert known["matches"][0]["score"] > 0.9
    assert unknown["answer"]["label"] is None and len(unknown["matches"]) == 2


def test_three_ways_to_send_an_image_are_one(server: Server) -> None:
    data = png(2, 9)
    text = base64.b64encode(data).decode()
    form = server.search(data)
    raw = server.client.post("/search?top=5", content=data, headers={"Content-Type": "image/png"})
    curl = server.client.post("/search", content=data, headers={"Content-Type": "application/x-www-form-urlencoded"})
    bare = server.client.post("/search", content=data)
    many = server.client.post("/search", json={"images": [text], "top": 5})
    one = server.client.post("/search", json={"image": f"data:image/png;base64,{text}"})
    assert all(answer.json() == form for answer in (raw, curl, bare, many, one))


def test_features_are_the_extractors(server: Server) -> None:
    network = Network(Path())
    data = [png(1, 5), png(2, 6)]
    files = [("image", (f"{n}.png", image)) for n, image in enumerate(data)]
    reply = server.client.post("/features", files=files).json()
    assert reply["model"] == "m"
    expected = network.compute(np.stack([network.read(image) for image in data]))
    assert np.array_equal(np.asarray(reply["features"], np.float32), expected)


def test_what_is_added_is_found_kept_and_on_the_disk(server: Server) -> None:
    photos = [png(50, n) for n in range(3)]
    reply = server.add("new & <b>shiny</b>", *photos).json()
    assert reply["count"] == 18 and reply["replaced"] == 0
    assert [item["id"] for item in reply["added"]] == [15, 16, 17]
    assert server.search(png(50, 9))["results"][0]["answer"]["label"] == "new & <b>shiny</b>"
    assert sorted(Path(item["path"]).read_bytes() for item in reply["added"]) == sorted(photos)
    on_disk = load_index(server.folder / "index")
    assert [on_disk.labels[n] for n in (15, 16, 17)] == ["new & <b>shiny</b>"] * 3
    assert server.client.get("/items/16/image").headers["content-type"] == "image/jpeg"


def test_the_users_own_photos_in_its_folder_stay(server: Server) -> None:
    (kept,) = server.add("a", png(55)).json()["added"]
    photos = server.desk.photos
    own = [photos.folder / name for name in ("cup.png", f"{hashlib.md5(png(55)).hexdigest()}.png", f"{'a' * 32}")]
    for file in own:
        file.write_bytes(png(55))
    assert photos.holds(photos.folder / Path(kept["path"]).name)
    assert not any(photos.holds(file) for file in [*own, photos.place(b"none such")])


def test_a_photo_added_again_is_corrected(server: Server) -> None:
    assert server.add("wrong", png(60)).json()["replaced"] == 0
    reply = server.add("right", png(60)).json()
    assert reply["replaced"] == 1 and reply["count"] == 16
    assert server.search(png(60))["results"][0]["answer"]["label"] == "right"
    assert server.client.get("/items", params={"label": "wrong"}).json()["count"] == 0
    assert len(list((server.folder / "served" / "photos").iterdir())) == 1


def test_labels_one_by_one(server: Server) -> None:
    images = [base64.b64encode(png(n)).decode() for n in (70, 71)]
    added = server.client.post("/add", json={"images": images, "labels": ["a", "b"]}).json()["added"]
    assert [item["label"] for item in added] == ["a", "b"]


def test_what_is_removed_is_gone(server: Server) -> None:
    own = server.add("mine", png(80)).json()["added"][0]
    reply = server.client.post("/remove", json={"ids": [own["id"]], "labels": ["thing 4"]}).json()
    assert [item["label"] for item in reply["removed"]] == ["thing 4"] * 3 + ["mine"] and reply["count"] == 12
    assert not Path(own["path"]).exists()  # it was kept here
    assert (server.folder / "gallery" / "4-0.png").exists()  # it is the user's
    assert server.client.get(f"/items/{own['id']}/image").status_code == 404
    assert server.search(png(4, 1))["results"][0]["answer"]["label"] is None
    absent = server.client.post("/remove", json={"ids": [0, 12345], "labels": ["nothing"]})
    assert absent.status_code == 404 and absent.json()["error"]["details"] == ["id 12345", "label nothing"]
    assert server.desk.count() == 12  # all or nothing


def test_the_last_item_stays(make_server: Maker) -> None:
    server = make_server(things=1)
    refused = server.client.post("/remove", json={"labels": ["thing 0"]})
    assert refused.status_code == 409 and "empty" in refused.json()["error"]["message"]


def test_a_server_that_begins_with_nothing(make_server: Maker) -> None:
    server = make_server(things=0)
    nothing = server.search(png(1))["results"][0]
    assert nothing["answer"]["unknown"] and nothing["answer"]["nearest"] is None and nothing["matches"] == []
    assert server.client.get("/items").json() == {"count": 0, "items": []}
    assert server.client.get("/map").status_code == 409
    assert server.client.post("/remove", json={"ids": [1]}).status_code == 404
    assert server.add("first", png(1)).json()["count"] == 1
    assert server.search(png(1, 4))["results"][0]["answer"]["label"] == "first"


def test_lists(server: Server) -> None:
    page = server.client.get("/items", params={"offset": 14, "limit": 5}).json()
    assert page["count"] == 15 and [item["id"] for item in page["items"]] == [14]
    assert server.client.get("/items", params={"text": "THING 2"}).json()["count"] == 3
    assert server.client.get("/items", params={"label": "thing"}).json()["count"] == 0
    labels = server.client.get("/labels", params={"limit": 2}).json()
    assert labels == {"count": 5, "labels": [{"label": "thing 0", "count": 3}, {"label": "thing 1", "count": 3}]}
    stats = server.client.get("/stats").json()
    assert stats["items"] == 15 and stats["labels"] == 5 and stats["engine"] == "pixels" and stats["remark"] == ""


def test_labels_of_a_strangers_index_are_answered_as_they_are_and_safe_to_show(
    tmp_path: Path, make_server: Maker
) -> None:
    labels, paths = ["oat\u202emilk", "\x9b2J\x7f\u061c", "été"], ["a", "b", "c"]
    features = np.eye(3, Network.feature_size, dtype=np.float32)
    save_index(VectorIndex.build(FeatureTable(features, labels, paths), BuildOptions(model="m")), tmp_path / "index")
    client = make_server().client
    for answer in (client.get("/labels"), client.get("/items"), client.get("/map")):
        assert not HIDDEN.search(answer.text) and "été" in answer.text
    assert sorted(row["label"] for row in client.get("/labels").json()["labels"]) == sorted(labels)


def test_the_map_shows_every_item(server: Server) -> None:
    server.add("thing 0 too", png(0, 55))
    drawn = server.client.get("/map").json()
    assert len(drawn["points"]) == drawn["total"] == 16 and 0 < drawn["explained"] <= 1
    assert all(-1 <= point[axis] <= 1 for point in drawn["points"] for axis in "xy")
    assert drawn["confusions"][0] == {
        "label": "thing 0",
        "other": "thing 0 too",
        "count": drawn["confusions"][0]["count"],
    }


def test_images_leave_small_and_upright(server: Server) -> None:
    import cv2

    small = server.client.get("/items/0/image", params={"size": 16})
    decoded = cv2.imdecode(np.frombuffer(small.content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (16, 16, 3)
    (server.folder / "gallery" / "0-0.png").write_text("no image any more")
    gone = server.client.get("/items/0/image")
    assert gone.status_code == 404 and "where the index says" in gone.json()["error"]["message"]


def test_a_server_that_only_reads(make_server: Maker) -> None:
    server = make_server(read_only=True)
    for address, body in (("/add", None), ("/remove", {"ids": [1]}), ("/shitu-index-build", {"imageLabelPairs": []})):
        refused = server.client.post(address, json=body or {"images": [], "label": "a"})
        assert refused.status_code == 403, address
    assert server.search(png(1, 3))["results"][0]["answer"]["label"] == "thing 1"


def test_the_key_opens_everything_but_the_page(make_server: Maker) -> None:
    server = make_server(key=KEY)
    for address in ("/items", "/metrics", "/stats", "/openapi.json"):
        assert server.client.get(address).status_code == 401
        assert server.client.get(address, headers={"X-API-Key": KEY + "x"}).status_code == 401
        assert server.client.get(address, headers={"X-API-Key": KEY}).status_code == 200
    assert server.client.get("/items", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert server.client.get("/items", headers={"Authorization": "Bearer é".encode("latin-1")}).status_code == 401
    assert [server.client.get(address).status_code for address in ("/", "/health", "/ready")] == [200] * 3


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "localhost.evil.example:8000"}, {"Origin": "http://evil.example"},
     {"Origin": "null"}, {"Host": "[::1"}, {"Host": ""}],
)  # fmt: skip
def test_without_a_key_other_sites_are_refused(server: Server, headers: dict[str, str]) -> None:
    """A page that a browser shows could else reach a server on the same machine, also through a name of its own."""
    refused = server.client.post("/remove", json={"ids": [1]}, headers=headers)
    assert refused.status_code == 403 and server.desk.count() == 15


def test_own_pages_are_answered(server: Server) -> None:
    assert server.client.get("/items", headers={"Origin": "http://localhost:8000"}).status_code == 200
    assert server.client.get("/items", headers={"Host": "127.0.0.1:9"}).status_code == 200


def test_metrics_count(server: Server) -> None:
    server.search(png(1), png(2))
    server.client.get("/nowhere")
    server.add("x", png(90))
    text = server.client.get("/metrics").text
    for line in (
        "shitu_images_total 3.0",
        'shitu_requests_total{method="POST",route="/search",status="200"} 1.0',
        'shitu_requests_total{method="GET",route="other",status="404"} 1.0',
        'shitu_index_changes_total{kind="add"} 1.0',
        "shitu_index_items 16.0",
    ):
        assert line in text


def test_the_description_names_every_address(server: Server) -> None:
    described = server.client.get("/openapi.json").json()
    assert {"/search", "/features", "/add", "/remove", "/items", "/stats", "/shitu-infer"} <= described["paths"].keys()
    search = described["paths"]["/search"]["post"]
    content = search["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "image/*", "application/json"}
    example = content["application/json"]["example"]
    assert server.client.post("/search", json=example).status_code == 200
    assert [one["name"] for one in search["parameters"]] == ["top"]
    assert "#/components/schemas/ErrorReply" in str(search["responses"]["429"])


def test_many_at_once_go_through_the_network_together(server: Server) -> None:
    network = server.desk.state.extractor
    plain, sizes, first = network.compute, [], threading.Event()

    def slow(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        first.wait(5)
        return plain(images)

    network.compute = slow  # type: ignore[method-assign]
    replies: list[dict] = []
    threads = [threading.Thread(target=lambda n=n: replies.append(server.search(png(n % 5, n)))) for n in range(12)]
    for thread in threads:
        thread.start()
    while server.desk.batcher.waiting < 12:
        time.sleep(0.01)
    first.set()
    for thread in threads:
        thread.join()
    assert len(replies) == 12 and sum(sizes) == 12 and max(sizes) > 4


def test_images_that_nobody_waits_for_any_more_are_not_looked_at(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, looked, go_on = server.desk.state.extractor, threading.Semaphore(0), threading.Event()
    read, reads = network.read, []

    def slow(image: Any) -> np.ndarray:
        reads.append(image)
        looked.release()
        go_on.wait(10)
        return read(image)

    monkeypatch.setattr(network, "read", slow)
    batcher = server.desk.batcher
    reply = batcher.submit([Image(png(n), str(n)) for n in range(60)], 5)
    assert looked.acquire(timeout=10) and reply.cancel()  # as when the client's time is over
    go_on.set()
    batcher.close()
    assert len(reads) <= count_workers(side_by_side=False) and batcher.waiting == 0


def test_another_process_changes_the_index(server: Server) -> None:
    write_index(server.folder / "index", Network(Path()), things=7)
    server.desk.live.refresh()
    assert server.desk.count() == 21
    assert server.search(png(6, 5))["results"][0]["answer"]["label"] == "thing 6"
