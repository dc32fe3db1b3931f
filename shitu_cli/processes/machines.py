"""Connect several machines for one run: they find each other, agree on their ranks, and report failures.

The first machine listens at `--master`; the others connect, send the options they were started with and receive their
rank. The connections stay open for the whole run: a machine that fails reports it over them, and one that vanishes
closes them. Paddle's own processes meet one port higher. Messages are lines of JSON; Paddle is not loaded here.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import shitu_cli
from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.inputs import whole_number

WAIT = "SHITU_MACHINES_SECONDS"  # how long machines wait for each other, for those that start slowly
DEFAULT_WAIT = 120.0
_ANSWER_SECONDS = 10.0
_LONGEST = 65536  # bytes of a message


@dataclass
class Machines:
    """The machines of a run as seen from one of them; one machine alone has no `links`.

    `first` is the rank of its first process, `world` counts the processes of all machines, `address` is where
    Paddle's processes connect, `own_host` is the address of this machine.
    """

    first: int
    world: int
    address: str
    own_host: str
    links: dict[int, _Link] = field(default_factory=dict)

    def failure(self) -> tuple[int, str, int] | None:
        """Return (machine, what happened, exit code) if another machine has failed or vanished, else None."""
        for machine, link in self.links.items():
            for message in link.read():
                if message.get("kind") == "failed":
                    return int(message["machine"]), str(message["text"]), int(message["code"])
                link.is_done = link.is_done or message.get("kind") == "done"
            if link.closed and not link.is_done:
                return machine, "has left (its command was killed, or the network is down)", 6
        return None

    def send(self, kind: str, **values: Any) -> None:
        """Send a message to all other machines that are still connected."""
        for link in self.links.values():
            link.write({"kind": kind, **values})

    def leave(self) -> None:
        for link in self.links.values():
            link.connection.close()


class _Link:
    """A connection that carries lines of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.closed = self.is_done = False
        self._rest = b""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A machine that loses power closes nothing: after about 20 s of silence its connection counts as closed.
        for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def write(self, message: dict[str, Any]) -> None:
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.closed = True

    def read(self, seconds: float = 0.0) -> list[dict[str, Any]]:
        """Return the messages received so far; wait up to `seconds` for the first."""
        self.connection.settimeout(seconds)
        try:
            while not self.closed and b"\n" not in self._rest and len(self._rest) < _LONGEST:
                data = self.connection.recv(4096)
                self.closed = not data
                self._rest += data
        except (BlockingIOError, TimeoutError):
            pass  # nothing more for now
        except OSError:
            self.closed = True
        finally:
            self.connection.settimeout(_ANSWER_SECONDS)
        *lines, self._rest = self._rest.split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            messages = [None]
        if not all(isinstance(message, dict) for message in messages):
            self.closed = True  # not a machine of this run
            return []
        return messages


def alone(processes: int) -> Machines:
    """Return a run on this machine only, whose processes connect at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Machines(0, processes, f"127.0.0.1:{port}", "127.0.0.1")


def meet(processes: int, *, nnodes: int, node_rank: int, master: str | None) -> Machines:
    """Wait until all machines of the run are connected; this one runs `processes` processes.

    Raises UsageError if they were started with different options, EnvironmentProblem if some do not connect in time.
    """
    host, port = _split(master)
    hello = {"version": shitu_cli.__version__, "nnodes": nnodes, "machine": node_rank, "processes": processes}
    deadline = time.monotonic() + float(os.environ.get(WAIT, DEFAULT_WAIT))
    if node_rank == 0:
        return _receive(host, port, hello, deadline)
    return _join(host, port, hello, deadline)


def _split(master: str | None) -> tuple[str, int]:
    host, _, port = (master or "").rpartition(":")
    number = whole_number(port)
    if not host or number is None or not 0 < number < 65535:
        got = f"got {master}, expected" if master else "missing:"
        raise UsageError(f"--master: {got} host:port of the first machine, the same on every machine")
    return host.strip("[]"), number


def _receive(host: str, port: int, hello: dict[str, Any], deadline: float) -> Machines:
    """Wait, on the first machine, for the others, then send each its first rank."""
    links: dict[int, _Link] = {}
    hellos = {0: hello}
    try:
        with socket.create_server(("", port)) as server:
            while len(hellos) < hello["nnodes"]:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                link = _Link(server.accept()[0])
                messages = link.read(_ANSWER_SECONDS)
                if not messages:
                    link.connection.close()  # a port scanner, or a machine that was stopped again
                    continue
                problem = _misfit(hello, messages[0], hellos)
                if problem:
                    for each in (link, *links.values()):
                        each.write({"kind": "refused", "text": problem})
                    raise UsageError(problem)
                number = messages[0]["machine"]
                hellos[number], links[number] = messages[0], link
    except TimeoutError:
        missing = sorted(set(range(hello["nnodes"])) - set(hellos))
        raise EnvironmentProblem(
            f"machine {', '.join(map(str, missing))} of {hello['nnodes']} did not connect to {host}:{port} in time",
            hint=f"start the same command there with --node-rank, and open ports {port} and {port + 1}",
        ) from None
    except OSError as error:
        raise EnvironmentProblem(f"--master: cannot listen at port {port}: {error.strerror}") from None
    first, world = 0, sum(each["processes"] for each in hellos.values())
    places = {}
    for machine in range(hello["nnodes"]):
        places[machine], first = first, first + hellos[machine]["processes"]
    for machine, link in links.items():
        link.write({"kind": "welcome", "first": places[machine], "world": world})
    address = next(iter(links.values())).connection.getsockname()[0]
    return Machines(0, world, f"{host}:{port + 1}", address, links)


def _misfit(first: dict[str, Any], hello: dict[str, Any], others: dict[int, dict[str, Any]]) -> str:
    """Return what is wrong with the hello of another machine, "" if it fits the `first` and the `others`."""
    machine = hello.get("machine")
    for key, name in (("version", "shitu "), ("nnodes", "--nnodes ")):
        if hello.get(key) != first[key]:
            return f"machine {machine} runs with {name}{hello.get(key)}, machine 0 with {name}{first[key]}"
    if machine in others:
        return f"two machines were started with --node-rank {machine}"
    if not isinstance(machine, int) or not 0 < machine < first["nnodes"] or not isinstance(hello.get("processes"), int):
        return f"something that is not a machine of this run connected to --master: {hello}"
    return ""


def _join(host: str, port: int, hello: dict[str, Any], deadline: float) -> Machines:
    """Connect, on the other machines, to the first one and receive the rank that it assigns."""
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic()))
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"--master: no machine answers at {host}:{port} ({error.strerror or error})",
                    hint="is the command running there with --node-rank 0, and is the port open?",
                ) from None
            time.sleep(0.3)
    link = _Link(connection)
    link.write(hello)
    messages: list[dict[str, Any]] = []
    while not messages and not link.closed and time.monotonic() < deadline:
        messages = link.read(max(0.01, deadline - time.monotonic()))
    if messages and messages[0].get("kind") == "refused":
        raise UsageError(str(messages[0]["text"]))
    if not messages or messages[0].get("kind") != "welcome":
        raise EnvironmentProblem(
            f"--master: {host}:{port} did not start the run in time",
            hint="it is still waiting for other machines, or it is another program: look at its output",
        )
    address = connection.getsockname()[0]
    return Machines(int(messages[0]["first"]), int(messages[0]["world"]), f"{host}:{port + 1}", address, {0: link})


def interface_of(address: str) -> str | None:
    """Return the network interface with this IPv4 address (Linux only), None if there is none."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    get_address = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), get_address, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # it has no IPv4 address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
