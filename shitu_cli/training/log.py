"""train.log for people and metrics.jsonl for programs, both appended line by line and flushed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from shitu_cli.boundary import open_own, place_to_write
from shitu_cli.errors import Command, EnvironmentProblem, pip_install
from shitu_cli.reporting import Reporter, visible


class RunLog:
    """The log files of one run in the output directory; ranks other than 0 only have a text log, a rehearsal none.

    Raises EnvironmentProblem if the system refuses, or if anything but regular files is there.
    """

    def __init__(self, text: Path | None, metrics: Path | None, visualdl: Path | None = None) -> None:
        self._writer = None if visualdl is None else _visualdl_writer(place_to_write(visualdl))
        try:
            self._text, self._metrics = _open_at_line(text), _open_at_line(metrics)
        except OSError as error:
            raise EnvironmentProblem(
                f"{error.filename}: cannot write the log: {error.strerror}",
                hint="check permissions and free space, or choose another Global.output_dir",
            ) from None

    def line(self, text: str) -> None:
        """Write a line with the time to train.log; file names in it need not be valid text."""
        if self._text is not None:
            self._write(self._text, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {visible(text)}\n")

    def tell(self, reporter: Reporter, text: str, *, warning: bool = False) -> None:
        """Write a line to train.log and show it to the user."""
        self.line(text)
        (reporter.warn if warning else reporter.info)(text)

    def record(self, kind: str, **values: Any) -> None:
        """Write a JSON object to metrics.jsonl: {"kind": "train"|"epoch"|"eval"|"save"|"resume", ...}."""
        if self._writer is not None and kind in ("train", "eval"):
            step = values.get("step", values.get("epoch", 0))
            for name, value in values.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)
        if self._metrics is not None:
            self._write(self._metrics, json.dumps({"kind": kind, "time": round(time.time(), 3), **values}) + "\n")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        for file in (self._text, self._metrics):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()

    def _write(self, file: IO[str], text: str) -> None:
        try:
            file.write(text)
            file.flush()
        except OSError as error:
            raise EnvironmentProblem(
                f"{file.name}: cannot write the log: {error.strerror}",
                hint=["free some space, then continue with: ", Command("train", "--resume")],
            ) from None


def _open_at_line(path: Path | None) -> IO[str] | None:
    """Open a log to append to, on a new line even if a full disk or a kill has cut off the last one."""
    if path is None:
        return None
    place_to_write(path.parent).mkdir(parents=True, exist_ok=True)
    file = open_own(path, "a", encoding="utf-8")
    with open_own(path, "rb") as reader:
        if reader.seek(0, os.SEEK_END) and reader.seek(-1, os.SEEK_END) and reader.read() != b"\n":
            file.write("\n")
    return file


def _visualdl_writer(folder: Path) -> Any:
    try:
        from visualdl import LogWriter
    except ImportError:
        raise EnvironmentProblem(
            "Global.use_visualdl needs the package visualdl",
            hint=f"{pip_install('visualdl')}, or -o Global.use_visualdl=False",
        ) from None
    return LogWriter(logdir=str(folder))
