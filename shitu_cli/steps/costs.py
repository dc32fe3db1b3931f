"""The cost of a command before it starts: images, bytes, memory, disk and time, and whether this machine has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shitu_cli.errors import EnvironmentProblem, Message
from shitu_cli.pace import Left
from shitu_cli.reporting import byte_size, counted, duration
from shitu_cli.runtime.memory import available_memory
from shitu_cli.stores import state_of

SECONDS = 8.0  # of each measurement
SAMPLE_FILES = 1000  # files whose sizes represent all
_SPARE = 0.95  # share of the free bytes that a command may use


@dataclass(frozen=True)
class Need:
    """Bytes of memory or disk that a command needs and that are available (None: unknown); `fit` is the way out.

    `place` is the folder on the disk, "" for memory.
    """

    what: str
    needed: int
    available: int | None
    place: str = ""
    fit: Message = ""

    @property
    def fits(self) -> bool:
        return self.available is None or self.needed <= self.available * _SPARE


@dataclass(frozen=True)
class Cost:
    """`seconds` by what they are spent on, `total` of all; `basis` says what was measured for it.

    `margin` is the relative error of the times.
    """

    images: int
    bytes_to_read: int | None
    seconds: dict[str, float]
    total: float
    basis: str
    needs: tuple[Need, ...]
    margin: float = 0.0
    remarks: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return all(need.fits for need in self.needs)

    def to_json(self) -> dict[str, Any]:
        """Return all figures as plain values; bytes and seconds are whole."""
        return {
            "images": self.images,
            "bytes_to_read": self.bytes_to_read,
            "seconds": {
                **{name: round(value, 3) for name, value in self.seconds.items()},
                "total": round(self.total, 3),
                "margin": round(self.margin * self.total, 3),
            },
            "needs": [
                {"what": need.what, "place": need.place, "needed": need.needed, "available": need.available}
                | {"fits": need.fits}
                for need in self.needs
            ],
            "measured": self.basis,
            "remarks": self.remarks,
            "fits": self.fits,
        }

    def require_fit(self) -> None:
        """Raise EnvironmentProblem that lists what does not fit, and what would."""
        wrong = [need for need in self.needs if not need.fits]
        if not wrong:
            return
        details = [
            f"{need.what}{f' ({need.place})' if need.place else ''}: {byte_size(need.needed)} needed, "
            f"{byte_size(need.available or 0)} available"
            for need in wrong
        ]
        raise EnvironmentProblem(
            "this does not fit on this machine",
            details=details,
            hint=next((need.fit for need in wrong if need.fit), None),
        )


def memory_need(needed: int, *, held: int = 0, fit: Message = "") -> Need:
    """Return the need of `needed` bytes in all, of which this process holds `held` already."""
    available = available_memory()
    return Need("memory", needed, None if available is None else available + held, fit=fit)


def disk_need(place: Path, needed: int, *, what: str = "disk", fit: Message = "") -> Need:
    """Return the need of `needed` bytes on the disk of `place`, which need not exist yet."""
    folder = Path(os.path.abspath(place))
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        free: int | None = shutil.disk_usage(folder).free
    except OSError:
        free = None
    return Need(what, needed, free, str(place), fit)


def total_size(count: int, location: Callable[[int], str]) -> int | None:
    """Return the bytes of `count` images, from at most `SAMPLE_FILES` spread over them; None if none can be asked."""
    states = (state_of(location(number)) for number in spread(count, SAMPLE_FILES))
    sizes = [state.size for state in states if state is not None]  # the command itself reports missing ones
    return round(sum(sizes) / len(sizes) * count) if sizes else None


def spread(count: int, most: int) -> Sequence[int]:
    """Return at most `most` numbers below `count`, evenly spread."""
    return range(count) if count <= most else [n * count // most for n in range(most)]


def size_text(count: int | None) -> str:
    """Return bytes for people; "?" where they are unknown."""
    return "?" if count is None else byte_size(count)


def summary(cost: Cost) -> list[list[str]]:
    """Return the rows of a table that shows a cost."""
    rows = [["images", counted(cost.images, "image")], ["to read", size_text(cost.bytes_to_read)]]
    for need in cost.needs:
        name = f"{need.what} in {need.place}" if need.place else need.what
        rows.append([name, f"{byte_size(need.needed)} of {size_text(need.available)} available"])
    rows += [[f"time: {name}", duration(value)] for name, value in cost.seconds.items()]
    about = Left.within(cost.total, cost.margin)
    text = duration(cost.total) if about.is_sure else f"{duration(about.least)} to {duration(about.most)}"
    rows.append(["time in all", text])
    return rows
