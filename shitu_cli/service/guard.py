"""The checks that every request passes: its API key, its size; and what is logged and counted.

Plain ASGI around the application, so that a body is measured while it arrives and no error leaves as a trace.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from shitu_cli.service.metrics import Metrics
from shitu_cli.service.refusals import FORBIDDEN, TIMEOUT, TOO_LARGE, UNAUTHORISED, UNAVAILABLE, Refusal, unexpected
from shitu_cli.service.settings import LOOPBACK_NAMES, Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/health", "/ready")  # without a key: the page asks for it, probes carry none
SILENCE = 20.0  # seconds in which a client must send something
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")  # counted by name
CLIENT_GONE = 499  # only in the log: the client has disconnected
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
log = logging.getLogger("shitu.serve")
access = logging.getLogger("shitu.access")


class Guard:
    """The outermost layer of the application."""

    def __init__(
        self, app: App, settings: Settings, metrics: Metrics, body_of: Callable[[str, Refusal], dict[str, Any]]
    ) -> None:
        """Guard `app`; `body_of` returns the JSON of a refusal at an address."""
        self.app, self.settings, self.metrics, self.body_of = app, settings, metrics, body_of
        self._held = 0  # bytes of all bodies that are in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        try:
            await exchange.run()
        finally:
            self._held -= exchange.size
            exchange.log()

    def hold(self, size: int) -> None:
        """Count bytes of a body; Refusal if all bodies together become too large."""
        if self._held + size > self.settings.limits.memory:
            self.metrics.refused("memory")
            raise Refusal(UNAVAILABLE, "too much is being sent at the same time", retry_after=2)
        self._held += size


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.method = guard, str(scope["method"])
        # HEAD is answered as GET is, without the body, which is left out below.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self._receive, self._send = receive, send
        self.size, self.status = 0, 0
        self._begun = time.monotonic()
        self._headers = {name.lower(): value for name, value in scope["headers"]}

    async def run(self) -> None:
        """Answer the request, whatever happens."""
        try:
            self._check_client()
            self._check_length()
            await self.guard.app(self.scope, self.receive, self.send)
        except Refusal as refusal:
            await self._refuse(refusal)
        except ClientDisconnect:
            self.status = CLIENT_GONE
        except Exception:
            log.exception("unexpected error in %s %s", self.method, self.scope["path"])
            await self._refuse(unexpected())

    async def receive(self) -> Message:
        """Pass on a piece of the body, counted."""
        try:
            message = await asyncio.wait_for(self._receive(), None if self.status else SILENCE)
        except asyncio.TimeoutError:
            raise Refusal(TIMEOUT, f"nothing came for {SILENCE:.0f} seconds") from None
        size = len(message.get("body", b""))
        if size:
            self.guard.hold(size)
            self.size += size
            if self.size > self.guard.settings.limits.body:
                raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Pass on a piece of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in present)]
        elif self.method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)

    def _check_client(self) -> None:
        """Refuse clients without the key; if none is needed, refuse scripts of other sites in a browser here."""
        key = self.guard.settings.key
        if key:
            if self.scope["path"] not in OPEN and not hmac.compare_digest(self._given_key(), key.encode()):
                self.guard.metrics.refused("key")
                raise Refusal(UNAUTHORISED, "this server requires its API key", hint="Authorization: Bearer KEY")
            return
        host = self._header(b"host")
        name = _name_of(host)
        if name not in LOOPBACK_NAMES:
            raise Refusal(
                FORBIDDEN,
                f"without an API key, only requests to localhost on this machine are answered, not to {name[:80]}",
                hint="start the server with a key",
            )
        origin = self._header(b"origin")
        if origin and urlsplit(origin).netloc != host:
            raise Refusal(FORBIDDEN, "without an API key, requests from the pages of other sites are refused")

    def _given_key(self) -> bytes:
        scheme, _, key = self._headers.get(b"authorization", b"").partition(b" ")
        return key.strip() if scheme.lower() == b"bearer" else self._headers.get(b"x-api-key", b"")

    def _check_length(self) -> None:
        length = self._header(b"content-length")
        if length.isdecimal() and int(length[:20]) > self.guard.settings.limits.body:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        self.guard.metrics.refused("body")
        return Refusal(TOO_LARGE, f"the request is larger than {self.guard.settings.limits.body:,} bytes")

    def _header(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1")

    async def _refuse(self, refusal: Refusal) -> None:
        if self.status:  # the answer has begun: all that is left is to break off
            return
        body = json.dumps(self.guard.body_of(self.scope["path"], refusal), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})

    def log(self) -> None:
        """Write the line of the access log, and count."""
        seconds = time.monotonic() - self._begun
        route = getattr(self.scope.get("route"), "path", "other")
        method = self.method if self.method in METHODS else "other"
        self.guard.metrics.answered(method, route, self.status, seconds)
        client = (self.scope.get("client") or ("-",))[0]
        access.info("%s %s %s %s %.1f ms", client, self.method, self.scope["path"], self.status, 1000 * seconds)


def _name_of(host: str) -> str:
    """Return the name in a Host header without its port; "" for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
