"""What `shitu serve` says when it cannot start."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the packages of shitu serve are not installed")

from shitu_cli.index.files import save_index
from shitu_cli.index.store import BuildOptions
from shitu_cli.index.vectors import VectorIndex
from tests.command import shitu
from tests.index.made import gallery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_index(VectorIndex.build(gallery(20), BuildOptions(model="m")), tmp_path / "index")
    return tmp_path


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--host", "0.0.0.0"], 2, ["--host 0.0.0.0", "API key", "--api-key-file key.txt"]),
        (["--host", "no such host"], 2, ["--host no such host: no such address"]),
        (["--api-key-file", "short.txt"], 3, ["short.txt", "at least 16"]),
        (["--api-key-file", "absent.txt"], 3, ["absent.txt"]),
        (["--threshold", "high"], 2, ["--threshold high", "a number from -1 to 1"]),
        (["--threshold", "nan"], 2, ["--threshold nan"]),
        (["m", "index", "--index", "index"], 2, ["INDEX_DIR and --index mean the same"]),
        (["m", "nowhere"], 2, ["no index in nowhere", "shitu index build"]),
        (["--keep", "short.txt"], 2, ["--keep short.txt is a file", "name a folder"]),
        (["index"], 3, ["index holds no inference.pdmodel", "it is an index, not a model: name it with --index index"]),
        (["nowhere", "index"], 2, ["no such model: nowhere"]),
        (["--new", "--index", "other"], 2, ["no model is named", "--model inference"]),
        (["--new", "--read-only"], 2, ["a read-only server takes none", "leave out --new"]),
        (["--new", "--store", "milvus:g.db"], 2, ["only an index in a directory", "--store milvus:g.db"]),
        (["--store", "redis:1"], 2, ["--store redis:1", "milvus:"]),
        (["--port", "70000"], 2, ["--port", "65535"]),
    ],
)
def test_it_says_what_is_missing(folder: Path, arguments: list[str], code: int, words: list[str]) -> None:
    (folder / "short.txt").write_text("secret\n")
    done = shitu("serve", *arguments, *([] if "--port" in arguments else ["--port", "0"]), cwd=folder, check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode == code, said
    assert all(word in said for word in words), said
    assert "Traceback" not in said and "secret" not in said


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = shitu("serve", "--port", port, cwd=folder, check=False)
    assert done.returncode == 5 and f"port {port}" in done.stderr and "--port 0" in done.stderr


def test_packages_that_are_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    done = shitu("serve", cwd=folder, check=False)
    assert done.returncode == 5 and "missing: uvicorn" in done.stderr and "pip install" in done.stderr
