"""The addresses of PaddleX's PP-ShiTuV2 serving, used as its client does: requests and answers of its format."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.service.conftest import Server, png


def text(seed: int, noise: int = 0) -> str:
    return base64.b64encode(png(seed, noise)).decode()


def pairs(*seeds: int) -> list[dict[str, str]]:
    return [{"image": text(seed), "label": f"label {seed}"} for seed in seeds]


def ask(server: Server, address: str, status: int = 200, **values: Any) -> Any:
    answer = server.client.post(address, json={"logId": "ours", **values})
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["errorCode"] == (0 if status == 200 else status) and len(told["logId"]) == 36
    assert (told["errorMsg"] == "Success") == (status == 200)
    return told.get("result")


def test_a_whole_day(server: Server) -> None:
    built = ask(server, "/shitu-index-build", imageLabelPairs=pairs(100, 101, 102))
    assert set(built) == {"indexKey", "imageCount"} and built["imageCount"] == 3
    key = built["indexKey"]
    found = ask(server, "/shitu-infer", image=text(101, 3), indexKey=key)
    (detected,) = found["detectedObjects"]
    assert set(found) == {"detectedObjects"} and set(detected) == {"bbox", "recResults", "score"}
    assert detected["bbox"] == [0, 0, 24, 24] and detected["recResults"][0]["label"] == "label 101"
    assert len(detected["recResults"]) == 3 and 0.9 < detected["recResults"][0]["score"] <= 1
    assert ask(server, "/shitu-index-add", imageLabelPairs=pairs(103), indexKey=key) == {"imageCount": 4}
    assert ask(server, "/shitu-index-remove", ids=[0, 77], indexKey=key) == {"imageCount": 3}
    near = ask(server, "/shitu-infer", image=text(103, 3), indexKey=key, topk=1)["detectedObjects"][0]["recResults"]
    assert [one["label"] for one in near] == ["label 103"]
    assert ask(server, "/shitu-infer", image=text(9), indexKey=key)["detectedObjects"][0]["recResults"] == []
    assert server.desk.count() == 15  # the server's own index is another


def test_the_servers_own_index(server: Server) -> None:
    near = ask(server, "/shitu-infer", image=text(3, 9))["detectedObjects"][0]["recResults"]
    assert near[0]["label"] == "thing 3"
    assert ask(server, "/shitu-infer", image=text(99))["detectedObjects"][0]["recResults"] == []
    assert ask(server, "/shitu-infer", image=text(99), recThreshold=-1.0)["detectedObjects"][0]["recResults"]
    assert ask(server, "/shitu-index-add", imageLabelPairs=pairs(200), indexKey="default") == {"imageCount": 16}
    assert server.search(png(200))["results"][0]["answer"]["label"] == "label 200"


def test_a_picture_of_the_result(server: Server) -> None:
    found = ask(server, "/shitu-infer", image=text(1), visualize=True)
    assert base64.b64decode(found["image"]).startswith(b"\xff\xd8")


def test_indexes_outlive_the_server(server: Server, make_server: Callable[..., Server]) -> None:
    key = ask(server, "/shitu-index-build", imageLabelPairs=pairs(100))["indexKey"]
    again = make_server()
    near = ask(again, "/shitu-infer", image=text(100, 1), indexKey=key)["detectedObjects"][0]["recResults"]
    assert near[0]["label"] == "label 100"


def test_an_index_of_a_former_model_is_not_compared(server: Server) -> None:
    key = ask(server, "/shitu-index-build", imageLabelPairs=pairs(100))["indexKey"]
    server.desk.state.extractor.fingerprint = "another"  # type: ignore[misc]
    ask(server, "/shitu-infer", 409, image=text(100), indexKey=key)


def test_what_cannot_be_built_leaves_nothing(server: Server) -> None:
    ask(server, "/shitu-index-build", 422, imageLabelPairs=[{"image": "AAAA", "label": "a"}])
    ask(server, "/shitu-index-build", 422, imageLabelPairs=[*pairs(1), {"image": text(2)[:60], "label": "a"}])
    folder = server.folder / "served" / "indexes"
    assert not folder.exists() or not [path for path in folder.iterdir() if path.name != ".shitu"]


@pytest.mark.parametrize("address", ["/shitu-index-build", "/shitu-infer"])
def test_its_health_check(server: Server, address: str) -> None:
    told = server.client.get("/health").json()
    assert (told["errorCode"], told["errorMsg"]) == (0, "Healthy")
    assert server.client.get(address).json()["errorCode"] == 405
