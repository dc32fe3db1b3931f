"""Threads of the process's libraries: set in one place, and left alone by what computes beside training."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from shitu_cli.runtime.arithmetic import current_threads, kept_arithmetic, kept_threads, set_threads
from shitu_cli.runtime.setup import setup_paddle
from tests.sources import sources


@pytest.fixture
def three_threads() -> Iterator[None]:
    setup_paddle("cpu", threads=1)
    with kept_arithmetic():
        set_threads(3)
        yield


def counts() -> dict[str, int]:
    """The number of threads of each library that is loaded."""
    import threadpoolctl

    return {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}


def paddle_threads() -> int:
    found = [count for path, count in counts().items() if "iomp" in path]
    if not found:
        pytest.skip("this build of Paddle has no Intel OpenMP, which tells the number")
    return found[0]


def test_everything_is_put_back(three_threads: None) -> None:
    import faiss  # noqa: F401  (brings an OpenMP and a BLAS of its own)
    import threadpoolctl

    before = counts()
    with kept_arithmetic():
        for library in threadpoolctl.ThreadpoolController().lib_controllers:
            library.set_num_threads(1)
        set_threads(2)
        assert counts() != before and current_threads() == 2
    assert counts() == before and current_threads() == 3


def test_everything_is_put_back_after_an_error(three_threads: None) -> None:
    with pytest.raises(ZeroDivisionError), kept_arithmetic():
        set_threads(2)
        1 / 0  # noqa: B018
    assert current_threads() == 3


def test_paddle_gets_its_threads_back(three_threads: None) -> None:
    from paddle.base import core

    with kept_threads():
        core.set_num_threads(1)
        assert paddle_threads() == 1
    assert paddle_threads() == current_threads() == 3


def test_nobody_else_sets_the_threads_of_paddle() -> None:
    elsewhere = [
        f"{name}:{node.lineno}"
        for name, source in sources().items()
        if not name.startswith("runtime/")
        for node in source.nodes
        if isinstance(node, ast.Attribute) and node.attr in {"set_num_threads", "get_num_threads"}
    ]
    assert elsewhere == []
