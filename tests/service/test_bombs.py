"""Images of too many pixels are refused by their header, before anything takes memory for them."""

from __future__ import annotations

import pytest

from tests.bombs import BOMBS
from tests.service.conftest import Server


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("cv2.imdecode", decode)
    monkeypatch.setattr("simplejpeg.decode_jpeg", decode)
    answer = server.client.post("/search", content=BOMBS[name], headers={"Content-Type": "image/png"})
    assert answer.status_code == 422
    assert any(words in answer.text for words in ("how many pixels", "too many", "not an image"))
