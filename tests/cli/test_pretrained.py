"""--pretrained from the first command to the last: a small network's weights by name, and as NETWORK=FILE."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.command import Result, shitu

NAME, FILE = "PPLCNet_x0_25", "PPLCNet_x0_25_pretrained.pdparams"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that has the weights of one small network, as if they were downloaded."""
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu", threads=1)
    import paddle

    from shitu_cli.model import build_rec_model

    folder = tmp_path_factory.mktemp("weights")
    paddle.seed(1)
    paddle.save(build_rec_model({"Backbone": {"name": NAME}}).backbone.state_dict(), str(folder / FILE))
    yield folder


@pytest.fixture
def run(weights: Path, tmp_path: Path) -> Callable[..., Result[str]]:
    def run(*words: str, check: bool = True, cache: Path = weights) -> Result[str]:
        settings = {"SHITU_OFFLINE": "1", "SHITU_WEIGHTS": str(cache), "HOME": str(tmp_path / "home")}
        return shitu(*words, cwd=tmp_path, check=check, env=settings)

    return run


def test_search_without_lists_config_or_training(
    run: Callable[..., Result[str]], tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]
) -> None:
    made = make_images(tmp_path / "photos", classes=4, per_class=4)
    query = shutil.move(made["class_002"][0], tmp_path / "query.jpg")
    run("index", "build", "photos", "--pretrained", NAME)
    answer = json.loads(run("search", str(query), "--top", "3", "--json").stdout)
    assert answer["results"][0]["matches"][0]["label"] == "class_002"


def test_a_name_and_its_file_give_the_same_features(
    run: Callable[..., Result[str]], weights: Path, tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]
) -> None:
    make_images(tmp_path / "photos", classes=2, per_class=2)
    shutil.copy(weights / FILE, tmp_path / "mine.bin")  # as pytorch_model.bin, whose ending says nothing
    run("extract", "photos", "--pretrained", NAME, "--out", "name.npy")
    said = run("extract", "photos", "--pretrained", f"{NAME}=mine.bin", "--out", "file.npy").stdout
    assert "resized to 224 px" in said
    assert (np.load(tmp_path / "name.npy") == np.load(tmp_path / "file.npy")).all()


def test_evaluation_says_what_bare_features_reach(run: Callable[..., Result[str]], workspace: Path) -> None:
    recall = json.loads(run("evaluate", "--pretrained", NAME, "--json").stdout)["metrics"]["recall@1"]
    assert 0.3 < recall <= 1


def test_a_damaged_file_of_the_cache_is_to_be_removed(run: Callable[..., Result[str]], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / FILE).write_bytes(b"<html>log in</html>")
    done = run("extract", "photos", "--pretrained", NAME, "--out", "f.npy", check=False, cache=cache)
    said = "".join(done.stderr.split())  # without the ends of lines
    assert done.returncode == 3 and f"rm{cache / FILE}" in said and f"shituweightspull{NAME}" in said


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "photos", "--out", "f.npy", "--pretrained", NAME),
        ("index", "build", "photos", "--pretrained", NAME),
        ("evaluate", "--pretrained", NAME),
        ("evaluate", "-o", f"Arch.Backbone.name={NAME}", "-o", f"Global.pretrained_model={NAME}"),
        pytest.param(("train", "-o", f"Arch.Backbone.name={NAME}", "--teacher", NAME), marks=pytest.mark.slow),
    ],
    ids=["extract", "index", "evaluate", "override", "teacher"],
)
def test_a_dry_run_downloads_and_keeps_nothing(
    words: tuple[str, ...],
    run: Callable[..., Result[str]],
    weights: Path,
    workspace: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(workspace / "data", tmp_path / "photos")
    cache = tmp_path / "cache"
    done = run(*words, "--dry-run", check=False, cache=cache)
    assert done.returncode == 2 and "--dry-run downloads nothing" in done.stderr
    assert f"shitu weights pull {NAME}" in done.stderr and not cache.exists()
    if "Global.pretrained_model" in words[-1]:  # a whole network, which a backbone alone is not
        return
    cache.mkdir()
    shutil.copy(weights / FILE, cache)
    run(*words, "--dry-run", cache=cache)
    assert [file.name for file in cache.iterdir()] == [FILE]


@pytest.mark.slow
def test_an_export_of_a_file_with_its_network(run: Callable[..., Result[str]], weights: Path, tmp_path: Path) -> None:
    shutil.copy(weights / FILE, tmp_path / "mine.pdparams")
    run("export", "--pretrained", f"{NAME}=mine.pdparams", "--format", "pdmodel")
    manifest = json.loads((tmp_path / "inference/manifest.json").read_text())
    assert manifest["feature_size"] == 1280


def test_what_names_nothing_is_told_how_a_file_is_named(run: Callable[..., Result[str]]) -> None:
    done = run("extract", "photos", "--pretrained", "pytorch_model.bin", "--out", "f.npy", check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "no published weights are called pytorch_model.bin" in said
    assert "./pytorch_model.bin" in said
