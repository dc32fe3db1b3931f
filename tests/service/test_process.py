"""`shitu serve` as a process: it starts, keeps what it acknowledged through kills, follows commands, stops cleanly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shitu_cli.data.transforms import Normalization
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.manifest import MANIFEST, Manifest
from shitu_cli.files import atomic_write_json, sha256_of
from tests.command import shitu
from tests.kills import kills
from tests.parts import operation
from tests.service.conftest import png

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
KILLS = kills(2)


def write_model(folder: Path) -> None:
    """An export whose network averages an image to 4 x 4 pixels; it starts faster than any real one."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["feature"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])]
    outputs = [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 48])]
    model = helper.make_model(
        helper.make_graph(nodes, "pool", inputs, outputs), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    folder.mkdir()
    onnx.save(model, str(folder / "inference.onnx"))
    manifest = Manifest(
        feature_size=48,
        normalized_inside=False,
        image_shape=(3, 16, 16),
        transform_ops=(operation("ResizeImage", {"size": [16, 16]}), operation("NormalizeImage", {})),
        normalization=Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1 / 255),
        feature="features",
        model={},
        source={"sha256": "0" * 64},
        files={"inference.onnx": sha256_of(folder / "inference.onnx")},
    )
    atomic_write_json(folder / MANIFEST, manifest.to_json())


class Process:
    """A server of its own, at a free port."""

    def __init__(self, folder: Path) -> None:
        self.log = (folder / "log.txt").open("ab")
        command = [
            sys.executable,
            "-m",
            "shitu_cli",
            "serve",
            "inference",
            "index",
            "--port",
            "0",
            "--threshold",
            "0.9",
        ]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=self.log, text=True, env={**os.environ}
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"http://\S+", first)
        assert found, f"{first}{(folder / 'log.txt').read_text()}"
        self.client = httpx.Client(base_url=found[0], timeout=60)

    def add(self, label: str, photo: bytes) -> int:
        answer = self.client.post("/add", files={"image": ("a.png", photo)}, data={"label": label})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["added"][0]["id"])

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.log.close()
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write_model(tmp_path / "inference")
    for thing in range(3):
        (tmp_path / "photos" / f"thing {thing}").mkdir(parents=True)
        (tmp_path / "photos" / f"thing {thing}" / "1.png").write_bytes(png(thing))
    shitu("index", "build", "photos", "--model", "inference", "--index", "index", cwd=tmp_path)
    yield tmp_path


def test_a_life(folder: Path) -> None:
    acknowledged: dict[int, str] = {}
    generation = 0
    for _ in range(KILLS):
        server, over = Process(folder), threading.Event()

        def fill(first: int, server: Process = server, over: threading.Event = over) -> None:
            with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
                for number in range(first, first + 1000):
                    try:
                        files = {"image": ("a.png", png(number))}
                        answer = client.post("/add", files=files, data={"label": f"added {number}"})
                    except httpx.TransportError:
                        return
                    assert answer.status_code == 200, answer.text
                    acknowledged[answer.json()["added"][0]["id"]] = f"added {number}"

        threads = [threading.Thread(target=fill, args=(10_000 + generation + 1000 * n,)) for n in range(4)]
        generation += 4000
        for thread in threads:
            thread.start()
        before = len(acknowledged)
        while len(acknowledged) < before + 15:
            time.sleep(0.02)
        server.end(signal.SIGKILL)
        for thread in threads:
            thread.join()

    server = Process(folder)
    items = {}
    while (
        len(items) < (page := server.client.get("/items", params={"limit": 1000, "offset": len(items)}).json())["count"]
    ):
        items |= {item["id"]: item for item in page["items"]}
    assert {number: items[number]["label"] for number in acknowledged} == acknowledged
    assert all(Path(folder, items[number]["path"]).is_file() for number in acknowledged)

    # A command changes the index beside the server, which follows without a pause.
    (folder / "more").mkdir()
    (folder / "more" / "1.png").write_bytes(png(77))
    shitu("index", "add", "more", "--label", "from a command", "--index", "index", cwd=folder)
    deadline, labels = time.monotonic() + 20, set()
    while "from a command" not in labels and time.monotonic() < deadline:
        answer = server.client.post("/search", content=png(77)).json()["results"][0]
        labels.add(answer["answer"]["label"])
    assert "from a command" in labels

    features = server.client.post("/features", content=png(1)).json()["features"][0]
    assert np.array_equal(np.float32(features), Extractor(folder / "inference").extract(png(1))[0])

    # Told to stop, it answers what has begun.
    body = png(1)
    head = f"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 0)) as half:
        half.sendall(head.encode() + body[:100])
        time.sleep(0.5)  # the server has read it: it answers other requests meanwhile
        assert server.client.get("/health").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        half.sendall(body[100:])
        answer = b"".join(iter(lambda: half.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b"thing 1" in answer
    assert server.end(signal.SIGTERM) == 0
    assert "Traceback" not in (folder / "log.txt").read_text()
