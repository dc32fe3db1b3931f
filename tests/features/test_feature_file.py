"""`shitu extract` over many pictures: interrupted, shared by processes, on a full disk; always the same bytes."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli import Extractor
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features import resumable
from shitu_cli.features.feature_file import extract_to_file, open_work, work_folder
from shitu_cli.features.resumable import Extraction
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import SilentReporter
from tests.command import all_end, children_of, shitu, shitu_process

QUIET = SilentReporter()


@pytest.fixture
def extractor(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    """Blocks of 6 pictures: 5 of them in 30."""
    monkeypatch.setattr(resumable, "BLOCK_IMAGES", 5)
    return Extractor(exported, threads=1, batch_size=3)


@pytest.fixture
def found(pictures: list[Path]) -> ImageFiles:
    made = ImageFiles()
    for path in pictures:
        made.add(path, path.parent.name)
    return made


def _counted(extractor: Extractor, stop_after: int | None = None) -> tuple[Extractor, Callable[[], int]]:
    """The extractor with a count of pictures computed; interrupted like Ctrl-C after `stop_after` of them."""
    seen = 0
    run = extractor.engine.run

    def counting(images: np.ndarray) -> np.ndarray:
        nonlocal seen
        if stop_after is not None and seen >= stop_after:
            raise KeyboardInterrupt
        seen += len(images)
        return run(images)

    counted = copy.copy(extractor)
    counted.engine = dataclasses.replace(extractor.engine, run=counting)
    return counted, lambda: seen


def test_an_interrupted_call_goes_on_and_gives_the_same_bytes(
    extractor: Extractor, found: ImageFiles, tmp_path: Path
) -> None:
    whole = extract_to_file(Extraction(extractor, found), tmp_path / "a.npy", QUIET)
    assert whole.count == 30 and not whole.skipped and not work_folder(tmp_path / "a.npy").exists()
    stopped, _ = _counted(extractor, stop_after=15)
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(Extraction(stopped, found), tmp_path / "b.npy", QUIET)
    assert not (tmp_path / "b.npy").exists()
    again, count = _counted(extractor)
    extract_to_file(Extraction(again, found), tmp_path / "b.npy", QUIET)
    assert count() == 30 - 12  # two blocks of 6 were done
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()
    assert (tmp_path / "b.tsv").read_bytes() == (tmp_path / "a.tsv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}{suffix}" for name in "ab" for suffix in (".npy", ".npy.model.json", ".tsv")
    )


def test_two_commands_that_write_one_file(extractor: Extractor, found: ImageFiles, tmp_path: Path) -> None:
    """The first to end removes the work of both: which images could not be read is lost with it."""
    out, run = tmp_path / "a.npy", extractor.engine.run
    batches = []

    def counting(images: np.ndarray) -> np.ndarray:
        batches.append(len(images))
        if len(batches) == 4:
            shutil.rmtree(work_folder(out))
        return run(images)

    disturbed = copy.copy(extractor)
    disturbed.engine = dataclasses.replace(extractor.engine, run=counting)
    with pytest.raises(EnvironmentProblem, match="another command that writes"):
        extract_to_file(Extraction(disturbed, found), out, QUIET)
    assert not out.exists()


@pytest.mark.parametrize("change", ["marks", "features", "pictures", "normalize"])
def test_what_is_done_counts_only_where_it_is_whole_and_the_same(
    exported: Path, extractor: Extractor, found: ImageFiles, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "f.npy"
    with open_work(out, Extraction(extractor, found)) as work:
        work.compute(QUIET)
    (folder,) = work_folder(out).iterdir()
    normalize, expected = True, 30
    if change == "marks":
        (folder / "block-00000001.json").write_text("{damaged")
        (folder / "block-00000003.json").unlink()
        expected = 12
    elif change == "features":  # the last block is cut
        os.truncate(folder / "features.f32", 29 * extractor.feature_size * 4)
        expected = 6
    elif change == "pictures":
        found.files[7] = found.files[8]
    else:
        normalize = False
    again, count = _counted(extractor)
    extract_to_file(Extraction(again, found, normalize=normalize), out, QUIET)
    assert count() == expected
    fresh = Extractor(exported, threads=1).extract(list(found.files), normalize=normalize)
    assert np.array_equal(np.load(out), fresh)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_the_shares_of_processes_make_the_whole(
    extractor: Extractor, found: ImageFiles, tmp_path: Path, world: int
) -> None:
    counted, count = _counted(extractor)
    for rank in reversed(range(world)):
        with open_work(tmp_path / "f.npy", Extraction(counted, found)) as work:
            work.compute(QUIET, rank=rank, world=world)
    assert count() == 30
    extract_to_file(Extraction(counted, found), tmp_path / "f.npy", QUIET)
    assert count() == 30
    assert np.array_equal(np.load(tmp_path / "f.npy"), extractor.extract(list(found.files)))


def test_unreadable_pictures_are_left_out_and_told_also_after_an_interruption(
    extractor: Extractor, found: ImageFiles, tmp_path: Path
) -> None:
    bad = [4, 5, 17, 29]
    for n in bad:
        (tmp_path / f"{n}.jpg").write_bytes(b"bad")
        found.files[n] = str(tmp_path / f"{n}.jpg")
    stopped, _ = _counted(extractor, stop_after=20)
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(Extraction(stopped, found), tmp_path / "f.npy", QUIET)
    written = extract_to_file(Extraction(extractor, found), tmp_path / "f.npy", QUIET)
    assert list(written.skipped) == [found.files[n] for n in bad] and written.count == 26
    assert "could not be read" in written.skipped[found.files[4]]
    kept = [file for n, file in enumerate(found.files) if n not in bad]
    assert np.array_equal(np.load(tmp_path / "f.npy"), extractor.extract(kept))
    assert [line.split("\t")[0] for line in (tmp_path / "f.tsv").read_text().splitlines()[1:]] == kept
    for n in range(30):
        found.files[n] = str(tmp_path / "4.jpg")
    with pytest.raises(DataError, match=r"none of the images could be read \(30 tried\)"):
        extract_to_file(Extraction(extractor, found), tmp_path / "none.npy", QUIET)


def test_all_kinds_of_file_hold_the_same(extractor: Extractor, found: ImageFiles, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an optional package")
    for suffix in ("npy", "npz", "jsonl", "parquet"):
        extract_to_file(Extraction(extractor, found), tmp_path / f"f.{suffix}", QUIET)
    features = np.load(tmp_path / "f.npy")
    with np.load(tmp_path / "f.npz") as data:
        assert np.array_equal(data["features"], features) and list(data["paths"]) == found.files
        assert list(data["labels"]) == found.labels
    rows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert np.array_equal(np.asarray([row["feature"] for row in rows], np.float32), features)
    table = parquet.read_table(tmp_path / "f.parquet").to_pydict()
    assert np.array_equal(np.asarray(table["feature"], np.float32), features)
    assert [row["path"] for row in rows] == table["path"] == found.files
    assert [row["label"] for row in rows] == table["label"] == found.labels


@pytest.fixture
def listed(pictures: list[Path], tmp_path: Path) -> Path:
    """1,500 lines over 30 pictures: three blocks of the real size."""
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{pictures[n % 30]}\t{n % 3}\n" for n in range(1500)))
    return path


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(exported: Path, listed: Path, tmp_path: Path) -> None:
    done = {}
    for name, devices in (("one", []), ("two", ["--devices", "cpu:2"])):
        out = tmp_path / f"{name}.npy"
        argv = ["extract", str(listed), "--model", str(exported), "--out", str(out), *devices]
        done[name] = shitu_process(*argv, cwd=tmp_path)
        assert out.read_bytes() == (tmp_path / "one.npy").read_bytes()
        assert out.with_suffix(".tsv").read_bytes() == (tmp_path / "one.tsv").read_bytes()
    assert np.load(tmp_path / "one.npy").shape[0] == 1500
    # Each line once: by the first process, or by the one that writes; nothing from the libraries.
    assert done["two"].stdout.replace("two", "one") == done["one"].stdout
    assert all(line.startswith("extracting ") for line in done["two"].stderr.splitlines())  # on a slow machine


def _until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes through /proc")
@pytest.mark.parametrize(
    "victim", ["the only one", "a process of two", pytest.param("the parent of two", marks=pytest.mark.slow)]
)
def test_after_a_kill_the_same_command_goes_on(exported: Path, listed: Path, tmp_path: Path, victim: str) -> None:
    # Three blocks, and a fourth that never comes: a pipe keeps its reader waiting until the kill.
    os.mkfifo(tmp_path / "slow.jpg")
    slow = tmp_path / "slow.txt"
    slow.write_text(listed.read_text() + "".join(f"{tmp_path / 'slow.jpg'}\t0\n" for _ in range(100)))
    out = tmp_path / "f.npy"
    devices = [] if victim == "the only one" else ["--devices", "cpu:2"]
    argv = [sys.executable, "-m", "shitu_cli", "extract", str(slow), "--model", str(exported), "--out", str(out)]
    process = subprocess.Popen([*argv, *devices], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    part = work_folder(out)
    _until(lambda: len(list(part.glob("*/block-*.json"))) >= 2, process)
    started = children_of(process.pid)
    os.kill(started[1] if victim == "a process of two" else process.pid, signal.SIGKILL)
    code, told = process.wait(timeout=60), process.stderr.read() if process.stderr else ""
    if victim == "a process of two":
        assert code == 5 and "process 1 of the run ended with signal SIGKILL" in told
        assert "the same command continues from there" in told
    assert all_end(started, 30)
    assert not out.exists()
    (tmp_path / "slow.jpg").unlink()
    (tmp_path / "slow.jpg").write_bytes(Path(listed.read_text().split("\t")[0]).read_bytes())
    marks = list(part.glob("*/block-*.json"))
    shitu_process("extract", str(slow), "--model", str(exported), "--out", str(out), *devices, cwd=tmp_path)
    assert len(marks) >= 2
    fresh = Extractor(exported).extract([line.split("\t")[0] for line in slow.read_text().splitlines()])
    assert np.array_equal(np.load(out), fresh)
    assert not part.exists()


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_the_former_file_stays(exported: Path, listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npy"
    out.write_bytes(b"former")
    argv = [sys.executable, "-m", "shitu_cli", "extract", str(listed), "--model", str(exported), "--out", str(out)]

    def limit() -> None:  # a file may hold 4 MB: the first block fits, the second does not
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 5 and f"cannot write {out}: File too large" in done.stderr
    assert "the same command continues from there" in done.stderr and out.read_bytes() == b"former"
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    assert np.load(out).shape[0] == 1500


@pytest.mark.slow
def test_strict_and_devices_that_are_not_there(exported: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    argv = ["extract", str(pictures[0]), "bad.jpg", "--model", str(exported), "--out", "f.npy"]
    done = shitu(*argv, cwd=tmp_path)
    assert "1 of 2 images could not be read and are not in f.npy" in done.stderr and "bad.jpg" in done.stderr
    done = shitu(*argv, "--strict", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "1 of 2 images could not be read" in done.stderr
    done = shitu(*argv, "--devices", "0,1", cwd=tmp_path, check=False)
    assert done.returncode == 5 and "this build of PaddlePaddle does not support GPUs" in done.stderr
    done = shitu(*argv, "--devices", "cpus", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "--devices: got 'cpus'" in done.stderr


def test_a_picture_that_was_replaced_begins_anew(extractor: Extractor, found: ImageFiles, tmp_path: Path) -> None:
    """What was computed before belongs to the picture of before."""
    for n, file in enumerate(found.files[:6]):
        copied = tmp_path / f"{n}.jpg"
        copied.write_bytes(Path(file).read_bytes())
        found.files[n] = str(copied)
    stopped, _ = _counted(extractor, stop_after=12)
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(Extraction(stopped, found), tmp_path / "f.npy", QUIET)
    (tmp_path / "0.jpg").write_bytes(Path(found.files[-1]).read_bytes())
    extract_to_file(Extraction(extractor, found), tmp_path / "f.npy", QUIET)
    features = np.load(tmp_path / "f.npy")
    assert np.array_equal(features[0], features[-1])
    assert np.array_equal(features[:1], extractor.extract([tmp_path / "0.jpg"]))
