"""Signed messages between the machines of a run, and the handshake in which both sides prove that they know its secret.

    first machine → other:  {"shitu": 1, "nonce": N0}
    other → first machine:  {"nonce": N1, "hello": TEXT, "proof": HMAC(secret, "machine", N0, N1, TEXT)}
    from then on, both:     HMAC(key, direction, count, TEXT) TEXT    with key = HMAC(secret, "session", N0, N1)

Every message is a line, TEXT is JSON. A message that was recorded, repeated, reordered or changed does not fit, and a
session's messages fit no other. Nothing is encrypted. Whoever does not know the secret gets nothing parsed but one
short line.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any

from shitu_cli.errors import ShituError
from shitu_cli.inputs import parse_json

ANSWER_SECONDS = 10.0
REFUSAL = b'{"refused": "another secret"}\n'
LONGEST_HELLO = 4096  # bytes of a line of the handshake
_LONGEST = 65536  # bytes of a message


@dataclass(frozen=True)
class Challenge:
    """What the first machine sends to a connection that it knows nothing of yet."""

    nonce: str

    @classmethod
    def new(cls) -> Challenge:
        return cls(secrets.token_hex(32))

    def line(self) -> bytes:
        return json.dumps({"shitu": 1, "nonce": self.nonce}).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Challenge | None:
        """Return the challenge in a line; None if it is none of ours."""
        value = _object(line)
        nonce = value.get("nonce")
        return cls(nonce) if value.get("shitu") == 1 and isinstance(nonce, str) else None

    def answer(self, secret: bytes, hello: dict[str, Any]) -> tuple[bytes, bytes]:
        """Return the line to send and the key of the session."""
        nonce, text = secrets.token_hex(32), json.dumps(hello)
        proof = _mac(secret, "machine", self.nonce, nonce, text)
        line = json.dumps({"nonce": nonce, "hello": text, "proof": proof}).encode() + b"\n"
        return line, self._key(secret, nonce)

    def check(self, secret: bytes, line: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return the hello in an answer and the key of the session; None if its sender does not know the secret."""
        value = _object(line)
        nonce, text, proof = (value.get(name) for name in ("nonce", "hello", "proof"))
        if not (isinstance(nonce, str) and isinstance(text, str) and isinstance(proof, str)):
            return None
        expected = _mac(secret, "machine", self.nonce, nonce, text)
        if not hmac.compare_digest(expected.encode(), proof.encode("utf-8", "replace")):
            return None
        return _object(text.encode()), self._key(secret, nonce)

    def _key(self, secret: bytes, nonce: str) -> bytes:
        return _mac(secret, "session", self.nonce, nonce).encode()


class Link:
    """A connection on which both sides have proven themselves; it carries signed lines of JSON."""

    def __init__(self, connection: socket.socket, key: bytes, *, is_first: bool) -> None:
        self.connection = connection
        self.closed = self.is_done = False
        self._key, self._rest = key, b""
        self._directions = ("down", "up") if is_first else ("up", "down")
        self._written = self._received = 0

    def write(self, message: dict[str, Any]) -> None:
        """Send a message, unless the connection is lost."""
        text = json.dumps(message)
        signature = _mac(self._key, self._directions[0], str(self._written), text)
        self._written += 1
        try:
            self.connection.sendall(f"{signature} {text}\n".encode())
        except OSError:
            self.closed = True

    def read(self, seconds: float = 0.0) -> list[dict[str, Any]]:
        """Return the messages received so far; wait up to `seconds` for the first.

        A message that is not signed by the other side closes the connection.
        """
        if self.closed:
            return []
        self.connection.settimeout(seconds)
        try:
            while not self.closed and b"\n" not in self._rest:
                data = self.connection.recv(4096)
                self._rest += data
                self.closed = not data or len(self._rest) > _LONGEST
        except (BlockingIOError, TimeoutError):
            pass  # nothing more for now
        except OSError:
            self.closed = True
        finally:
            self.connection.settimeout(ANSWER_SECONDS)
        *lines, self._rest = self._rest.split(b"\n")
        messages = []
        for line in lines:
            message = self._verified(line)
            if message is None:
                self.closed = True
                break
            messages.append(message)
        return messages

    def _verified(self, line: bytes) -> dict[str, Any] | None:
        signature, _, text = line.decode("utf-8", "replace").partition(" ")
        expected = _mac(self._key, self._directions[1], str(self._received), text)
        self._received += 1
        is_ours = hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
        return _object(text.encode()) if is_ours else None


def keep_alive(connection: socket.socket) -> None:
    """Make a machine that loses power, and closes nothing, count as closed after about 20 s of silence."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def read_line(connection: socket.socket, seconds: float) -> bytes | None:
    """Return the first line that comes; b"" when the connection closes, None when none comes or it is too long."""
    line, deadline = b"", time.monotonic() + seconds
    try:
        while not line.endswith(b"\n"):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            data = connection.recv(1)  # what follows the line belongs to the link
            if not data:
                return b""
            line += data
            if len(line) > LONGEST_HELLO:
                return None
    except TimeoutError:
        return None
    except OSError:
        return b""
    return line


def _mac(key: bytes, *parts: str) -> str:
    """Return the hexadecimal HMAC-SHA256 of several texts; as JSON, they cannot be cut at other places."""
    return hmac.new(key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def _object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`, empty if there is none."""
    try:
        value = parse_json(data, "a message")
    except ShituError:
        return {}
    return value if isinstance(value, dict) else {}
