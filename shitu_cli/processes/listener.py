"""The port at which the first machine of a run listens for the others; anybody who reaches it may connect.

All connections are served at the same time: each has a few seconds and one short line to prove that it knows the secret
of the run. Others are closed, the oldest first when there are too many.
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

MOST_CANDIDATES = 64  # at once
_MOST_NAMED = 20  # that are named
_MOST_PROCESSES = 1024  # of one machine


@dataclass(eq=False)
class _Candidate:
    """A connection that has proven nothing yet."""

    connection: socket.socket
    host: str
    deadline: float
    challenge: Challenge = field(default_factory=Challenge.new)
    line: bytes = b""


class Listener:
    """Listens at `port` inside its context; `refused_hosts` did not know the secret, and each was shown once."""

    def __init__(self, port: int, secret: bytes, show_line: Callable[[str], None]) -> None:
        self.refused_hosts: list[str] = []
        self._secret, self._show_line = secret, show_line
        self._candidates: list[_Candidate] = []
        self._server = socket.create_server(("", port), backlog=MOST_CANDIDATES)
        self._server.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for candidate in list(self._candidates):
            self._close(candidate)
        self._selector.close()
        self._server.close()

    def next_machine(self, deadline: float) -> tuple[Link, dict[str, Any]] | None:
        """Return the link to the next machine that knows the secret, and its hello; None after `deadline`."""
        while (now := time.monotonic()) < deadline:
            ends = [deadline, *(candidate.deadline for candidate in self._candidates)]
            for key, _ in self._selector.select(max(0.0, min(ends) - now)):
                if key.fileobj is self._server:
                    self._accept()
                elif key.data in self._candidates and (arrival := self._read(key.data)) is not None:
                    return arrival
            for candidate in [each for each in self._candidates if each.deadline < time.monotonic()]:
                self._close(candidate)
        return None

    def _accept(self) -> None:
        """Accept a connection and send it a challenge."""
        try:
            connection, address = self._server.accept()
        except OSError:  # it is gone already
            return
        if len(self._candidates) >= MOST_CANDIDATES:
            self._close(self._candidates[0])
        candidate = _Candidate(connection, str(address[0]), time.monotonic() + ANSWER_SECONDS)
        self._candidates.append(candidate)
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, candidate)
        with contextlib.suppress(OSError):  # it is gone, as its next event shows
            keep_alive(connection)
            connection.sendall(candidate.challenge.line())

    def _read(self, candidate: _Candidate) -> tuple[Link, dict[str, Any]] | None:
        """Read what a candidate has sent; return its link if that proves it, close it if it does not."""
        try:
            data = candidate.connection.recv(LONGEST_HELLO)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        candidate.line += data
        line, end, rest = candidate.line.partition(b"\n")
        if not data or len(candidate.line) > LONGEST_HELLO:
            self._close(candidate)
            return None
        if not end:
            return None
        proof = candidate.challenge.check(self._secret, line)
        # A machine says nothing more until it is answered.
        if proof is None or rest or not _is_hello(proof[0]):
            with contextlib.suppress(OSError):
                candidate.connection.sendall(REFUSAL)
            self._note_refused(candidate.host)
            self._close(candidate)
            return None
        self._candidates.remove(candidate)
        self._selector.unregister(candidate.connection)
        link = Link(candidate.connection, proof[1], is_first=True)
        link.connection.settimeout(ANSWER_SECONDS)
        link.write({"kind": "accepted"})
        return link, proof[0]

    def _note_refused(self, host: str) -> None:
        if host not in self.refused_hosts and len(self.refused_hosts) < _MOST_NAMED:
            self.refused_hosts.append(host)
            self._show_line(f"refused a connection from {host}: it does not know the secret of this run")

    def _close(self, candidate: _Candidate) -> None:
        self._candidates.remove(candidate)
        self._selector.unregister(candidate.connection)
        candidate.connection.close()


def _is_hello(hello: dict[str, Any]) -> bool:
    """Return whether a hello has all its values, of the right types."""
    machine, nnodes, processes = (hello.get(name) for name in ("machine", "nnodes", "processes"))
    if not all(type(number) is int for number in (machine, nnodes, processes)):
        return False
    return 0 < machine < nnodes and 0 < processes <= _MOST_PROCESSES and isinstance(hello.get("version"), str)  # type: ignore[operator]
