"""What a run remembers besides its weights goes on after a resume: average, cross-batch memory, plateau, scaler."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.saving import in_types_of
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import SMALL, shitu

XBM = "{weight: 0.5, start_iter: 2, xbm_size: 24, xbm_weight: 1.0, embedding_size: 1280}"
PLATEAU = "{name: ReduceOnPlateau, learning_rate: 0.02, factor: 0.5, patience: 0, threshold: 0.5}"  # falls every epoch
RUN = [
    *("train", *SMALL, "--epochs", "3", "--batch-size", "8", "--seed", "5", "-o", "Global.print_batch_step=1"),
    *("-o", f"Loss.Train=[{{CELoss: {{weight: 1.0}}}}, {{ContrastiveLoss_XBM: {XBM}}}]"),
    *("-o", f"Optimizer.lr={PLATEAU}"),
]
SAVING = ["--save-every-steps", "1", "--keep", "100", "-o", "EMA.decay=0.9"]


def parts(prefix: Path) -> dict[str, dict[str, np.ndarray]]:
    return {part: read_paddle(f"{prefix}.{part}") for part in ("pdparams", "pdopt", "pdtrain")}


def rates(log: Path) -> list[float]:
    return [float(rate) for rate in re.findall(r"lr ([\d.e-]+),", log.read_text())]


def test_average_memory_and_plateau_continue_to_the_same_bits(workspace: Path) -> None:
    output, kept = workspace / "output", workspace / "kept"
    shitu(*RUN, *SAVING, cwd=workspace)
    whole, state = parts(output / "latest"), json.loads((output / "latest.pdstates").read_text())["state"]
    inside = sorted((output / "checkpoints").glob("save_*_epoch_2_step_*.pdstates"))[1].with_suffix("")
    output.rename(kept)
    output.mkdir()
    for path in (kept / "checkpoints").glob(f"{inside.name}.*"):
        shutil.copy(path, output / f"latest{path.suffix}")
    # What is left out would start again as something else than it is here.
    then, header = parts(output / "latest"), json.loads((output / "latest.pdstates").read_text())
    assert header["state"]["step_in_epoch"] > 0
    name = "backbone.conv1.conv.weight"
    assert not np.array_equal(then["pdparams"][name], then["pdtrain"][f"model.{name}"])
    memory = [key for key in then["pdtrain"] if key.startswith("loss.") and key.endswith("memory_labels")]
    assert len(memory) == 1 and (then["pdtrain"][memory[0]] >= 0).any()
    assert min(rates(kept / "train.log")) < 0.02 and header["state"]["schedule"]

    done = shitu(*RUN, *SAVING, "--resume", cwd=workspace)
    assert "exactly as without the interruption" in done.stdout + done.stderr
    again = parts(output / "latest")
    for part, arrays in whole.items():
        assert arrays.keys() == again[part].keys()
        for key, value in arrays.items():
            other = again[part][key]
            same = value.tobytes() == other.tobytes() if isinstance(value, np.ndarray) else value == other
            assert same, (part, key)
    now = json.loads((output / "latest.pdstates").read_text())["state"]
    for field in ("schedule", "ema_updates", "rng", "global_step", "best_score", "epoch_losses"):
        assert now[field] == state[field], field


@pytest.mark.slow
def test_processes_lower_the_rate_together(workspace: Path) -> None:
    shitu(*RUN, "--devices", "cpu:2", cwd=workspace)
    first, second = (rates(workspace / f"output/{name}") for name in ("train.log", "train.rank1.log"))
    assert first == second and min(first) <= 0.02 * 0.5


def test_the_scaler_comes_back_in_its_own_types() -> None:
    """On the CPU there is no scaler: its state has the shape that Paddle gives it on a GPU."""
    saved = {"scale": np.array([2048.0], np.float32), "incr_count": 7, "decr_ratio": 0.5, "use_dynamic": True}
    state = LoopState(scaler={key: float(np.asarray(value).reshape(-1)[0]) for key, value in saved.items()})
    fresh = {"scale": np.array([1024.0], np.float32), "incr_count": 0, "decr_ratio": 0.5, "use_dynamic": True}
    loaded = in_types_of(fresh, LoopState.from_json(json.loads(json.dumps(state.to_json()))).scaler)
    assert loaded == saved and {key: type(v) for key, v in loaded.items()} == {k: type(v) for k, v in saved.items()}
    assert loaded["scale"].dtype == np.float32
