"""A file server on the loopback that can cut, delay, refuse and change what it serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does; `requests` keeps (path, Range header) of each request."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # bytes after which one answer each breaks off
    stall_after: list[int] = field(default_factory=list)  # bytes after which one answer each says nothing more
    failures: int = 0  # answers of 503 before it works
    delay: float = 0.0  # seconds per answer
    ranges: bool = True
    tag: str = '"1"'
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """The server's address while the context lasts."""

    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            behaviour.requests.append((self.path, self.headers.get("Range")))
            behaviour.headers.append(dict(self.headers))
            time.sleep(behaviour.delay)
            data = behaviour.files.get(self.path.partition("?")[0])
            if behaviour.failures:
                behaviour.failures -= 1
                return self._short(503)
            if data is None:
                return self._short(404)
            start = 0
            wanted = self.headers.get("Range")
            if wanted and behaviour.ranges and self.headers.get("If-Range", behaviour.tag) == behaviour.tag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    return self._short(416)
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", behaviour.tag)
            self.end_headers()
            rest = data[start:]
            if behaviour.stall_after:
                self.wfile.write(rest[: behaviour.stall_after.pop(0)])
                self.wfile.flush()
                ended.wait(60)
                self.close_connection = True
                return
            if behaviour.cut_after:
                self.wfile.write(rest[: behaviour.cut_after.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(rest)

        def _short(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
