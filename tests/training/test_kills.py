"""`train`, `evaluate` and `export` killed at random moments, on one process and on two: the old or the new, whole."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.files import sha256_of
from shitu_cli.inputs import read_json
from shitu_cli.training.checkpoint import BEST, LATEST, has_checkpoint, load_checkpoint
from tests.kills import Fork, Warm, kill_at_random, kills, moments, warm  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
XBM = "{weight: 0.5, start_iter: 2, xbm_size: 24, xbm_weight: 1.0, embedding_size: 1280}"
NETWORK = ["-o", "Arch.Backbone.name=PPLCNet_x0_25", "--batch-size", "5"]
RUN = [
    *("train", *NETWORK, "-o", "EMA.decay=0.9", "-o", "Global.eval_interval=1", "--save-every-steps", "2"),
    *("-o", f"Loss.Train=[{{CELoss: {{weight: 1.0}}}}, {{ContrastiveLoss_XBM: {XBM}}}]"),
]
PROCESSES = {1: [], 2: ["--devices", "cpu:2"]}


def contents(prefix: Path) -> dict[str, bytes]:
    """Every array of a checkpoint, and what its evaluations found."""
    saved = load_checkpoint(prefix)
    arrays = {
        **saved.training,
        **saved.optimizer,
        **{f"weights {name}": value for name, value in saved.weights.items()},
    }
    found = {name: value.tobytes() for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return {**found, "evaluations": repr(saved.state.evaluations).encode()}


@pytest.mark.parametrize("processes", PROCESSES)
def test_train_loses_nothing(workspace: Path, processes: int, warm: Warm) -> None:  # noqa: F811
    """Resumed after each kill, a run comes to the same bits as without; the run before it stays whole."""
    output, rng, trials = workspace / "output", moments(f"train {processes}"), kills(8)
    run = [*RUN, *PROCESSES[processes]]
    warm.shitu(*run, "--epochs", "1", "--seed", "1", folder=workspace).succeeds()
    earlier = {name: contents(output / name) for name in (LATEST, BEST)}
    shutil.copytree(output, workspace / "before")
    new = [*run, "--epochs", "3", "--seed", "5"]
    began, running = time.monotonic(), warm.shitu(*new, folder=workspace)
    running.succeeds()
    whole, changes = time.monotonic() - began, running.changes()
    wanted = {name: contents(output / name) for name in (LATEST, BEST)}
    killed = rounds = 0
    while killed < trials:
        shutil.rmtree(output)
        shutil.copytree(workspace / "before", output)
        rounds += 1
        for _ in range(100):
            begun = bool(list((output / "earlier").glob("001*")))
            change = rng.randint(1, changes) if killed % 2 else None
            running = warm.shitu(*new, *(["--resume"] if begun else []), folder=workspace, kill_before=change)
            # A resumed run is shorter: its end is within four fifths too.
            if not running.ends(300 if change else rng.uniform(0, 0.8 * whole)):
                running.kill(rng)
            elif running.code != -signal.SIGKILL:
                running.succeeds()
                break
            killed += 1
            assert_nothing_lost(output, earlier)
        assert {name: contents(output / name) for name in (LATEST, BEST)} == wanted
        assert {name: contents(output / "earlier/001" / name) for name in (LATEST, BEST)} == earlier
    print(
        f"\ntrain on {processes} processes: {killed} kills in {rounds} runs of {whole:.2f} s and {changes} "
        "changes to the same bits"
    )


def assert_nothing_lost(output: Path, earlier: dict[str, dict[str, bytes]]) -> None:
    """What can be resumed is whole, and the model of the run before is here or set aside."""
    assert has_checkpoint(output / LATEST)
    load_checkpoint(output / LATEST)
    if list((output / "earlier").glob("*.moving")):
        return  # the next command completes it, which the end of this test looks at
    old = output / "earlier/001" if (output / "earlier/001").is_dir() else output
    for name, values in earlier.items():
        assert contents(old / name) == values


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory, prepared: Path, warm: Warm) -> Path:  # noqa: F811
    """A workspace with a second model, and with the report and the export of the first one; to be copied."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("two"), dirs_exist_ok=True)
    for words in (
        ("train", *NETWORK, "--epochs", "1", "--seed", "1"),
        ("evaluate",),
        ("export", "--out", "inference/"),
        ("train", *NETWORK, "--epochs", "1", "--seed", "2"),
    ):
        warm.shitu(*words, folder=folder).succeeds()
    return folder


def report(workspace: Path) -> tuple[bytes, bytes]:
    """The last evaluation for programs and for people, without the time on the page."""
    page = (workspace / "reports/evaluate.html").read_bytes()
    return (workspace / "reports/evaluate.json").read_bytes(), re.sub(
        rb'<p class="note" id="about-page">.*?</p>', b"", page
    )


@pytest.mark.parametrize("processes", PROCESSES)
def test_evaluate(two_models: Path, tmp_path: Path, processes: int, warm: Warm) -> None:  # noqa: F811
    workspace = shutil.copytree(two_models, tmp_path / "ws")
    words, old = ["evaluate", *PROCESSES[processes]], report(workspace)
    warm.shitu(*words, folder=workspace).succeeds()
    new = report(workspace)
    assert old[0] != new[0] and old[1] != new[1]

    def restore() -> None:
        for name in ("reports", ".shitu"):
            shutil.rmtree(workspace / name)
            shutil.copytree(two_models / name, workspace / name)

    def state() -> str:
        warm.shitu(folder=workspace).succeeds()  # any command completes what a kill has interrupted
        now = report(workspace)
        assert now in (old, new), "a mixture"
        return "old" if now == old else "new"

    name = f"evaluate on {processes} processes"
    kill_at_random(
        name, lambda change: warm.shitu(*words, folder=workspace, kill_before=change), restore, state, trials=kills(8)
    )


def test_export(two_models: Path, tmp_path: Path, warm: Warm) -> None:  # noqa: F811
    workspace = shutil.copytree(two_models, tmp_path / "ws")
    out, best = workspace / "inference", sha256_of(workspace / "output/best_model.pdparams")

    def restore() -> None:
        shutil.rmtree(out)
        shutil.copytree(two_models / "inference", out)

    def state() -> str:
        manifest = read_json(out / "manifest.json")
        assert {file.name for file in out.iterdir()} == {*manifest["files"], "manifest.json"}
        assert all(sha256_of(out / name) == digest for name, digest in manifest["files"].items())
        return "new" if manifest["source"]["sha256"] == best else "old"

    def export(change: int | None) -> Fork:
        return warm.shitu("export", "--out", "inference/", folder=workspace, kill_before=change)

    kill_at_random("export", export, restore, state, trials=kills(4))
    export(None).succeeds()
    assert not [path.name for path in workspace.iterdir() if path.name.startswith(".inference")]
