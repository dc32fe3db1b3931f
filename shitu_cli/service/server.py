"""The process that serves: its socket, its signals, its log."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.reporting import visible
from shitu_cli.service.protocol import BoundedProtocol

GRACE = 30  # seconds for requests that run when the server is told to stop
CONNECTIONS = 1024
# Seconds after which a thread that computes in Python lets another one run. With Python's default of 5 ms, the thread
# that reads and answers requests would wait that long for each thread that decodes or computes.
SWITCH = 0.0005
QUEUE = 512  # connections that the system holds until they are accepted


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; EnvironmentProblem if the port is taken, UsageError if there is no such host."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: no such address", hint="--host 127.0.0.1, or 0.0.0.0 for all") from None
    listening = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address[4])
        listening.listen(QUEUE)
    except OSError as error:
        listening.close()
        raise EnvironmentProblem(
            f"cannot listen on {host}, port {port}: {error.strerror}", hint="--port 0 takes one that is free"
        ) from None
    return listening


def is_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine can reach the socket."""
    host = str(listening.getsockname()[0])
    return host == "::1" or host.startswith("127.")


def address_of(listening: socket.socket) -> str:
    """Return the address to open in a browser on this machine."""
    host, port = listening.getsockname()[:2]
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def run(app: FastAPI, listening: socket.socket, *, quiet: bool, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what has begun; `started` is called when requests are taken.

    `quiet` leaves out the access log.
    """
    log_to_stderr(quiet)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=20,
        http=BoundedProtocol,
        ws="none",
    )
    server = _Server(config, started)
    patience = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    former = signal.signal(signal.SIGTERM, lambda number, frame: None)  # what uvicorn raises again when it has stopped
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, former)
        sys.setswitchinterval(patience)
        listening.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()


class _Visible(logging.Formatter):
    """Writes each message on one line, and nothing that a terminal obeys: clients and files choose what is in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def log_to_stderr(quiet: bool) -> None:
    """Send the logs of the server to stderr; `quiet` leaves out all but warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Visible("%(asctime)s %(levelname)s %(message)s"))
    for name in ("shitu.serve", "shitu.access", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING if quiet or name == "uvicorn.error" else logging.INFO)
