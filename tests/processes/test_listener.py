"""Machines meet only those that know their secret, whatever else reaches the port."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.processes import listener
from shitu_cli.processes.machines import WAIT, Machines, meet
from shitu_cli.processes.messages import LONGEST_HELLO, REFUSAL, Challenge, Link, read_line
from tests.processes.test_machines import free_port

SECRET, OTHER = b"a secret of the machines", b"a secret of other machines"
HELLO = {"version": "1", "nnodes": 2, "machine": 1, "processes": 1}


class Meeting:
    """The first machine of three waits in a thread; the others can be sent."""

    def __init__(self, nnodes: int = 3) -> None:
        self.port, self.nnodes, self.lines = free_port(), nnodes, list[str]()
        self._pool = ThreadPoolExecutor(nnodes)
        self.first = self.send(0)
        while not self._listens():
            time.sleep(0.01)

    def send(self, machine: int, secret: bytes = SECRET, processes: int = 1) -> Future[Machines]:
        return self._pool.submit(
            meet,
            processes,
            nnodes=self.nnodes,
            node_rank=machine,
            master=f"127.0.0.1:{self.port}",
            secret=secret,
            show_line=self.lines.append,
        )

    def visit(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        connection.sendall(data)
        return connection

    def complete(self) -> list[Machines]:
        """Send the others, and check that all three meet and hear each other."""
        machines = [self.first, *(self.send(number, processes=2) for number in range(1, self.nnodes))]
        together = [each.result(timeout=20) for each in machines]
        assert [each.first for each in together] == [0, 1, 3][: self.nnodes]
        assert {each.world for each in together} == {2 * self.nnodes - 1}
        together[1].send("failed", machine=1, text="it burns", code=3)
        deadline = time.monotonic() + 5
        while (failure := together[0].failure()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert failure == (1, "it burns", 3)
        return together

    def close(self) -> None:
        for each in (self.first,):
            if each.done() and each.exception() is None:
                each.result().leave()
        self._pool.shutdown()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            self.visit().close()
            return True
        return False


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meeting]:
    monkeypatch.setenv(WAIT, "20")
    waiting = Meeting()
    yield waiting
    waiting.close()


def garbage() -> list[bytes]:
    numbers = random.Random(7)
    proof = json.dumps({"nonce": "0", "hello": json.dumps(HELLO), "proof": "0" * 64}).encode() + b"\n"
    return [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        struct.pack(">Q", 2**63),
        b"\n" * 100,
        b"[" * 4000 + b"\n",
        b'{"nonce": ' + b"9" * 3000 + b"}\n",
        b"x" * (LONGEST_HELLO * 4),
        *(numbers.randbytes(numbers.randrange(1, 3000)) for _ in range(20)),
        proof,
        proof * 3,
    ]


def test_machines_meet_past_garbage_at_the_port(meeting: Meeting) -> None:
    silent = [meeting.visit() for _ in range(3)]
    slow = meeting.visit(b'{"nonce"')
    for data in garbage():
        with contextlib.suppress(OSError):
            meeting.visit(data).close()
    reset = meeting.visit(b"x")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    meeting.complete()
    for connection in (*silent, slow):
        connection.close()
    assert any("refused a connection from 127.0.0.1" in line for line in meeting.lines)
    assert sum("refused" in line for line in meeting.lines) == 1  # each host once


def test_machines_meet_past_more_open_connections_than_are_kept(meeting: Meeting) -> None:
    strangers = [meeting.visit() for _ in range(listener.MOST_CANDIDATES + 20)]
    meeting.complete()
    for connection in strangers:
        connection.close()


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "ANSWER_SECONDS", 0.3)
    monkeypatch.setenv(WAIT, "20")
    waiting = Meeting(nnodes=2)
    stranger = waiting.visit(b'{"slow')
    assert read_line(stranger, 5) not in (None, b"")
    assert stranger.recv(1) == b""
    waiting.complete()
    waiting.close()


def test_a_stranger_is_refused_and_the_run_goes_on(meeting: Meeting) -> None:
    with pytest.raises(UsageError, match="the machines of the run have different secrets"):
        meeting.send(1, secret=OTHER).result(timeout=10)
    meeting.complete()


def test_a_machine_that_left_while_others_were_awaited_may_come_again(meeting: Meeting) -> None:
    connection = meeting.visit()
    challenge = Challenge.parse(read_line(connection, 5) or b"")
    assert challenge is not None
    import shitu_cli

    answer, key = challenge.answer(SECRET, {**HELLO, "nnodes": 3, "version": shitu_cli.__version__})
    connection.sendall(answer)
    link = Link(connection, key, is_first=False)
    assert link.read(5) == [{"kind": "accepted"}]
    connection.close()
    meeting.complete()


def test_who_waited_for_strangers_only_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "1")
    waiting = Meeting(nnodes=2)
    with pytest.raises(UsageError, match="different secrets"):
        waiting.send(1, secret=OTHER).result(timeout=10)
    with pytest.raises(EnvironmentProblem, match="machine 1 of 2 did not connect") as caught:
        waiting.first.result(timeout=10)
    assert caught.value.details == ["refused, because it does not know the secret of the run: 127.0.0.1"]
    waiting.close()


def test_another_program_at_the_port_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "5")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(EnvironmentProblem, match="what answers there is not a machine of this run"):
            meet(1, nnodes=2, node_rank=1, master=f"127.0.0.1:{server.getsockname()[1]}", secret=SECRET)
        thread.join()


def test_a_first_machine_that_does_not_know_the_secret_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ask, but its welcome is not signed."""
    monkeypatch.setenv(WAIT, "1")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pose() -> None:
            connection, _ = server.accept()
            connection.sendall(Challenge.new().line())
            connection.recv(LONGEST_HELLO)
            connection.sendall(b"0" * 64 + b' {"kind": "welcome", "first": 1, "world": 2}\n')
            with contextlib.suppress(OSError):
                connection.recv(1)
            connection.close()

        thread = threading.Thread(target=pose)
        thread.start()
        with pytest.raises(EnvironmentProblem):
            meet(1, nnodes=2, node_rank=1, master=f"127.0.0.1:{server.getsockname()[1]}", secret=SECRET)
        thread.join()


def links(key: bytes = b"k" * 32) -> tuple[Link, Link]:
    first, other = socket.socketpair()
    return Link(first, key, is_first=True), Link(other, key, is_first=False)


def test_messages_arrive_in_both_directions() -> None:
    first, other = links()
    for number in range(3):
        first.write({"kind": "down", "n": number})
        other.write({"kind": "up", "n": number})
    assert other.read(1) == [{"kind": "down", "n": n} for n in range(3)]
    assert first.read(1) == [{"kind": "up", "n": n} for n in range(3)]
    assert not first.closed and not other.closed


@pytest.mark.parametrize("change", ["repeat", "reorder", "reflect", "alter", "other session", "endless"])
def test_messages_that_a_third_has_touched_close_the_connection(change: str) -> None:
    recorder, end = socket.socketpair()
    writer = Link(recorder, b"k" * 32, is_first=True)
    writer.write({"n": 0})
    writer.write({"n": 1})
    lines = end.recv(65536).splitlines(keepends=True)
    touched = {
        "repeat": [lines[0], lines[0]],
        "reorder": lines[::-1],
        "reflect": lines,
        "alter": [lines[0].replace(b'"n": 0', b'"n": 7')],
        "other session": lines,
        "endless": [b"x" * 70000],
    }[change]
    line, victim_end = socket.socketpair()
    key = b"other" if change == "other session" else b"k" * 32
    victim = Link(victim_end, key, is_first=change == "reflect")
    sender = threading.Thread(target=lambda: line.sendall(b"".join(touched)))
    sender.start()
    messages = victim.read(1)
    victim.connection.close()
    sender.join()
    assert victim.closed and messages == ([{"n": 0}] if change == "repeat" else [])
    for connection in (recorder, end, line):
        connection.close()


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_line_is_refused_without_an_error(line: bytes) -> None:
    assert Challenge.new().check(SECRET, line) is None
    assert Challenge.parse(line) is None


@given(st.data())
def test_an_answer_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    challenge = Challenge("5" * 64)
    line, key = challenge.answer(SECRET, HELLO)
    assert challenge.check(SECRET, line) == (HELLO, key)
    assert challenge.check(OTHER, line) is None and Challenge("6" * 64).check(SECRET, line) is None
    place = data.draw(st.integers(0, len(line) - 2))
    changed = line[:place] + bytes([data.draw(st.integers(0, 255))]) + line[place + 1 :]
    answer = challenge.check(SECRET, changed)
    assert answer is None or answer[0] == HELLO


def test_the_refusal_is_one_line() -> None:
    assert REFUSAL.endswith(b"\n") and json.loads(REFUSAL)


def test_nothing_is_listening_after_the_meeting(meeting: Meeting) -> None:
    meeting.complete()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", meeting.port), timeout=2)


def test_the_secret_is_not_in_any_message(meeting: Meeting, tmp_path: Path) -> None:
    connection = meeting.visit()
    challenge = Challenge.parse(read_line(connection, 5) or b"")
    assert challenge is not None
    line, key = challenge.answer(SECRET, HELLO)
    connection.close()
    assert SECRET not in line and SECRET not in challenge.line() and SECRET not in key
    meeting.complete()
