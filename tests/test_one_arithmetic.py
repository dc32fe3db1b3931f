"""The numbers of a model do not depend on how many processes compute them, nor on the BLAS's choice of instructions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import shitu_process as shitu

DEVICES = ("cpu:1", "cpu:2", "cpu:3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., dict[str, list[Path]]]) -> Path:
    """A workspace with a network that one epoch has hardly trained, so that features lie close to one another."""
    folder = tmp_path_factory.mktemp("trained")
    make_images(folder / "data", classes=6, per_class=5, size=(96, 96))
    shitu("prepare", "./data", "--template", "quick", cwd=folder)
    shitu("train", "--epochs", "1", "--seed", "3", "--eval-during-train", "false", cwd=folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_evaluation_is_the_same_on_any_number_of_processes(trained: Path) -> None:
    texts = set()
    for devices, core in [*((devices, "") for devices in DEVICES), ("cpu:2", "Nehalem")]:
        env = {"OPENBLAS_CORETYPE": core} if core else {}
        texts.add(shitu("evaluate", "--no-cache", "--devices", devices, "--json", cwd=trained, env=env).stdout)
    assert len(texts) == 1 and '"metrics"' in texts.pop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_features_and_their_index_are_the_same_on_any_number_of_processes(trained: Path) -> None:
    features, indexes = set(), []
    for number, (devices, core) in enumerate([*((devices, "") for devices in DEVICES), ("cpu:2", "Nehalem")]):
        file, index = f"{number}/features.npy", trained / f"{number}/index"
        (trained / str(number)).mkdir()
        words, env = ("--model", "output/best_model", "--devices", devices), {"OPENBLAS_CORETYPE": core} if core else {}
        shitu("extract", "data", *words, "--out", file, cwd=trained, env=env)
        shitu("index", "build", "--features", file, "--index", str(index), cwd=trained, env=env)
        features.add((trained / file).read_bytes())
        indexes.append({path.name: path.read_bytes() for path in index.iterdir() if path.is_file()})
    assert len(features) == 1
    assert indexes[0] and all(index == indexes[0] for index in indexes)
