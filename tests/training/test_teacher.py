"""`shitu train --teacher`: the features of a trained network, computed once, show the student what is alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.reader import make_part
from shitu_cli.features.extractor import Extractor
from shitu_cli.training.teacher import centred
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import SMALL, shitu

RUN = ["train", *SMALL, "--batch-size", "12", "--seed", "4", "--lr", "0.01"]


def naive(x: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """The mean over images of the cross entropy between two rankings of the others."""
    total = 0.0
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        p, q = (
            np.exp([v[i] @ v[j] / np.linalg.norm(v[i]) / np.linalg.norm(v[j]) / temperature for j in others])
            for v in (x, y)
        )
        total -= float((q / q.sum() * np.log(p / p.sum())).sum())
    return total / len(x)


def test_the_loss_is_the_cross_entropy_of_two_rankings() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5)).astype("float32"), rng.standard_normal((6, 9)).astype("float32")
    loss = make_part("loss", "TeacherLoss", teacher="any", temperature=0.3).build()
    given = {"features": paddle.to_tensor(x), "teacher": paddle.to_tensor(y)}
    assert float(loss(given, None)) == pytest.approx(naive(x, y, 0.3), rel=1e-5)
    best = float(loss({"features": given["teacher"], "teacher": given["teacher"]}, None))
    assert best < float(loss(given, None))  # lowest where both rank alike
    scaled = {"features": given["features"] * 7, "teacher": given["teacher"] * 3}
    assert float(loss(scaled, None)) == pytest.approx(naive(x, y, 0.3), rel=1e-4)  # directions count, not lengths


def test_what_all_images_have_in_common_is_taken_out() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((50, 6)).astype("float32") + 20
    features[7] = np.nan  # an image that cannot be read
    rows = np.delete(centred(features), 7, axis=0)
    rest = np.delete(features, 7, axis=0)
    expected = rest - rest.mean(0)
    assert np.allclose(rows, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)
    assert np.isnan(centred(features)[7]).all()


@pytest.mark.slow
def test_a_checkpoint_teaches_and_the_student_alone_is_saved(trained_workspace: Path) -> None:
    workspace = trained_workspace
    config = load_config(workspace / "shitu.yaml", [*SMALL[1::2]])
    (workspace / "output").rename(workspace / "taught")
    done = shitu(
        *RUN, "--epochs", "2", "--teacher", "taught/latest", "--save-every-steps", "1", "--keep", "9", cwd=workspace
    )
    assert "TeacherLoss" in done.stdout
    output = workspace / "output"
    weights = read_paddle(output / "latest.pdparams")
    plain = read_paddle(workspace / "taught" / "latest.pdparams")
    assert weights.keys() == plain.keys()  # nothing of the teacher

    middle = sorted((output / "checkpoints").glob("save_*_epoch_1_step_*.pdstates"))[0].with_suffix("")
    for path in [*output.glob("latest.*"), *output.glob("best_model.*"), *(output / "checkpoints").iterdir()]:
        if not path.name.startswith(middle.name):
            path.unlink()
    resumed = shitu("train", "--resume", cwd=workspace)  # the config beside the run names the teacher
    assert "the teacher latest: features of" in resumed.stdout and "from the cache" in resumed.stdout
    assert "to the same bits" in resumed.stdout
    now = read_paddle(output / "latest.pdparams")
    assert not [name for name, value in weights.items() if now[name].tobytes() != value.tobytes()]

    split = config.DataLoader.train
    assert split is not None
    lines = Path(split.dataset.cls_label_path).read_text().splitlines()
    files = [Path(split.dataset.image_root) / line.split("\t")[0] for line in lines]
    kept = [np.load(path) for path in (workspace / ".shitu" / "cache" / "features").glob("*.npy")]
    alone = Extractor(workspace / "taught" / "latest", config=config).extract(files[:1])[0]
    assert any(features.shape[0] == len(files) and features[0] @ alone > 0.9 for features in kept)


MISTAKES = [
    ("efficientnet-lite7", "efficientnet-lite7"),
    ("missing/model", "missing/model"),
    ("data", "data"),
]


@pytest.mark.parametrize(("teacher", "text"), MISTAKES)
def test_a_teacher_that_cannot_teach_is_refused_before_the_first_step(workspace: Path, teacher: str, text: str) -> None:
    refused = shitu(*RUN, "--epochs", "1", "--teacher", teacher, cwd=workspace, check=False)
    assert refused.returncode in (2, 3), refused.stderr
    assert text in refused.stderr
    assert not list((workspace / "output").glob("latest*"))


def test_a_teacher_is_added_to_the_losses_once(workspace: Path) -> None:
    path, flag = workspace / "shitu.yaml", "Loss.Train.+TeacherLoss.teacher"
    config = load_config(path, ["Loss.Train.TeacherLoss.weight=2"], flags={flag: "pp-shitu-v2"})
    assert [(loss.name, loss.weight) for loss in config.Loss] == [("CELoss", 1.0), ("TeacherLoss", 2.0)]
    path.write_text(
        path.read_text().replace("Train:\n    - CELoss", "Train:\n    - TeacherLoss: {teacher: ./a}\n    - CELoss")
    )
    again = load_config(path, flags={flag: "pp-shitu-v2"})
    assert [getattr(loss, "teacher", "") for loss in again.Loss] == ["pp-shitu-v2", ""]
    assert load_config(path).Loss[0].teacher == str(workspace / "a")  # type: ignore[attr-defined]
