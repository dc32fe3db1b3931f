"""Runs that another launcher has started: Paddle's own, Slurm's srun, and PaddleJobs of Kubernetes.

Each of them starts the same command many times and tells every process its rank in the environment. That is translated
here into the variables that `launch` would have set, so that the rest of the program only knows those.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.processes.machines import interface_of
from shitu_cli.processes.this_process import RANK, WORLD, place_variables
from shitu_cli.runtime.threads import THREADS, available_cores, is_bound

PADDLE, SLURM = "paddle.distributed.launch", "Slurm"
MOST_NODES = 100_000
_SLURM_PORTS = 20_000  # the first port, and how many follow: the number of a job chooses one of them
Environment = Mapping[str, str]


@dataclass(frozen=True)
class Placement:
    """The place of this process in a run: its rank, and where the first one listens (host:port)."""

    launcher: str
    rank: int
    world: int
    master: str
    device: str
    local_world: int

    def environment(self) -> dict[str, str]:
        """Return the variables that `launch` gives the processes that it starts itself."""
        return place_variables(self.rank, self.world, self.master, self.device)


def take_placement(requested: str = "auto", devices: str | None = None, nnodes: int = 1) -> Placement | None:
    """Take the place that another launcher has given this process; None if there is no such launcher.

    Args:
        requested: The device that the user requests.
        devices: The user's --devices, which start processes too.
        nnodes: The user's --nnodes; with it, Slurm only starts the machines.

    The environment of this process is changed. Raises EnvironmentProblem that lists what is wrong with the variables of
    the launcher, UsageError for options that contradict it.
    """
    placement = find_placement(os.environ, requested)
    if placement is None or (nnodes > 1 and placement.launcher == SLURM):
        return None
    if devices is not None or nnodes > 1:
        raise UsageError(
            f"{placement.launcher} has started {placement.world} processes already; --devices and --nnodes would "
            "start others",
            hint="leave these options out, or start the command without that launcher",
        )
    os.environ.update(placement.environment())
    threads = str(_threads(placement, os.environ))
    for name in (THREADS, "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    if placement.device == "cpu" and "GLOO_SOCKET_IFNAME" not in os.environ:
        interface = _interface_towards(placement.master)
        if interface is not None:  # otherwise gloo resolves the host name, often to the loopback
            os.environ["GLOO_SOCKET_IFNAME"] = interface
    return placement


def find_placement(environment: Environment, requested: str = "auto") -> Placement | None:
    """Return the place of a process with this environment; None for one that runs alone."""
    return _paddle_placement(environment, requested) or _slurm_placement(environment, requested)


def _paddle_placement(environment: Environment, requested: str) -> Placement | None:
    """Read what paddle.distributed.launch and the operators of PaddleJobs say."""
    if environment.get(WORLD, "1") == "1":
        return None
    reader = _Reader(environment, PADDLE)
    world = reader.number(WORLD, low=1)
    rank = reader.number(RANK, high=world - 1)
    endpoints = [text for text in environment.get("PADDLE_TRAINER_ENDPOINTS", "").split(",") if text]
    if endpoints and len(endpoints) != world:
        reader.problems.append(f"PADDLE_TRAINER_ENDPOINTS: {len(endpoints)} endpoints, {WORLD} is {world}")
    master = environment.get("PADDLE_MASTER") or (endpoints[0] if endpoints else "")
    reader.check_address("PADDLE_MASTER or PADDLE_TRAINER_ENDPOINTS", master)
    local = reader.number("PADDLE_LOCAL_SIZE", low=1, default=1)
    selected = environment.get("FLAGS_selected_gpus", "").split(",")[0]
    device = _device(requested, f"gpu:{selected}" if selected else "cpu")
    reader.raise_all()
    return Placement(PADDLE, rank, world, master, device, local)


def _slurm_placement(environment: Environment, requested: str) -> Placement | None:
    """Read what srun says. A batch script runs alone, though it has most of the variables of its job."""
    by_srun = any(name in environment for name in ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS"))
    if "SLURM_PROCID" not in environment or (environment.get("ENVIRONMENT") == "BATCH" and not by_srun):
        return None
    count = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if environment.get(count, "1") == "1":
        return None
    reader = _Reader(environment, SLURM)
    world = reader.number(count, low=1)
    rank = reader.number("SLURM_PROCID", high=world - 1)
    local_rank = reader.number("SLURM_LOCALID", default=0)
    job = reader.number("SLURM_JOB_ID", default=0)
    host = environment.get("MASTER_ADDR") or reader.first_node()
    port = reader.number("MASTER_PORT", low=1, high=65000, default=_SLURM_PORTS + job % _SLURM_PORTS)
    local = reader.tasks_here(world)
    visible = [text for text in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if text]
    card = f"gpu:{local_rank % len(visible)}" if visible else f"gpu:{local_rank}"
    device = _device(requested, card if visible else "cpu", card)
    reader.check_address("MASTER_ADDR or SLURM_STEP_NODELIST", f"{host}:{port}")
    reader.raise_all()
    return Placement(SLURM, rank, world, f"{host}:{port}", device, local)


def _device(requested: str, usual: str, card: str = "gpu:0") -> str:
    """Return the device of a process: what the user asks for, else what the launcher gave it."""
    if requested == "auto":
        return usual
    return (usual if usual != "cpu" else card) if requested == "gpu" else requested


class _Reader:
    """Reads numbers from an environment and collects what is wrong with them."""

    def __init__(self, environment: Environment, launcher: str) -> None:
        self._environment, self._launcher = environment, launcher
        self.problems: list[str] = []

    def number(self, name: str, *, low: int = 0, high: int | None = None, default: int | None = None) -> int:
        """Return the number in a variable; note a problem, and return `low`, if there is none in these bounds."""
        text = self._environment.get(name, "")
        if not text and default is not None:
            return default
        value = whole_number(text, digits=9)
        if value is None or value < low or (high is not None and value > max(high, low)):
            bounds = f"from {low}" + (f" to {high}" if high is not None else "")
            self.problems.append(
                f"{name}: {'not set' if not text else f'got {text[:80]!r}'}, expected a number {bounds}"
            )
            return low
        return value

    def check_address(self, names: str, address: str) -> None:
        """Note a problem if an address is not host:port."""
        host, _, port = address.rpartition(":")
        number = whole_number(port, digits=5)
        if not host or host == "None" or number is None or not 0 < number < 65536:
            self.problems.append(f"{names}: got {address[:80]!r}, expected host:port of the first process")

    def first_node(self) -> str:
        """Return the first node of the step or of the job."""
        for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
            if text := self._environment.get(name):
                try:
                    return nodes_of(text)[0]
                except ValueError as error:
                    self.problems.append(f"{name}: {error}")
                    return "unknown"
        self.problems.append("MASTER_ADDR: not set, nor SLURM_STEP_NODELIST")
        return "unknown"

    def tasks_here(self, world: int) -> int:
        """Return how many processes of the run are on this node, from `SLURM_STEP_TASKS_PER_NODE=2(x3),1`."""
        text = self._environment.get("SLURM_STEP_TASKS_PER_NODE") or self._environment.get("SLURM_TASKS_PER_NODE", "")
        counts: list[int] = []
        for part in text.split(","):
            match = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", part)
            if match is None or len(counts) > MOST_NODES:
                return 1
            counts += [int(match[1])] * min(int(match[2] or 1), MOST_NODES)
        node = whole_number(self._environment.get("SLURM_NODEID", "0"), digits=6)
        return min(world, max(1, counts[node])) if node is not None and node < len(counts) else 1

    def raise_all(self) -> None:
        """Raise EnvironmentProblem with all problems, if there are any."""
        if self.problems:
            raise EnvironmentProblem(
                f"this process was started by {self._launcher}, whose variables cannot be used",
                details=self.problems,
                hint="start it with all of them, or with none (env -u NAME)",
            )


def nodes_of(text: str) -> list[str]:
    """Return the nodes that a Slurm list names: `gpu[01-03,7],login-[1-2]x` are gpu01, gpu02, gpu03, gpu7, login-1x, …

    Raises ValueError for text that is not such a list, or names more than 100,000 nodes.
    """
    nodes: list[str] = []
    for item in _items(text):
        names = [""]
        for plain, numbers in re.findall(r"([^\[\]]+)|\[([^\[\]]*)\]", item):
            ends = [plain] if plain else _numbers(numbers)
            if len(names) * len(ends) + len(nodes) > MOST_NODES:
                raise ValueError(f"more than {MOST_NODES:,} nodes")
            names = [name + end for name in names for end in ends]
        nodes += names
    return nodes


def _items(text: str) -> list[str]:
    """Return the parts of a list between commas outside of brackets."""
    if not re.fullmatch(r"(?:[^\[\],\s]|\[[0-9,-]+\])+(?:,(?:[^\[\],\s]|\[[0-9,-]+\])+)*", text):
        raise ValueError(f"got {text[:80]!r}, expected a list of nodes such as node[01-04]")
    return re.findall(r"(?:[^\[\],]|\[[^\]]*\])+", text)


def _numbers(text: str) -> list[str]:
    """Return the numbers of `01-03,7` as they are written, with their zeros."""
    numbers: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        if match is None:
            raise ValueError(f"got [{text[:80]}], expected numbers such as [01-04,7]")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < MOST_NODES:
            raise ValueError(f"got {part}, expected the smaller number first, and at most {MOST_NODES:,} nodes")
        numbers += [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    return numbers


def _threads(placement: Placement, environment: Environment) -> int:
    """Return the compute threads of this process: its part of the cores, unless it is bound to its own cores."""
    cores = available_cores()
    own = whole_number(environment.get("SLURM_CPUS_PER_TASK", ""), digits=5)
    if own:
        return min(own, cores)
    is_alone = placement.launcher == SLURM and is_bound()
    return cores if is_alone else max(1, cores // placement.local_world)


def _interface_towards(master: str) -> str | None:
    """Return the network interface over which the first process is reached."""
    host, _, port = master.rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host.strip("[]"), int(port)))  # sends nothing
            return interface_of(str(probe.getsockname()[0]))
    except OSError:
        return None
