"""A server in this process: a network that needs no Paddle, an index of drawn images, a client."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the packages of shitu serve are not installed")
from fastapi.testclient import TestClient

from shitu_cli.data.images import decode_image
from shitu_cli.data.loader import NO_RANDOMNESS
from shitu_cli.data.transforms import Transform
from shitu_cli.features.extractor import Cropped
from shitu_cli.features.unit_length import normalized
from shitu_cli.index.files import save_index
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.service.app import create_app
from shitu_cli.service.desk import Desk
from shitu_cli.service.gallery import FileGallery
from shitu_cli.service.live import Live
from shitu_cli.service.metrics import Metrics
from shitu_cli.service.settings import Limits, Settings
from shitu_cli.steps.measured_threshold import Threshold

KEY = "a-key-of-the-tests"
ADDRESS = "http://localhost:8000"


class _Small:
    def __call__(self, image: np.ndarray, rng: object) -> np.ndarray:
        return cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA)


class Network:
    """Stands for an extractor: the feature of an image is its pixels, at 4 x 4."""

    feature_size = 48
    transform = Transform([_Small()])

    def __init__(self, path: Path, fingerprint: str = "m", *, side_by_side: bool = False) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.engine = SimpleNamespace(description="pixels", side_by_side=side_by_side)
        self.compute: Callable[[np.ndarray], np.ndarray] = self._compute

    def read(self, image: bytes | Cropped) -> np.ndarray:
        data, box = (image.path, image.box) if isinstance(image, Cropped) else (image, None)
        return self.transform(decode_image(data, box=box), NO_RANDOMNESS)

    def _compute(self, images: np.ndarray) -> np.ndarray:
        return normalized(images.reshape(len(images), -1).astype(np.float32) - 127.5)


def png(seed: int, noise: int = 0, side: int = 24) -> bytes:
    """An image of thing `seed`; another `noise` is another photo of the same thing."""
    base = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    image = cv2.resize(base, (side, side), interpolation=cv2.INTER_NEAREST).astype(np.int16)
    image += np.random.default_rng((seed, noise)).integers(-20, 21, image.shape).astype(np.int16)
    return cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes()


@dataclass
class Server:
    """A server with the things `thing 0` to `thing 4` in its index, three photos each."""

    folder: Path
    desk: Desk
    client: TestClient

    def search(self, *images: bytes, **options: Any) -> dict[str, Any]:
        files = [("image", (f"{n}.png", io.BytesIO(data))) for n, data in enumerate(images)]
        answer = self.client.post("/search", files=files, params=options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def add(self, label: str, *images: bytes) -> Any:
        files = [("image", (f"{n}.png", io.BytesIO(data))) for n, data in enumerate(images)]
        return self.client.post("/add", files=files, data={"label": label})


def write_index(folder: Path, network: Network, things: int = 5, model: str = "m") -> None:
    photos = folder.parent / "gallery"
    photos.mkdir(exist_ok=True)
    labels, paths, images = [], [], []
    for thing in range(things):
        for number in range(3):
            file = photos / f"{thing}-{number}.png"
            file.write_bytes(png(thing, number))
            labels.append(f"thing {thing}")
            paths.append(str(file))
            images.append(network.read(file.read_bytes()))
    table = FeatureTable(network.compute(np.stack(images)), labels, paths)
    save_index(VectorIndex.build(table, BuildOptions(model=model)), folder)


def start_server(
    folder: Path,
    *,
    things: int = 5,
    threshold: float | None = 0.8,
    key: str = "",
    read_only: bool = False,
    network: Network | None = None,
    detector: Any = None,
    **limits: Any,
) -> Server:
    """Start a server whose index and photos lie in `folder`; whoever calls it closes its client."""
    (folder / "inference").mkdir(exist_ok=True)
    network = network or Network(folder / "inference")
    if things and not (folder / "index").exists():
        write_index(folder / "index", network, things)
    gallery = FileGallery(folder / "index", create=not things)
    live = Live(lambda: network, gallery, lambda extractor, view: Threshold(threshold, "given"))  # type: ignore
    settings = Settings(folder / "served", folder, key, read_only, Limits(**limits))
    desk = Desk(live, settings, Metrics(), detector=detector)
    client = TestClient(create_app(desk), base_url=ADDRESS)
    client.__enter__()
    return Server(folder, desk, client)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`make_server(**options)` starts a server as `start_server` does, and stops it after the test."""
    servers: list[Server] = []

    def make(**options: Any) -> Server:
        servers.append(start_server(tmp_path, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.client.__exit__(None, None, None)


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()
