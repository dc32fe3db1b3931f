"""`shitu train --teacher --unlabelled`: which images without labels count, and what a step learns from them."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.reader import make_part
from shitu_cli.data.batch import Batch
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.loader import BatchLoader, MixedLoader
from shitu_cli.data.samplers import Feed, Repeated, build_sampler
from shitu_cli.data.views import Views
from shitu_cli.errors import ConfigError, UsageError
from shitu_cli.features.unit_length import normalized
from shitu_cli.model import build_rec_model
from shitu_cli.model.losses import build_loss
from shitu_cli.processes.collectives import Ranks
from shitu_cli.training.projection import Scatter, discriminant
from shitu_cli.training.teacher import Teacher, find_teacher
from shitu_cli.training.teacher_targets import (
    Answers,
    SoftLabels,
    centers_of,
    projected_features,
    scatter_of_folds,
)
from shitu_cli.training.unlabelled import Unlabelled, batches_of, find_unlabelled
from tests.command import SMALL, shitu

LOSS = {"name": "TeacherLoss", "teacher": "any"}


def test_labels_see_the_labelled_images_alone_and_the_teacher_all() -> None:
    rng = np.random.default_rng(0)
    logits, soft, x, seen = (rng.standard_normal((7, n)).astype("float32") for n in (3, 3, 4, 5))
    soft, seen, labels = np.exp(soft) / np.exp(soft).sum(1, keepdims=True), normalized(seen), np.array([0, 2, 0, 2])
    items = [
        make_part("loss", "CELoss"),
        make_part("loss", "TripletLossV2", weight=0.7),
        make_part("loss", "TeacherLoss", teacher="any", soft_labels=0.4, features=3.0, unlabelled="any"),
    ]
    loss = build_loss(items)
    loss.parts[2].connect(4, 5)
    tensors = {"logits": logits, "features": x, "teacher_labels": soft, "teacher_features": seen}
    given = {name: paddle.to_tensor(value) for name, value in tensors.items()}
    values = {name: float(value) for name, value in loss(given, paddle.to_tensor(labels)).items()}

    log_p = np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    student = normalized(x @ loss.parts[2].link.weight.numpy() + loss.parts[2].link.bias.numpy())
    total = 0.0  # of what each image contributes
    for n in range(7):
        guessed = -(soft[n] * log_p[n]).sum()
        total += 3 * (1 - student[n] @ seen[n])
        total += 0.6 * -log_p[n, labels[n]] + 0.4 * guessed if n < 4 else guessed
    alone = {name: value[:4] for name, value in given.items()}
    triplets = 4 * float(build_loss(items[1:2])(alone, paddle.to_tensor(labels))["loss"])
    assert values["loss"] == pytest.approx((total + triplets) / 7, rel=1e-5)
    assert values["CELoss"] == pytest.approx(0.6 * -log_p[np.arange(4), labels].sum() / 7, rel=1e-5)


def test_processes_with_other_shares_of_labels_learn_what_one_would() -> None:
    rng = np.random.default_rng(1)
    items = [make_part("loss", "CELoss"), make_part("loss", "TeacherLoss", teacher="any", features=0)]
    loss, labels = build_loss(items), np.array([0, 2, 1])
    logits, soft = rng.standard_normal((8, 3)).astype("float32"), rng.dirichlet(np.ones(3), 8).astype("float32")

    def of(rows: list[int], count: int) -> float:
        given = {"logits": paddle.to_tensor(logits[rows]), "teacher_labels": paddle.to_tensor(soft[rows])}
        return float(loss(given, paddle.to_tensor(labels[rows[:count]]))["loss"])

    parts = [([0, 3, 4], 1), ([1, 2, 5, 6, 7], 2)]  # images 0 to 2 have labels
    assert sum(len(rows) * of(rows, count) for rows, count in parts) / 8 == pytest.approx(of([*range(8)], 3), rel=1e-5)


def test_images_without_labels_get_logits_without_a_margin() -> None:
    head = {"name": "ArcMargin", "embedding_size": 1280, "class_num": 3, "margin": 0.4, "scale": 16}
    model = build_rec_model(
        {"Backbone": {"name": "PPLCNet_x0_25"}, "BackboneStopLayer": {"name": "flatten"}, "Head": head}
    )
    images, labels = paddle.randn([5, 3, 32, 32]), paddle.to_tensor([0, 2])
    model.train()
    outputs = model(images, labels)
    x = outputs["features"]
    cosines = 16 * F.normalize(x, axis=1) @ F.normalize(model.head.weight, axis=0)
    assert np.allclose(outputs["logits"][2:].numpy(), cosines[2:].numpy(), atol=1e-4)
    assert np.allclose(outputs["logits"][:2].numpy(), model.head(x[:2], labels).numpy())
    assert (outputs["logits"].numpy() < cosines.numpy() - 0.1).sum() == 2  # where the labels are


def test_the_teacher_judges_other_images_by_what_all_labels_say() -> None:
    rng, labels = np.random.default_rng(1), np.repeat(np.arange(4), 10)
    places = np.pad(2 * rng.standard_normal((4, 3)), ((0, 0), (0, 3)))
    views = [(places[labels] + rng.standard_normal((40, 6)) * 0.5).astype("float32") for _ in range(2)]
    others = [(places[[2, 0, 3]] + rng.standard_normal((3, 6)) * 0.5).astype("float32") for _ in range(2)]
    scatters = scatter_of_folds(views, labels, 4)
    projected, more = projected_features(views, scatters), projected_features(iter(others), scatters)
    guesses = SoftLabels(more, centers_of(projected, labels, 4), np.zeros(3, np.int64), 0.2)
    teacher = Teacher("", Answers(projected, None), Answers(more, guesses))

    scatter = Scatter(6, 4)
    for view in views:
        scatter.add(view, labels)
    project = discriminant(scatter)
    means = np.stack([sum(normalized(project(view))[labels == c].sum(0) for view in views) for c in range(4)])
    cosines = normalized(project(others[1])) @ normalized(means).T
    expected = np.exp(cosines / 0.2) / np.exp(cosines / 0.2).sum(1, keepdims=True)
    assert guesses(1, np.array([2, 0])) == pytest.approx(expected[[2, 0]], abs=2e-3)

    batch = Batch(np.zeros(0), labels[:1], np.array([5]), 0, Batch(np.zeros(0), labels[:2], np.array([2, 0]), 1))
    seen = teacher(batch)["teacher_features"].numpy()  # those of the batch, then those without labels
    assert np.array_equal(seen, np.concatenate([projected[0, [5]], more[1, [2, 0]]]).astype("float32"))


def config_with(workspace: Path, source: Path, *changes: str) -> object:
    flags = {"Loss.Train.+TeacherLoss.teacher": "pp-shitu-v2", "Loss.Train.+TeacherLoss.unlabelled": str(source)}
    return load_config(workspace / "shitu.yaml", changes, flags=flags)


def found(workspace: Path, source: Path) -> Unlabelled:
    config = config_with(workspace, source)
    unlabelled = find_unlabelled(config, find_teacher(config), 0)  # type: ignore[arg-type]
    assert unlabelled is not None
    return unlabelled


def names_of(unlabelled: Unlabelled) -> list[str]:
    dataset = unlabelled.dataset
    return sorted(
        Path(dataset.location(n)).relative_to(dataset.list_path.parents[3]).as_posix() for n in range(len(dataset))
    )


@pytest.fixture
def more(workspace: Path) -> Path:
    """Four images that are in no list; a link, a path and a copy of some that are."""
    listed = {
        name: (workspace / "lists" / f"{name}_list.txt").read_text().split("\t")[0] for name in ("train", "query")
    }
    folder = workspace / "more"
    (folder / "deep").mkdir(parents=True)
    first = (workspace / "data" / listed["train"]).read_bytes()
    for n in range(4):
        (folder / "deep" / f" {n}.jpg").write_bytes(first + bytes([n]))  # of one size, and an odd name
    (folder / "copy.jpg").write_bytes((workspace / "data" / listed["query"]).read_bytes())
    (folder / "link.jpg").symlink_to(workspace / "data" / listed["train"])
    return folder


def test_images_of_the_lists_and_copies_of_them_are_left_out(workspace: Path, more: Path) -> None:
    unlabelled = found(workspace, more)
    assert names_of(unlabelled) == [f"more/deep/ {n}.jpg" for n in range(4)]
    assert unlabelled.left_out == {"query": 1, "train": 1}
    text = unlabelled.described(3)
    assert "3 more images in each batch, of 4 without labels" in text and "1 of the query list" in text

    whole = found(workspace, workspace)  # with the folder of the lists' own images
    assert (
        names_of(whole) == names_of(unlabelled) and sum(whole.left_out.values()) == 49
    )  # a link is one with its target
    with pytest.raises(UsageError, match=r"all 48 images of .* are in lists already"):
        found(workspace, workspace / "data")


def test_a_list_of_paths_will_do(workspace: Path, more: Path) -> None:
    path = more / "mine.txt"
    path.write_bytes(b"deep/ 0.jpg\r\n\ndeep/ 2.jpg\t3\ncopy.jpg\n./copy.jpg\n")
    assert names_of(found(workspace, path)) == ["more/deep/ 0.jpg", "more/deep/ 2.jpg"]
    path.write_text('deep/ 0.jpg 3\n"deep/ 2.jpg",leek\ncopy.jpg 5\n')  # as PaddleClas writes lists
    assert names_of(found(workspace, path)) == ["more/deep/ 0.jpg", "more/deep/ 2.jpg"]
    path.write_text("\n")
    with pytest.raises(UsageError, match="no images in"):
        found(workspace, path)


def test_an_archive_will_do(workspace: Path, more: Path) -> None:
    with zipfile.ZipFile(workspace / "more.zip", "w") as archive:
        for path in more.rglob("*.jpg"):
            archive.write(path, path.relative_to(more))
    unlabelled = found(workspace, workspace / "more.zip")
    images = [unlabelled.dataset.load(n, np.random.default_rng(0)) for n in range(len(unlabelled.dataset))]
    assert len(images) == 4 and unlabelled.left_out == {"query": 1, "train": 1}


def batches(count: int, size: int, steps: int, *, rank: int = 0, world: int = 1, seed: int = 3) -> list[list[int]]:
    ranks, dataset = Ranks(), type("Images", (), {"labels": np.full(count, -1), "__len__": lambda _: count})()
    ranks.rank, ranks.world = rank, world
    sampler = batches_of(dataset, size, steps, seed, ranks)  # type: ignore[arg-type]
    sampler.set_epoch(1)
    return list(sampler)


def test_each_step_has_a_batch_of_them_in_an_order_that_follows_from_the_seed() -> None:
    assert batches(9, 4, 7) == batches(9, 4, 7) != batches(9, 4, 7, seed=4)
    assert [len(batch) for batch in batches(9, 4, 7)] == [4] * 7
    assert [len(batch) for batch in batches(3, 4, 5)] == [3] * 5  # fewer than a batch
    parts = [batches(9, 2, 7, rank=rank, world=2) for rank in range(2)]
    assert [[*a, *b] for a, b in zip(*parts, strict=True)] == batches(9, 4, 7)  # what one process sees
    with pytest.raises(UsageError, match="1 image for 2 processes"):
        batches(1, 2, 3, world=2)


def test_batches_with_labels_stay_and_a_resumed_epoch_continues(workspace: Path, more: Path) -> None:
    config = config_with(workspace, more)
    dataset, other = RecDataset(config.DataLoader.train.dataset), found(workspace, more).dataset  # type: ignore[attr-defined]
    views = Views(dataset, 5, 2)
    part = dataclasses.replace(config.DataLoader.train.sampler, batch_size=8)  # type: ignore[attr-defined]
    alone = BatchLoader(dataset, Repeated(build_sampler(part, Feed(dataset.labels)), 4), seed=5, views=views)
    second = BatchLoader(
        other, batches_of(other, 8, 4, 5, Ranks()), seed=5, views=dataclasses.replace(views, dataset=other)
    )
    mixed = MixedLoader(alone, second)
    whole, rest, plain = list(mixed.epoch(1)), list(mixed.epoch(1, start_step=2)), list(alone.epoch(1))
    assert len(whole) == 4 and len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert a.unlabelled is not None and b.unlabelled is not None
        assert np.array_equal(a.images, b.images) and np.array_equal(a.unlabelled.images, b.unlabelled.images)
        assert a.view == a.unlabelled.view and sorted(a.unlabelled.indices) == [0, 1, 2, 3]
    for a, b in zip(whole, plain, strict=True):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)


def test_views_that_training_does_not_show_are_told(workspace: Path, more: Path) -> None:
    unlabelled = found(workspace, more)
    assert unlabelled.too_many_views(8, 17) == []
    assert "TeacherLoss.views=2" in unlabelled.too_many_views(8, 9)[0]


def test_what_needs_labels_is_refused(workspace: Path, more: Path) -> None:
    config = config_with(workspace, more)
    head = make_part("head", "CircleMargin", embedding_size=512, class_num=6, margin=0.25, scale=64)
    circle = dataclasses.replace(config, Arch=dataclasses.replace(config.Arch, head=head))  # type: ignore[attr-defined, type-var]
    with pytest.raises(ConfigError, match="the logits of CircleMargin depend on the label"):
        find_teacher(circle)  # type: ignore[arg-type]
    several = dataclasses.replace(config, Distillation=object())  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="several networks that learn from each other"):
        find_teacher(several)  # type: ignore[arg-type]


def test_the_teacher_may_be_that_of_the_config(workspace: Path, more: Path) -> None:
    path = workspace / "shitu.yaml"
    plain = path.read_text()
    path.write_text(
        plain.replace("Train:\n    - CELoss", "Train:\n    - TeacherLoss: {teacher: no/model}\n    - CELoss")
    )
    refused = shitu("train", *SMALL, "--unlabelled", "more", cwd=workspace, check=False)
    assert "no/model" in refused.stderr and "need a teacher" not in refused.stderr
    path.write_text(plain)
    teacher = "Loss.Train=[{CELoss: {}}, {TeacherLoss: {teacher: no/model}}]"
    refused = shitu("train", *SMALL, "-o", teacher, "--unlabelled", "more", cwd=workspace, check=False)
    assert "no/model" in refused.stderr and "need a teacher" not in refused.stderr
    several = ("--unlabelled", "more", "-o", "Arch.name=DistillationModel")
    refused = shitu("train", *several, cwd=workspace, check=False)
    assert refused.returncode == 2 and "learn from each other" in refused.stderr
    assert "hint: learn from the images with labels only: shitu train -o" in refused.stderr


CALLS = [
    (["train", "--unlabelled", "more"], "need a teacher", "shitu train --teacher efficientnet-lite0 --unlabelled more"),
    (["train", "--frozen", "--unlabelled", "more"], "--unlabelled: --frozen is a single step", ""),
    (["train", "--teacher", "pp-shitu-v2", "--unlabelled", "nowhere"], "no such image, folder or list", ""),
]


@pytest.mark.parametrize(("call", "text", "hint"), CALLS)
def test_calls_that_cannot_be_followed_are_refused(workspace: Path, call: list[str], text: str, hint: str) -> None:
    refused = shitu(*call, cwd=workspace, check=False)
    assert refused.returncode == 2 and text in refused.stderr and hint in refused.stderr


def test_a_damaged_list_is_told_once_and_with_the_rest(workspace: Path, more: Path) -> None:
    with (workspace / "lists/train_list.txt").open("a") as file:
        file.write("no label\n")
    call = ["train", "--teacher", "pp-shitu-v2", "--unlabelled", "more", "-o", "Arch.Backbone.pretrained=no/where"]
    refused = shitu(*call, cwd=workspace, check=False)
    shown = "".join(refused.stderr.split())
    assert refused.returncode == 3 and "noweightsfile" in shown
    assert shown.count("lists/train_list.txt:37:") == 1  # training and its images without labels both look for it


@pytest.mark.slow
def test_all_images_that_cannot_be_read_are_named_or_left_out(workspace: Path, more: Path, exported: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (more / name).write_bytes(b"no image")
    call = ["train", *SMALL, "--epochs", "1", "--batch-size", "12", "--teacher", str(exported), "--unlabelled", "more"]
    call += ["-o", "Loss.Train.TeacherLoss.views=1"]
    refused = shitu(*call, cwd=workspace, check=False)
    assert refused.returncode == 3 and "2 images of 6 without labels cannot be read" in refused.stderr
    assert "more/a.jpg" in refused.stderr and "more/b.jpg" in refused.stderr
    assert ".shitu" not in refused.stderr  # the list of them is nothing that a user knows
    change = re.search(r"-o (DataLoader\S+on_error=skip)", refused.stderr)
    assert change is not None
    done = shitu(*call, "-o", change[1], cwd=workspace)
    assert "2 images of 6 without labels cannot be read and are left out" in done.stderr
    assert "6 more images in each batch, of 6 without labels" in done.stdout
