"""The port at which the first machine of a run waits for the others, open to whoever reaches it.

All connections are served side by side, without waiting for any: each gets a few seconds and one short line to prove
that it knows the secret. Others are closed, the oldest first when there are many.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from shitu_cli.processes.messages import ANSWER_SECONDS, LONGEST_HELLO, REFUSAL, Challenge, Link, keep_alive

MOST_VISITORS = 64  # at once
_MOST_STRANGERS = 20  # that are named
_MOST_PROCESSES = 1024  # of one machine


@dataclass(eq=False)
class _Visitor:
    """A connection that has proven nothing yet."""

    connection: socket.socket
    host: str
    deadline: float
    challenge: Challenge = field(default_factory=Challenge.new)
    line: bytes = b""


class Door:
    """Listens at `port` inside its context; `strangers` are the hosts that were refused, each shown once."""

    def __init__(self, port: int, secret: bytes, show_line: Callable[[str], None]) -> None:
        self.strangers: list[str] = []
        self._secret, self._show_line = secret, show_line
        self._visitors: list[_Visitor] = []
        self._server = socket.create_server(("", port), backlog=MOST_VISITORS)
        self._server.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for visitor in list(self._visitors):
            self._close(visitor)
        self._selector.close()
        self._server.close()

    def next_guest(self, deadline: float) -> tuple[Link, dict[str, Any]] | None:
        """Return the link to the next machine that knows the secret, and its hello; None after `deadline`."""
        while (now := time.monotonic()) < deadline:
            ends = [deadline, *(visitor.deadline for visitor in self._visitors)]
            for key, _ in self._selector.select(max(0.0, min(ends) - now)):
                if key.fileobj is self._server:
                    self._let_in()
                elif key.data in self._visitors and (guest := self._hear(key.data)) is not None:
                    return guest
            for visitor in [each for each in self._visitors if each.deadline < time.monotonic()]:
                self._close(visitor)
        return None

    def _let_in(self) -> None:
        """Accept a connection and send it a challenge."""
        try:
            connection, address = self._server.accept()
        except OSError:  # it is gone already
            return
        if len(self._visitors) >= MOST_VISITORS:
            self._close(self._visitors[0])
        visitor = _Visitor(connection, str(address[0]), time.monotonic() + ANSWER_SECONDS)
        self._visitors.append(visitor)
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, visitor)
        with contextlib.suppress(OSError):  # it is gone, as its next event shows
            keep_alive(connection)
            connection.sendall(visitor.challenge.line())

    def _hear(self, visitor: _Visitor) -> tuple[Link, dict[str, Any]] | None:
        """Read what a visitor has sent; return its link if it has proven itself, close it if it never will."""
        try:
            data = visitor.connection.recv(LONGEST_HELLO)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        visitor.line += data
        line, end, rest = visitor.line.partition(b"\n")
        if not data or len(visitor.line) > LONGEST_HELLO:
            self._close(visitor)
            return None
        if not end:
            return None
        proof = visitor.challenge.check(self._secret, line)
        # A machine says nothing more until it is answered.
        if proof is None or rest or not _is_hello(proof[0]):
            with contextlib.suppress(OSError):
                visitor.connection.sendall(REFUSAL)
            self._name_stranger(visitor.host)
            self._close(visitor)
            return None
        self._visitors.remove(visitor)
        self._selector.unregister(visitor.connection)
        link = Link(visitor.connection, proof[1], is_first=True)
        link.connection.settimeout(ANSWER_SECONDS)
        link.write({"kind": "accepted"})
        return link, proof[0]

    def _name_stranger(self, host: str) -> None:
        if host not in self.strangers and len(self.strangers) < _MOST_STRANGERS:
            self.strangers.append(host)
            self._show_line(f"refused a connection from {host}: it does not know the secret of this run")

    def _close(self, visitor: _Visitor) -> None:
        self._visitors.remove(visitor)
        self._selector.unregister(visitor.connection)
        visitor.connection.close()


def _is_hello(hello: dict[str, Any]) -> bool:
    """Return whether a hello has all its values, of the right types."""
    machine, nnodes, processes = (hello.get(name) for name in ("machine", "nnodes", "processes"))
    if not all(type(number) is int for number in (machine, nnodes, processes)):
        return False
    return 0 < machine < nnodes and 0 < processes <= _MOST_PROCESSES and isinstance(hello.get("version"), str)  # type: ignore[operator]
