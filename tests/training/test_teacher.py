"""`shitu train --teacher`: what a trained network knows of each view of an image, computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.reader import make_part
from shitu_cli.data.batch import Batch
from shitu_cli.features.unit_length import normalized
from shitu_cli.model import build_rec_model
from shitu_cli.model.losses import build_loss
from shitu_cli.training.projection import Scatter, discriminant
from shitu_cli.training.teacher import Teacher, prepare_student
from shitu_cli.training.teacher_targets import (
    FOLDS,
    Answers,
    SoftLabels,
    folds_of,
    projected_features,
    scatter_of_folds,
    soft_labels,
)
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import SMALL, shitu

RUN = ["train", *SMALL, "--batch-size", "12", "--seed", "4", "--lr", "0.01"]


def teacher_loss(**values: float | None) -> object:
    return make_part("loss", "TeacherLoss", teacher="any", **values)


def test_the_loss_is_the_cross_entropy_with_soft_labels_and_a_cosine() -> None:
    rng = np.random.default_rng(0)
    logits, soft = rng.standard_normal((6, 5)) * 3, rng.dirichlet(np.ones(4), 6)  # one class has no images yet
    x, seen = rng.standard_normal((6, 3)), rng.standard_normal((6, 7))
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    loss = teacher_loss(soft_labels=0.25, features=3).build()
    loss.connect(3, 7)
    given = {"logits": logits, "features": x, "teacher_labels": soft, "teacher_features": seen}
    outputs = {name: paddle.to_tensor(value.astype("float32")) for name, value in given.items()}
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    student = x @ loss.link.weight.numpy() + loss.link.bias.numpy()
    cosines = [a @ b / np.linalg.norm(a) for a, b in zip(student, seen, strict=True)]
    expected = 0.25 * -(soft * np.log(p[:, :4])).sum(1).mean() + 3 * (1 - np.mean(cosines))
    assert float(loss(outputs, None)) == pytest.approx(expected, rel=1e-5)
    alone = teacher_loss(features=0).build()
    alone.connect(3, 7)
    assert not alone.parameters()
    assert float(alone(outputs, None)) == pytest.approx(0.5 * -(soft * np.log(p[:, :4])).sum(1).mean(), rel=1e-5)


def test_labels_count_what_soft_labels_leave() -> None:
    items = [make_part("loss", "CELoss", weight=2.0), teacher_loss(soft_labels=0.25, features=0, weight=4.0)]
    logits = paddle.to_tensor(np.random.default_rng(0).standard_normal((6, 5)).astype("float32"))
    labels = paddle.arange(5)[:1].expand([6])
    same = paddle.nn.functional.one_hot(labels, 5)  # a teacher that is sure of the labels
    parts = build_loss(items)({"logits": logits, "teacher_labels": same}, labels)
    alone = float(build_loss(items[:1])({"logits": logits}, labels)["loss"]) / 2
    assert float(parts["CELoss"]) == pytest.approx(2 * 0.75 * alone, rel=1e-5)
    assert float(parts["TeacherLoss"]) == pytest.approx(4 * 0.25 * alone, rel=1e-5)


def views_of(labels: np.ndarray, count: int = 3, *, noise: float = 0.3) -> list[np.ndarray]:
    """Features [N, 6] of images that differ by class, in a few views; the last values vary in all alike."""
    rng = np.random.default_rng(1)
    places = 2 * rng.standard_normal((labels.max() + 1, 3))[labels]
    width = np.array([noise] * 3 + [1.0] * 3)
    rows = np.concatenate([places, np.zeros((len(labels), 3))], axis=1)
    return [(rows + rng.standard_normal(rows.shape) * width).astype("float32") for _ in range(count)]


def test_features_are_those_of_one_projection_of_all_views() -> None:
    labels = np.repeat(np.arange(4), 10)
    views = views_of(labels)
    views[1][7] = np.nan  # an image that could not be read then
    features = projected_features(views, scatter_of_folds(views, labels, 5))
    scatter, rest = Scatter(6, 5), np.arange(40) != 7
    for number, view in enumerate(views):
        rows = rest if number == 1 else slice(None)
        scatter.add(view[rows], labels[rows])
    expected = [normalized(discriminant(scatter)(view)) for view in views]
    assert features.shape == (3, 40, 3)
    assert not features[1, 7].any()
    half = 2.0**-12  # the rounding of what is stored in half precision
    assert np.allclose(features[1][rest], expected[1][rest], atol=1e-4 + half)
    assert np.allclose(features[2], expected[2], atol=1e-4 + half)


def soft_labels_of(views: list[np.ndarray], labels: np.ndarray, temperature: float | None) -> SoftLabels:
    return soft_labels(views, scatter_of_folds(views, labels, labels.max() + 1), labels, temperature)


def naive_soft_label(views: list[np.ndarray], labels: np.ndarray, view: int, index: int, temperature: float) -> list:
    """The probabilities of an image by all others that are not in its fold."""
    folds = folds_of(labels)
    rest = folds != folds[index]
    scatter = Scatter(6, labels.max() + 1)
    for rows in views:
        scatter.add(rows[rest], labels[rest])
    project = discriminant(scatter)
    unit = [normalized(project(rows)) for rows in views]
    means = [np.concatenate([rows[rest & (labels == c)] for rows in unit]).sum(0) for c in range(labels.max() + 1)]
    cosines = np.array([unit[view][index] @ mean / max(np.linalg.norm(mean), 1e-12) for mean in means])
    return (np.exp(cosines / temperature) / np.exp(cosines / temperature).sum()).tolist()


def test_soft_labels_are_of_a_projection_that_does_not_know_the_image() -> None:
    labels = np.random.default_rng(2).permutation(np.r_[np.repeat(np.arange(4), 10), 4])  # one image is its whole class
    views = views_of(labels)
    targets = soft_labels_of(views, labels, 0.2)
    alone = int(np.flatnonzero(labels == 4)[0])
    indices = np.array([3, alone, 17, 0])
    answers = targets(2, indices)
    for answer, index in zip(answers, indices, strict=True):
        assert answer == pytest.approx(naive_soft_label(views, labels, 2, int(index), 0.2), abs=1e-3)
    right = (targets(0, np.arange(41)).argmax(1) == labels).mean()
    assert 0.75 < right == targets.accuracy(labels) < 1
    views[2][17] = np.nan
    assert soft_labels_of(views, labels, 0.2)(2, indices)[2] == pytest.approx([0.2] * 5)  # it knows nothing of it


def test_each_class_is_in_all_folds() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), FOLDS * 2))
    folds = folds_of(labels)
    assert all(sorted(folds[labels == c]) == sorted([*range(FOLDS)] * 2) for c in range(3))


def test_a_teacher_that_is_often_wrong_gets_a_higher_temperature() -> None:
    labels = np.repeat(np.arange(4), 12)
    sure, unsure = (soft_labels_of(views_of(labels, noise=noise), labels, None).temperature for noise in (0.1, 2.0))
    assert sure < unsure


def test_a_student_is_compared_with_the_answers_for_the_view_of_a_batch() -> None:
    head = {"name": "CosMargin", "embedding_size": 1280, "class_num": 3}
    backbone = {"name": "PPLCNet_x0_25"}
    model = build_rec_model({"Backbone": backbone, "BackboneStopLayer": {"name": "flatten"}, "Head": head})
    labels, loss = np.array([0, 1, 1, 2]), build_loss([teacher_loss()])
    views = views_of(labels)
    soft = soft_labels_of(views, labels, None)
    teacher = Teacher("", Answers(np.stack(views), soft))
    prepare_student(model, loss, teacher)
    assert model.head.needs_all_logits  # very many classes are not fused, as all of their logits are needed
    assert loss.parts[0].link.weight.shape == [1280, 6]
    answers = teacher(Batch(np.zeros(0), labels, np.array([2, 0]), 1))
    assert np.array_equal(answers["teacher_features"].numpy(), views[1][[2, 0]])
    assert np.array_equal(answers["teacher_labels"].numpy(), soft(1, np.array([2, 0])))


@pytest.mark.slow
def test_a_checkpoint_teaches_and_the_student_alone_is_saved(
    trained_workspace: Path, make_images: Callable[..., object]
) -> None:
    workspace = trained_workspace
    (workspace / "output").rename(workspace / "taught")
    make_images(workspace / "more", classes=6, per_class=3, seed=1)
    done = shitu(
        *RUN, "--epochs", "2", "--teacher", "taught/latest", "-o", "Loss.Train.TeacherLoss.views=2",
        "--unlabelled", "more", "--save-every-steps", "1", "--keep", "9", cwd=workspace,
    )  # fmt: skip
    assert "TeacherLoss" in done.stdout and "the teacher recognises" in done.stdout
    assert "12 more images in each batch, of 18 without labels" in done.stdout
    output = workspace / "output"
    weights = read_paddle(output / "latest.pdparams")
    plain = read_paddle(workspace / "taught" / "latest.pdparams")
    assert weights.keys() == plain.keys()  # nothing of the teacher
    link = read_paddle(output / "latest.pdtrain")["loss.parts.1.link.weight"]
    assert link.shape == (1280, 5)  # from the student's feature to six classes of the teacher

    middle = sorted((output / "checkpoints").glob("save_*_epoch_1_step_*.pdstates"))[0].with_suffix("")
    for path in [*output.glob("latest.*"), *output.glob("best_model.*"), *(output / "checkpoints").iterdir()]:
        if not path.name.startswith(middle.name):
            path.unlink()
    resumed = shitu("train", "--resume", cwd=workspace)  # the config beside the run names teacher and images
    assert "the teacher latest, view 2 of 2: features of" in resumed.stdout and "from the cache" in resumed.stdout
    assert "exactly as without the interruption" in resumed.stdout
    now = read_paddle(output / "latest.pdparams")
    assert not [name for name, value in weights.items() if now[name].tobytes() != value.tobytes()]
    assert read_paddle(output / "latest.pdtrain")["loss.parts.1.link.weight"].tobytes() == link.tobytes()


@pytest.mark.slow
def test_several_processes_see_with_the_teacher_what_one_does(
    workspace: Path, exported: Path, make_images: Callable[..., object]
) -> None:
    make_images(workspace / "more", classes=6, per_class=2, seed=1)
    taught = [*RUN, "--epochs", "1", "--teacher", str(exported), "-o", "Loss.Train.TeacherLoss.views=2"]
    taught += ["--unlabelled", "more"]
    cache = workspace / ".shitu" / "cache" / "features"
    shitu(*taught, cwd=workspace)
    alone = {path.name: path.read_bytes() for path in cache.iterdir()}
    for path in cache.iterdir():
        path.unlink()
    shitu(*taught, "--devices", "cpu:2", cwd=workspace)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == alone
    assert len(alone) == 4  # two views of the images with labels and of those without


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_left_out_with_a_teacher_too(workspace: Path, exported: Path) -> None:
    first = (workspace / "lists" / "train_list.txt").read_text().split("\t")[0]
    (workspace / "data" / first).write_bytes(b"no image")
    done = shitu(
        *RUN, "--epochs", "1", "--teacher", str(exported), "-o", "Loss.Train.TeacherLoss.views=2",
        "-o", "DataLoader.Train.dataset.on_error=skip", cwd=workspace,
    )  # fmt: skip
    assert "training without 1 image that could not be read" in done.stdout + done.stderr
    assert np.isfinite(read_paddle(workspace / "output" / "latest.pdtrain")["loss.parts.1.link.weight"]).all()


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


CHANGES = [
    ("Arch.Head.sample_ratio=0.5", "needs the logits of all classes, but Arch.Head.sample_ratio leaves some out"),
    ("Arch.Head=null", "needs the logits of all classes, but there is no Arch.Head"),
    ("Loss.Train.TeacherLoss.soft_labels=0; Loss.Train.TeacherLoss.features=0", "nothing is learnt from the teacher"),
    ("Loss.Train=[{TeacherLoss: {teacher: a}}, {TeacherLoss: {teacher: b}}]", "several losses name a teacher"),
]


@pytest.mark.parametrize(("change", "text"), CHANGES)
def test_what_cannot_be_learnt_is_refused(workspace: Path, change: str, text: str) -> None:
    changes = [word for key in change.split("; ") for word in ("-o", key)]
    teacher = () if "teacher: a" in change else ("--teacher", "pp-shitu-v2")
    refused = shitu(*RUN, "--epochs", "1", *teacher, *changes, cwd=workspace, check=False)
    assert refused.returncode == 4, refused.stderr
    assert text in refused.stderr


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
