"""Setting up Paddle: device choice, threads, silence."""

import subprocess
import sys

import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.runtime.setup import setup_paddle


def test_the_cpu_is_chosen_with_a_reason():
    assert setup_paddle("cpu", threads=1) == "cpu: as requested, 1 thread"


def test_impossible_devices_are_refused():
    with pytest.raises(EnvironmentProblem, match="unknown device tpu"):
        setup_paddle("tpu")
    with pytest.raises(EnvironmentProblem, match="unknown device gpu:0,1") as caught:  # as PaddleX writes it
        setup_paddle("gpu:0,1")
    assert "--devices 0,1" in str(caught.value.hint)
    import paddle

    if not paddle.is_compiled_with_cuda():
        with pytest.raises(EnvironmentProblem, match="does not support GPUs"):
            setup_paddle("gpu:0")


def test_import_is_quiet_and_threads_reach_numba():
    code = (
        "import logging; from shitu_cli.runtime.setup import setup_paddle\n"
        "setup_paddle('cpu', threads=1); root = logging.getLogger()\n"
        "import numba; print(root.level, len(root.handlers), numba.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["30", "0", "1"], "")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux shells do")
@pytest.mark.parametrize("limit", ["ulimit -v 400000", "ulimit -v 1900000", "ulimit -d 600000"])
def test_too_little_memory_for_the_libraries_is_said(limit: str) -> None:
    """Without the check these limits ended in exit code 139, in 1, or in one of OpenBLAS's own."""
    code = (
        "from shitu_cli.errors import EnvironmentProblem; from shitu_cli.runtime.setup import setup_paddle\n"
        "try: setup_paddle('cpu')\nexcept EnvironmentProblem as problem: print(problem.message, '|', problem.hint)"
    )
    done = subprocess.run(
        ["bash", "-c", f'{limit}; exec "$0" -c "$1"', sys.executable, code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "the libraries alone need" in done.stdout and limit.rpartition(" ")[0] + " unlimited" in done.stdout
