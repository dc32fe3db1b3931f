"""What a real connection may do to the server: heads without end, heads that never come, clients that leave."""

from __future__ import annotations

import base64
import dataclasses
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.service import guard, protocol
from shitu_cli.service.server import address_of, is_loopback, log_to_stderr, open_socket
from shitu_cli.service.settings import Limits
from tests.service.conftest import Server, png

Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    """`connect()` opens a connection to the server."""
    listening = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        server.client.app, lifespan="off", log_level="error", http=protocol.BoundedProtocol, ws="none"
    )
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]})
    thread.start()
    yield lambda: socket.create_connection(listening.getsockname(), timeout=20)
    web.should_exit = True
    thread.join()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    pieces = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def test_the_log_holds_nothing_that_a_terminal_obeys(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("shitu.serve", "shitu.access", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:  # noted, so that what the server sets is undone
        monkeypatch.setattr(logger, "handlers", logger.handlers)
        monkeypatch.setattr(logger, "propagate", logger.propagate)
        monkeypatch.setattr(logger, "level", logger.level)

    def broken(images: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("error\x1b[2J")

    monkeypatch.setattr(server.desk.state.extractor, "compute", broken)
    log_to_stderr(False)
    answer = server.client.post("/search", content=png(1), headers={"Content-Type": "image/png"})
    server.client.get("/a%1b%5d0%0a2026-01-01 INFO forged%d8%9c")
    server.desk.live._remark("model\x1b]0;\n\u202e")
    shown = capsys.readouterr().err
    assert answer.status_code == 500 and r"error\x1b[2J" in shown and "Traceback" in shown
    assert r"/a\x1b]0\n2026-01-01 INFO forged\u061c" in shown and r"model\x1b]0;\n\u202e" in shown
    assert not set(shown) & set("\x1b\u202e\u061c")


@pytest.mark.parametrize("piece", [b"h: " + b"x" * 1000 + b"\r\n", b"x" * 1000], ids=["many headers", "one header"])
def test_a_head_without_end(connect: Connect, piece: bytes) -> None:
    with connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nlong: ")
        sent = 0
        try:
            while sent < 64 << 20:
                connection.sendall(piece * 100)
                sent += 100 * len(piece)
        except OSError:
            pass
        assert sent < 32 << 20  # what the system holds on the way, no more
        assert b"200" not in read_all(connection)[:20]
    with connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("begin", [b"", b"GET /hea"])
def test_a_head_that_never_comes(connect: Connect, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with connect() as connection:
        connection.sendall(begin)
        assert read_all(connection).startswith(b"HTTP/1.1 400")
    with connect() as connection:  # also after a request that was answered
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /")
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 400" in answer


def test_a_body_that_never_comes(connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SILENCE", 0.2)
    with connect() as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_a_body_that_is_longer_than_it_says(make_server: Callable[..., Server]) -> None:
    server = make_server(body=1000)
    answer = server.client.post("/search", content=(b"x" * 100 for _ in range(100)))  # in pieces, without a length
    assert answer.status_code == 413 and "1,000 bytes" in answer.text


def test_all_bodies_together_are_bounded(make_server: Callable[..., Server]) -> None:
    server = make_server(memory=300)
    answer = server.client.post("/search", content=png(1))
    assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
    small = server.client.post("/search", content=b"no image")
    assert small.status_code == 422  # what was refused holds nothing any more


def test_a_client_that_leaves(connect: Connect, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with connect() as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        time.sleep(0.2)
    deadline = time.monotonic() + 5
    while 'status="499"' not in server.client.get("/metrics").text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert 'status="499"' in server.client.get("/metrics").text
    assert "Traceback" not in caplog.text and server.desk.batcher.waiting == 0


def test_a_full_queue(make_server: Callable[..., Server]) -> None:
    server = make_server(waiting=2)
    refused = server.client.post("/search", files=[("image", ("a.png", png(n))) for n in range(3)])
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert server.client.get("/ready").status_code == 200
    server.desk.batcher.waiting = 2
    assert server.client.get("/ready").status_code == 503
    server.desk.batcher.waiting = 0
    assert len(server.search(png(1), png(2))["results"]) == 2


def test_a_network_that_takes_too_long(make_server: Callable[..., Server]) -> None:
    server = make_server(seconds=0.2)
    network: Any = server.desk.state.extractor
    plain, over = network.compute, threading.Event()
    network.compute = lambda images: (over.wait(10), plain(images))[1]
    late = server.client.post("/search", content=png(1))
    assert late.status_code == 503 and late.headers["retry-after"] == "5"
    over.set()
    server.desk.settings = dataclasses.replace(server.desk.settings, limits=Limits())  # of a machine that is not busy
    assert server.search(png(1))["results"][0]["answer"]["label"] == "thing 1"
    assert server.desk.batcher.waiting == 0


def test_much_json(make_server: Callable[..., Server]) -> None:
    large = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8))[1]
    answer = make_server().client.post("/search", json={"images": [base64.b64encode(large.tobytes()).decode()]})
    assert answer.status_code == 200 and len(answer.request.content) > 1 << 18


def test_sockets() -> None:
    with open_socket("127.0.0.1", 0) as listening:
        assert is_loopback(listening) and address_of(listening).startswith("http://127.0.0.1:")
        with pytest.raises(EnvironmentProblem, match=r"cannot listen on 127\.0\.0\.1"):
            open_socket("127.0.0.1", listening.getsockname()[1])
    with open_socket("0.0.0.0", 0) as listening:
        assert not is_loopback(listening) and address_of(listening).startswith("http://localhost:")
    with pytest.raises(UsageError, match="no such address"):
        open_socket("nowhere.invalid", 0)
