"""Every path that is no readable regular file is an error at once, and bytes that are no text name their line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from shitu_cli.errors import ConfigError, DataError, EnvironmentProblem
from shitu_cli.inputs import is_input, open_input, read_bytes, read_text


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _socket(folder: Path) -> Path:
    path = Path(os.path.relpath(folder / "socket"))  # socket names are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def _loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def _below_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"x")
    return folder / "file" / "below"


def _large(folder: Path) -> Path:
    with (folder / "large").open("wb") as file:
        file.truncate(1 << 40)
    return folder / "large"


def _link_to_pipe(folder: Path) -> Path:
    (folder / "link").symlink_to(_pipe(folder))
    return folder / "link"


REFUSED = {
    "pipe": (_pipe, "a pipe"),
    "link to a pipe": (_link_to_pipe, "a pipe"),
    "socket": (_socket, "a socket"),
    "folder": (lambda folder: folder, "a folder"),
    "endless device": (lambda _: Path("/dev/zero"), "a device"),
    "empty device": (lambda _: Path("/dev/null"), "a device"),
    "looped links": (_loop, "loop"),
    "missing": (lambda folder: folder / "missing", "No such file"),
    "below a file": (_below_file, "not a folder"),
    "long name": (lambda folder: folder / ("x" * 300), "too long"),
    "long path": (lambda folder: folder / "x/" / ("y/" * 3000), "too long"),
    "NUL": (lambda folder: folder / "a\0b", "character"),
    "lone surrogate": (lambda folder: folder / "\ud800", "character"),
    "sparse terabyte": (_large, "too large"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_readable_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    make, reason = REFUSED[name]
    path = make(tmp_path)
    for read in (open_input, read_bytes, read_text):
        with pytest.raises(ConfigError, match=reason) as caught:
            read(path, limit=1000, error=ConfigError, hint="look there")
        assert caught.value.hint == "look there"
    assert is_input(path) == (name == "sparse terabyte")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_refused_permission_is_the_machine_saying_no(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(EnvironmentProblem, match="Permission denied") as caught:
        read_bytes(tmp_path / "secret")
    assert "permissions" in str(caught.value.hint)


def test_files_are_read_whole_also_when_their_size_says_zero(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    assert read_bytes(tmp_path / "file", limit=100_000) == b"x" * 100_000
    assert read_bytes("/proc/self/status").startswith(b"Name:")
    with pytest.raises(DataError, match="too large"):
        read_bytes("/proc/self/status", limit=10)


def test_bytes_that_are_no_text_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\xff\n")
    with pytest.raises(DataError, match=r"list\.txt:2: byte 0xff is not UTF-8"):
        read_text(path)
    assert read_text(path, keep_bytes=True) == "one\r\ntwo\udcff\n"
