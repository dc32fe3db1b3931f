"""Limits on memory that libraries need before they do anything: below them they end the process without a word."""

from __future__ import annotations

from collections.abc import Mapping

from shitu_cli.errors import EnvironmentProblem

_COMMANDS = {"RLIMIT_AS": "ulimit -v", "RLIMIT_DATA": "ulimit -d"}
# Loading Paddle, numba and faiss, measured with PaddlePaddle 3.3.1: with ulimit -v it fails at 1.95 GB and works at
# 2.0 GB, with ulimit -d it fails at 1.0 GB.
PADDLE_MEMORY = {"RLIMIT_AS": 2 << 30, "RLIMIT_DATA": 5 << 28}
# Loading OpenCV and numpy on two cores: fails at 0.4 GB, works at 0.5 GB.
IMAGE_MEMORY = {"RLIMIT_AS": 1 << 29, "RLIMIT_DATA": 1 << 28}


def require_memory(least: Mapping[str, int]) -> None:
    """Raise EnvironmentProblem when a limit on this process's memory is below `least` bytes of it."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for name, need in least.items():
        limit = resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else resource.RLIM_INFINITY
        if limit != resource.RLIM_INFINITY and limit < need:
            command = _COMMANDS[name]
            raise EnvironmentProblem(
                f"this shell lets a program use {limit / 1e9:.1f} GB of memory ({command}); the libraries need "
                f"{need / 1e9:.1f} GB before the first image",
                hint=f"{command} unlimited   (or ask whoever runs this machine for a higher limit)",
            )
