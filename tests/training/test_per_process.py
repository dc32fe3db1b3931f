"""What each of several processes keeps for itself survives a resume, and an evaluation leaves it alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu_cli.config.parts import KINDS
from shitu_cli.config.parts.heads import AdaMargin
from shitu_cli.config.reader import make_part
from shitu_cli.model.losses import build_loss
from shitu_cli.processes.collectives import Ranks
from shitu_cli.runtime.threads import THREADS
from shitu_cli.training.per_process import evaluating, gather_own, own_arrays, own_tensors
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import shitu_process as shitu
from tests.parts import loss_arguments, loss_item

SIZE, CLASSES = 8, 6


class TwoRanks(Ranks):
    """The first of two processes; what it receives from the second is what it has itself, plus one."""

    world = 2

    def gather_array(self, rows: np.ndarray, counts: object) -> np.ndarray | None:
        return np.concatenate([rows, rows + 1])

    def broadcast_tensors(self, tensors: object) -> None:
        for tensor in tensors:  # type: ignore[attr-defined]
            tensor.set_value(tensor + 1)


def arrays(layer: nn.Layer) -> dict[str, np.ndarray]:
    return {name: np.array(tensor.numpy()) for name, tensor in layer.state_dict().items()}


def changed(layer: nn.Layer, before: dict[str, np.ndarray]) -> set[str]:
    return {name for name, value in arrays(layer).items() if value.tobytes() != before[name].tobytes()}


@pytest.mark.parametrize("name", sorted(KINDS["loss"].parts))
def test_all_that_a_loss_writes_is_its_own_state(name: str) -> None:
    loss = build_loss([loss_item(name, 1.0, loss_arguments(name, size=SIZE, classes=CLASSES))])
    before, labels = arrays(loss), paddle.to_tensor([0, 1, 1, 5])
    x = paddle.randn([4, SIZE])
    outputs = {"features": x, "backbone": x, "logits": paddle.randn([4, CLASSES])}
    loss({**outputs, "networks": {"Student": outputs}, "teacher_labels": paddle.rand([4, CLASSES])}, labels)
    written = changed(loss, before)
    assert written <= own_tensors(loss).keys() and bool(written) == name.endswith("_XBM")


@pytest.mark.parametrize("name", sorted(KINDS["head"].parts))
def test_all_that_a_head_writes_is_its_own_state(name: str) -> None:
    options = {"CircleMargin": {"margin": 0.3, "scale": 30.0}, "AdaMargin": {"t_alpha": 0.5}}.get(name, {})
    head = make_part("head", name, embedding_size=SIZE, class_num=CLASSES, **options).build()
    before = arrays(head)
    head(paddle.randn([4, SIZE]), paddle.to_tensor([0, 1, 1, 5]))
    assert changed(head, before) <= own_tensors(head).keys()


def test_a_checkpoint_holds_it_for_every_process() -> None:
    model, loss = (
        nn.Sequential(nn.BatchNorm1D(3)),
        build_loss(
            [loss_item("ContrastiveLoss_XBM", 1.0, loss_arguments("ContrastiveLoss_XBM", size=SIZE, classes=CLASSES))]
        ),
    )
    saved, second = gather_own(model, loss, TwoRanks()), Ranks()
    assert set(saved) == {f"rank1.model.0.{name}" for name in ("_mean", "_variance")} | {
        f"rank1.loss.parts.0.{name}" for name in ("memory", "memory_labels", "memory_count")
    }
    second.rank = 1
    assert own_arrays(saved, "model.", second)["0._variance"].tolist() == [2.0, 2.0, 2.0]
    assert own_arrays(saved, "loss.", second)["parts.0.memory_labels"].tolist() == [0] * 20
    assert own_arrays(saved, "loss.", Ranks()) == {}


def test_an_evaluation_shares_statistics_of_norms_alone_and_puts_them_back() -> None:
    model = nn.Sequential(nn.BatchNorm1D(SIZE), AdaMargin(SIZE, CLASSES).build(), nn.ReLU())
    model[2].eval()  # a layer that training holds in evaluation mode stays there
    before = arrays(model)
    with evaluating(model, TwoRanks()):
        assert changed(model, before) == {"0._mean", "0._variance"}
        assert not any(layer.training for layer in model.sublayers(include_self=True))
    assert changed(model, before) == set()
    assert [layer.training for layer in model] == [True, True, False]


MEMORY = "{weight: 0.3, start_iter: 1, xbm_size: 12, xbm_weight: 1.0, %s: 16}"
LOSS = (
    "[{CELoss: {weight: 1.0}}"
    f", {{ContrastiveLoss_XBM: {MEMORY % 'embedding_size'}}}, {{TripletAngularMarginLoss_XBM: {MEMORY % 'feat_dim'}}}"
    ", {CenterLoss: {weight: 0.01, num_classes: 6, feat_dim: 16}}"
    ", {ProxyAnchor: {weight: 0.1, num_classes: 6, feat_dim: 16}}]"
)
RUN = [
    *("train", "--devices", "cpu:2", "--epochs", "2", "--batch-size", "5", "--seed", "3", "--lr", "0.02"),
    *("-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_interval=1", "-o", f"Loss.Train={LOSS}"),
    *("-o", "Arch.Neck={name: FC, embedding_size: 1280, class_num: 16}"),
    *("--save-every-steps", "1", "--keep", "100"),
]
HEAD = "{name: AdaMargin, embedding_size: 16, class_num: 6, t_alpha: 0.3, m: 0.1, s: 16}"
NETWORK = (
    "{Backbone: {name: PPLCNet_x0_25}, BackboneStopLayer: {name: flatten}, Neck: {name: FC, embedding_size: 1280, "
    f"class_num: 16}}, Head: {HEAD}}}"
)
NETWORKS = f"{{name: DistillationModel, models: [{{Teacher: {NETWORK}}}, {{Student: {NETWORK}}}]}}"
BETWEEN = (
    ", {DistillationGTCELoss: {model_names: [Teacher]}}"
    ", {DistillationDMLLoss: {model_name_pairs: [[Student, Teacher]]}}]"
)
SAMPLED = "{name: ArcMargin, embedding_size: 16, class_num: 6, sample_ratio: 0.5, margin: 0.1, scale: 16}"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            ["-o", f"Arch={NETWORKS}", "-o", f"Loss.Train={LOSS.removesuffix(']')}{BETWEEN}"],
            id="two networks, AdaMargin and all losses with state",
            marks=pytest.mark.slow,
        ),
        pytest.param(["-o", f"Arch.Head={SAMPLED}", "-o", "EMA.decay=0.8"], id="sampled", marks=pytest.mark.slow),
    ],
)
def test_two_processes_resume_to_the_bit_and_evaluation_changes_nothing(workspace: Path, options: list[str]) -> None:
    output = workspace / "output"
    shitu(*RUN, *options, cwd=workspace)
    whole = parts(output / "latest")
    rings = [whole["pdtrain"][f"{prefix}loss.parts.1.memory"] for prefix in ("", "rank1.")]
    assert np.abs(rings[0] - rings[1]).max() > 0.01  # the processes have seen other images
    inside = sorted((output / "checkpoints").glob("save_*_epoch_1_step_*.pdstates"))[-1].with_suffix("")
    assert json.loads(inside.with_suffix(".pdstates").read_text())["state"]["step_in_epoch"] > 0
    keep_only(output, inside)
    done = shitu(*RUN, *options, "--resume", cwd=workspace)
    assert "exactly as without the interruption" in done.stdout
    assert_same(parts(output / "latest"), whole)
    shutil.rmtree(output)
    shitu(*RUN, *options, "--eval-during-train", "false", cwd=workspace)
    assert_same(parts(output / "latest"), whole)


ALONE = [
    *("train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_interval=1", "-o", "EMA.decay=0.9"),
    *("--epochs", "2", "--batch-size", "5", "--seed", "5"),
]
OTHER_ENGINES = """
import sys, tempfile
from pathlib import Path
import numpy as np
from shitu_cli.runtime.setup import setup_paddle
setup_paddle("cpu", threads=1)
import shitu_cli.model.kernels.loops
from shitu_cli.deployment.onnx_model import write_onnx_model
from shitu_cli.features.backends import ways_in
from shitu_cli.model import build_rec_model
from shitu_cli.model.tracing import write_paddle_model
model = build_rec_model({"Backbone": {"name": "PPLCNet_x0_25"}, "BackboneStopLayer": {"name": "flatten"}})
images = np.random.default_rng(0).standard_normal((9, 3, 64, 64)).astype(np.float32)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    for form in ("pir", "pdmodel"):
        write_paddle_model(model, folder / "inference", form=form)
    write_onnx_model(folder / "inference.pdmodel", folder / "inference.onnx")
    features = [way.open(folder, threads=3)(images) for way in ways_in(folder)]
import faiss
faiss.omp_set_num_threads(1)
index = faiss.IndexFlatIP(features[0].shape[1])
index.add(features[0])
index.search(features[0], 2)
from shitu_cli.__main__ import main
main()
"""


@pytest.mark.slow
def test_one_process_on_two_threads_trains_to_the_same_bits_whatever_else_it_computes(workspace: Path) -> None:
    """With online evaluation, without, and after every engine there is has run in the process, on other threads."""
    two = {THREADS: "2"}
    shitu(*ALONE, "--eval-during-train", "false", cwd=workspace, env=two)
    plain = parts(workspace / "output/latest")
    shitu(*ALONE, cwd=workspace, env=two)
    assert_same(parts(workspace / "output/latest"), plain)
    words = [sys.executable, "-c", OTHER_ENGINES, *ALONE, "--eval-during-train", "false"]
    subprocess.run(words, cwd=workspace, env={**os.environ, **two}, check=True, capture_output=True)
    assert_same(parts(workspace / "output/latest"), plain)


def parts(prefix: Path) -> dict[str, dict[str, np.ndarray]]:
    return {part: read_paddle(f"{prefix}.{part}") for part in ("pdparams", "pdopt", "pdtrain")}


def keep_only(output: Path, save: Path) -> None:
    """Make an output directory that of a run killed after this save."""
    for path in [*output.glob("latest.*"), *output.glob("best_model.*"), *output.glob("checkpoints/*")]:
        if not path.name.startswith(save.name):
            path.unlink()
    for path in list((output / "checkpoints").iterdir()):
        shutil.copy(path, output / f"latest{path.suffix}")


def assert_same(found: dict[str, dict[str, np.ndarray]], wanted: dict[str, dict[str, np.ndarray]]) -> None:
    for part, values in wanted.items():
        assert values.keys() == found[part].keys()
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                assert value.tobytes() == found[part][name].tobytes(), (part, name)
