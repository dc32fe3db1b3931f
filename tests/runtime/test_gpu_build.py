"""A CPU build of PaddlePaddle that was installed over the one for GPUs is told, with the way out."""

from __future__ import annotations

import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.runtime import setup


def test_a_cpu_build_over_a_gpu_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    paddle = pytest.importorskip("paddle")
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    monkeypatch.setattr(setup, "has_package", lambda package: True)
    assert "was installed over paddlepaddle-gpu" in setup._choose("auto")[1]
    with pytest.raises(EnvironmentProblem) as caught:
        setup._choose("gpu")
    assert caught.value.hint == setup.REPAIR
    monkeypatch.setattr(setup, "has_package", lambda package: package == "paddlepaddle")
    assert setup._choose("auto")[1] == "no GPU in this build of Paddle"
