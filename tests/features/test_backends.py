"""Every way to run a model file gives the network's features, or says what it lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features import backends
from shitu_cli.features.backends import BF16, FP32, MODEL_FILES, ONNX_RUNTIME, OPENVINO, PADDLE, Way, ways_in, ways_of
from tests.features.networks import CountedNetwork

ALL_WAYS = [way for name in MODEL_FILES for way in ways_of(Path(name))]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Read-only, as arrays of a mapped file are."""
    images = np.random.default_rng(0).standard_normal((5, 3, 96, 96)).astype(np.float32)
    images.flags.writeable = False
    return images


@pytest.mark.parametrize("way", ALL_WAYS, ids=lambda way: f"{way.program}-{way.file}-{way.precision}")
def test_every_way_gives_the_same_features(exported: Path, images: np.ndarray, way: Way) -> None:
    if way.missing() is not None:
        pytest.skip(str(way.missing()))
    expected = Way("inference.pdmodel", PADDLE).open(exported, threads=1)(images)
    run = way.open(exported, threads=1)
    got = run(images)
    assert got.dtype == np.float32 and got.shape == expected.shape
    cosines = np.einsum("nd,nd->n", got, expected) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
    lengths = np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
    # Lengths too: a lost factor (0.8 of dropout) is invisible in cosines.
    assert cosines.min() > (0.99999 if way.precision == FP32 else 0.995)
    assert np.abs(lengths - 1).max() < (1e-4 if way.precision == FP32 else 0.15)
    # An image's features do not depend on its batch, and results are not overwritten by the next call.
    assert np.array_equal(np.concatenate([run(images[n : n + 1]) for n in range(5)]), got)


def test_threads_share_an_engine(exported: Path, images: np.ndarray) -> None:
    numbers = [n % 5 for n in range(40)]
    for way in ways_in(exported):
        run = way.open(exported, threads=1)
        expected = run(images)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(run, [images[n : n + 1] for n in numbers]))
        assert np.array_equal(np.concatenate(answers), expected[numbers]), way


def in_new_process(exported: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code about `backends` and OpenVINO, where it is installed; `sys.argv[1]` is an exported file."""
    if not backends.is_installed(OPENVINO):
        pytest.skip("OpenVINO is not installed")
    imports = "import sys, openvino\nfrom pathlib import Path\nfrom shitu_cli.features import backends\n"
    command = [sys.executable, "-c", imports + code, exported / "inference.onnx"]
    return subprocess.run(command, capture_output=True, text=True)


def test_openvino_gets_its_first_array_before_threads_can_race_for_it(exported: Path) -> None:
    """Its look-up of numpy at the first array deadlocks between two threads."""
    done = in_new_process(
        exported,
        "arrays, tensor = [], openvino.Tensor\n"
        "openvino.Tensor = lambda array: arrays.append((array, backends._OPENVINO_STARTS.locked())) or tensor(array)\n"
        "backends.openvino_model(Path(sys.argv[1]), streams=2)\n"
        "assert len(arrays) == 1 and arrays[0][1]\n",
    )
    assert done.returncode == 0, done.stderr


def test_a_signal_after_models_of_openvino_have_gone_is_handled(exported: Path) -> None:
    """Where it gives threads a stack for signals (CPUs with AVX-512), two cores of it left one that had been freed."""
    done = in_new_process(
        exported,
        "import gc, signal\n"
        "cores, core = [], openvino.Core\n"
        "openvino.Core = lambda: cores.append(1) or core()\n"
        "first, second = (backends.openvino_model(Path(sys.argv[1])) for _ in range(2))\n"
        "del first\n"
        "gc.collect()\n"
        "del second\n"
        "gc.collect()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "assert len(cores) == 1\n",  # on any CPU
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_pdmodel_is_never_run_in_bfloat16_by_paddle() -> None:
    assert Way("inference.pdmodel", PADDLE, BF16) not in ALL_WAYS
    assert Way("inference.json", PADDLE, BF16) in ALL_WAYS


def test_ways_in_a_directory(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "is_installed", lambda program: True)
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: True)
    found = ways_in(exported)
    assert [way.file for way in found if way.program == OPENVINO] == ["inference.onnx"] * 2
    assert len(found) == len(set(found)) == 6
    shutil.copy(exported / "inference.pdmodel", tmp_path)
    assert [(way.program, way.precision) for way in ways_in(tmp_path)] == [
        (PADDLE, FP32),
        (OPENVINO, FP32),
        (OPENVINO, BF16),
    ]
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: False)
    assert {way.precision for way in ways_in(exported)} == {FP32}
    monkeypatch.setattr(backends, "is_installed", lambda program: program != OPENVINO)
    assert {way.program for way in ways_in(exported)} == {PADDLE, ONNX_RUNTIME}


def test_what_a_machine_lacks(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "is_installed", lambda program: program != OPENVINO)
    with pytest.raises(EnvironmentProblem, match=r"OpenVINO is not installed \(pip install openvino\)"):
        Way("inference.onnx", OPENVINO).open(exported)
    cpuinfo = tmp_path / "cpuinfo"
    for flags, has in (("fpu sse2 avx512f", False), ("fpu avx512_bf16", True), ("fpu amx_bf16 amx_tile", True)):
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        backends.cpu_has_bf16.cache_clear()
        assert backends.cpu_has_bf16(cpuinfo) is has
    assert backends.cpu_has_bf16(tmp_path / "none") is False
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: False)
    with pytest.raises(EnvironmentProblem, match="in bfloat16: this CPU does not compute in bfloat16") as caught:
        Way("inference.json", PADDLE, BF16).open(exported)
    assert caught.value.hint == "--precision fp32"


@pytest.mark.parametrize("state", ["missing", "empty", "cut"])
@pytest.mark.parametrize(
    ("way", "victim"),
    [
        (Way("inference.pdmodel", PADDLE), "inference.pdmodel"),
        (Way("inference.pdmodel", PADDLE), "inference.pdiparams"),
        (Way("inference.json", PADDLE), "inference.json"),
        (Way("inference.onnx", ONNX_RUNTIME), "inference.onnx"),
        (Way("inference.onnx", OPENVINO), "inference.onnx"),
    ],
    ids=str,
)
def test_damaged_files(exported: Path, tmp_path: Path, way: Way, victim: str, state: str) -> None:
    if way.missing() is not None:
        pytest.skip(str(way.missing()))
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    file = folder / victim
    if state == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if state == "empty" else file.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"{victim}: No such file" if state == "missing" else victim) as caught:
        way.open(folder)
    assert "Exception from" not in caught.value.message and "shitu export" in str(caught.value.hint)


@pytest.mark.parametrize(("program", "together"), [(ONNX_RUNTIME, 2), (OPENVINO, 4)])
def test_an_engine_with_threads_of_its_own_holds_the_next_images(
    monkeypatch: pytest.MonkeyPatch, program: str, together: int
) -> None:
    """OpenVINO's threads would wait for each image; ONNX Runtime computes on ours, where more would only take turns."""
    network = CountedNetwork()
    monkeypatch.setattr(Way, "missing", lambda way: None)
    monkeypatch.setattr(backends, "openvino_model", lambda file, **settings: network)
    monkeypatch.setattr(backends, "onnx_session", lambda file: network)
    run = Way("inference.onnx", program).open(Path(), threads=2)
    with ThreadPoolExecutor(8) as callers:
        assert len(list(callers.map(run, [np.zeros((1, 3), np.float32)] * 16))) == 16
    assert network.most == together
