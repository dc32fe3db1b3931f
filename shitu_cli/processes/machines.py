"""Connect several machines for one run: they find each other, agree on their ranks, and report failures.

The first machine listens at `--master` until all are there; the others connect, prove that they know the secret of the
run (processes/messages.py), send the options they were started with and receive their rank. The connections stay open
for the whole run: a machine that fails reports it over them, and one that vanishes closes them. Paddle's own processes
meet one port higher. Paddle is not loaded here.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import shitu_cli
from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.processes.listener import Listener
from shitu_cli.processes.messages import ANSWER_SECONDS, REFUSAL, Challenge, Link, keep_alive, read_line

WAIT = "SHITU_MACHINES_SECONDS"  # how long machines wait for each other, for those that start slowly
DEFAULT_WAIT = 120.0
_PAUSE = 0.3  # seconds before a refused connection is tried again


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
    links: dict[int, Link] = field(default_factory=dict)

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


def alone(processes: int) -> Machines:
    """Return a run on this machine only, whose processes connect at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Machines(0, processes, f"127.0.0.1:{port}", "127.0.0.1")


def patience() -> float:
    """Return for how many seconds machines wait for each other. Raises UsageError if the variable is not a number."""
    text = os.environ.get(WAIT, "")
    try:
        seconds = float(text or DEFAULT_WAIT)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"{WAIT}: got {text!r}, expected seconds", hint=f"{WAIT}=600")
    return seconds


def split_address(master: str | None) -> tuple[str, int]:
    """Return host and port of `--master`. Raises UsageError for anything else."""
    host, _, port = (master or "").rpartition(":")
    number = whole_number(port)
    if not host or number is None or not 0 < number < 65535:
        got = f"got {master}, expected" if master else "missing:"
        raise UsageError(f"--master: {got} host:port of the first machine, the same on every machine")
    return host.strip("[]"), number


def meet(
    processes: int,
    *,
    nnodes: int,
    node_rank: int,
    master: str | None,
    secret: bytes,
    show_line: Callable[[str], None] = lambda text: None,
) -> Machines:
    """Wait until all machines of the run are connected; this one runs `processes` processes.

    `show_line` shows a line to the user. Raises UsageError if they were started with different options or secrets,
    EnvironmentProblem if some do not connect in time.
    """
    host, port = split_address(master)
    hello = {"version": shitu_cli.__version__, "nnodes": nnodes, "machine": node_rank, "processes": processes}
    deadline = time.monotonic() + patience()
    if node_rank == 0:
        return _receive(host, port, hello, secret, deadline, show_line)
    return _join(host, port, hello, secret, deadline)


def _receive(
    host: str, port: int, hello: dict[str, Any], secret: bytes, deadline: float, show_line: Callable[[str], None]
) -> Machines:
    """Wait, on the first machine, for the others, then send each its first rank."""
    links: dict[int, Link] = {}
    hellos = {0: hello}
    try:
        with Listener(port, secret, show_line) as listener:
            while len(hellos) < hello["nnodes"]:
                arrival = listener.next_machine(deadline)
                if arrival is None:
                    raise _incomplete(host, port, hello["nnodes"], hellos, listener.refused_hosts)
                link, other = arrival
                _forget_those_that_left(links, hellos)
                problem = _misfit(hello, other, hellos)
                if problem:
                    for each in (link, *links.values()):
                        each.write({"kind": "refused", "text": problem})
                    raise UsageError(problem)
                hellos[other["machine"]], links[other["machine"]] = other, link
    except OSError as error:
        raise EnvironmentProblem(
            f"--master: cannot listen at port {port}: {error.strerror}",
            hint="another program may use this port: choose another one on all machines",
        ) from None
    first, world = 0, sum(each["processes"] for each in hellos.values())
    places = {}
    for machine in range(hello["nnodes"]):
        places[machine], first = first, first + hellos[machine]["processes"]
    for machine, link in links.items():
        link.write({"kind": "welcome", "first": places[machine], "world": world})
    address = next(iter(links.values())).connection.getsockname()[0]
    return Machines(0, world, f"{host}:{port + 1}", address, links)


def _incomplete(
    host: str, port: int, nnodes: int, hellos: dict[int, dict[str, Any]], refused_hosts: list[str]
) -> EnvironmentProblem:
    missing = sorted(set(range(nnodes)) - set(hellos))
    refused = [f"refused, because it does not know the secret of the run: {each}" for each in refused_hosts]
    return EnvironmentProblem(
        f"machine {', '.join(map(str, missing))} of {nnodes} did not connect to {host}:{port} in time",
        details=refused,
        hint=f"start the same command there with --node-rank, and open ports {port} and {port + 1}",
    )


def _forget_those_that_left(links: dict[int, Link], hellos: dict[int, dict[str, Any]]) -> None:
    """Give up the places of machines that were stopped again while the first waited for others."""
    for machine, link in list(links.items()):
        link.read()
        if link.closed:
            del links[machine], hellos[machine]


def _misfit(first: dict[str, Any], hello: dict[str, Any], others: dict[int, dict[str, Any]]) -> str:
    """Return what is wrong with the hello of another machine, "" if it fits the `first` and the `others`."""
    machine = hello.get("machine")
    for key, name in (("version", "shitu "), ("nnodes", "--nnodes ")):
        if hello.get(key) != first[key]:
            return f"machine {machine} runs with {name}{hello.get(key)}, machine 0 with {name}{first[key]}"
    if machine in others:
        return f"two machines were started with --node-rank {machine}"
    return ""


def _join(host: str, port: int, hello: dict[str, Any], secret: bytes, deadline: float) -> Machines:
    """Connect, on the other machines, to the first one and receive the rank that it assigns."""
    opening = None
    while opening is None:
        opening = _introduce(_connect(host, port, deadline), secret, hello, f"{host}:{port}", deadline)
    link, messages = opening
    while not messages and not link.closed and time.monotonic() < deadline:
        messages = link.read(max(0.01, deadline - time.monotonic()))
    if messages and messages[0].get("kind") == "refused":
        raise UsageError(str(messages[0]["text"]))
    if not messages or messages[0].get("kind") != "welcome":
        raise EnvironmentProblem(
            f"--master: {host}:{port} did not start the run in time",
            hint="the command on that machine still waits for other machines, or was stopped: look at its output",
        )
    address = link.connection.getsockname()[0]
    return Machines(int(messages[0]["first"]), int(messages[0]["world"]), f"{host}:{port + 1}", address, {0: link})


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic()))
        except OSError as error:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"--master: no machine answers at {host}:{port} ({error.strerror or error})",
                    hint="is the command running there with --node-rank 0, and is the port open?",
                ) from None
            time.sleep(_PAUSE)


def _introduce(
    connection: socket.socket, secret: bytes, hello: dict[str, Any], address: str, deadline: float
) -> tuple[Link, list[dict[str, Any]]] | None:
    """Return the link after both sides have proven themselves, and what came over it already.

    None if the other closed the connection before. Raises UsageError if it refused the secret, EnvironmentProblem if
    it is not a machine of a run.
    """
    keep_alive(connection)
    line = read_line(connection, deadline - time.monotonic())
    challenge = None if not line else Challenge.parse(line)
    if challenge is not None:
        answer, key = challenge.answer(secret, hello)
        link = Link(connection, key, is_first=False)
        try:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(answer)
            refused = connection.recv(len(REFUSAL), socket.MSG_PEEK) == REFUSAL
        except TimeoutError:
            refused = False
        except OSError:
            refused, link.closed = False, True
        if refused:
            connection.close()
            raise UsageError(
                "the machines of the run have different secrets",
                hint="copy .shitu/machines.secret from machine 0, or set SHITU_MACHINES_SECRET to one text everywhere",
            )
        messages = [] if link.closed else link.read(ANSWER_SECONDS)
        if messages:  # it knows the secret too
            return link, messages[1:]
    connection.close()
    if (line and challenge is None) or time.monotonic() > deadline:
        raise EnvironmentProblem(
            f"--master: {address} did not start the run in time; what answers there is not a machine of this run",
            hint="another program, or another version of shitu, is running there: look at its output",
        )
    time.sleep(_PAUSE)  # it was stopped, or has no room: try again
    return None


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
