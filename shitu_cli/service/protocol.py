"""HTTP on one connection, with bounds that uvicorn does not set: on the size of a request's head and on its time.

The head is what comes before the body: address and headers. Without bounds, one client that sends a head without end
fills the memory, and a thousand that send nothing take all connections.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 1 << 20  # what is read at once may hold a part of the body too
HEAD_SECONDS = 20.0


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too large or too slow."""

    _is_head = True
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._is_head, self._head_bytes = False, 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_head = True

    def _expect_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self) -> None:
        """Answer in one line and let go of the connection; what else arrives is not read."""
        if not self.transport.is_closing():
            self.send_400_response("The head of the request is too large or too slow.")
