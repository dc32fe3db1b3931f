"""What a run starts from: weights by name, file or address; what is said of them; they are not needed to go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training.checkpoint import load_checkpoint
from shitu_cli.weights.paddle_files import read_paddle
from tests.cli.test_mistakes import fails
from tests.command import SMALL, shitu
from tests.weights.server import Behaviour, serving

RUN = ["train", *SMALL, "--epochs", "1", "--batch-size", "8", "--seed", "3"]
STILL = [*RUN, "--lr", "0", "-o", "Arch.Backbone.freeze_norm=True"]  # the weights stay what they are


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of downloaded weights; nobody else's is looked into."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("SHITU_OFFLINE", "HF_HUB_OFFLINE", "SHITU_WEIGHTS_MIRROR", "HF_ENDPOINT", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHITU_WEIGHTS", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def workspace(trained_workspace: Path) -> Path:
    """A workspace whose network has been trained a little."""
    return trained_workspace


@pytest.fixture
def bare(workspace: Path) -> Path:
    """The backbone of that network in a file of its own."""
    import paddle

    weights = load_checkpoint(workspace / "output/latest").weights
    backbone = {name.removeprefix("backbone."): v for name, v in weights.items() if name.startswith("backbone.")}
    paddle.save({name: paddle.to_tensor(value) for name, value in backbone.items()}, str(workspace / "bare.pdparams"))
    return workspace / "bare.pdparams"


def same_backbone(workspace: Path, file: Path) -> bool:
    """Whether the network that was trained last has the backbone in a file."""
    weights = load_checkpoint(workspace / "output/latest").weights
    return all(np.array_equal(weights[f"backbone.{name}"], value) for name, value in read_paddle(file).items())


def test_training_starts_from_weights_by_name(workspace: Path, bare: Path, cache: Path) -> None:
    file = bare.rename(cache / "PPLCNet_x0_25_pretrained.pdparams")
    shitu(*STILL, "--pretrained", "PPLCNet_x0_25", cwd=workspace)
    assert same_backbone(workspace, file)


def test_frozen_starts_from_the_whole_network_by_name(workspace: Path, bare: Path, cache: Path) -> None:
    file = bare.rename(cache / "PPLCNet_x0_25_pretrained.pdparams")
    named = ["-o", "Global.pretrained_model=PPLCNet_x0_25"]
    shitu("train", *SMALL, "--frozen", "--views", "1", *named, cwd=workspace)
    assert same_backbone(workspace, file)


def test_a_start_without_published_weights_says_so(workspace: Path) -> None:
    distilled = ["-o", "Arch.Backbone.pretrained=True", "-o", "Arch.Backbone.use_ssld=True"]
    run = ["train", "-o", "Arch.Backbone.name=PPLCNet_x0_35", *distilled]
    says = ("shitu has no published distilled (SSLD) weights for PPLCNet_x0_35", "-o Arch.Backbone.pretrained=False")
    fails(*run, cwd=workspace, code=4, says=says)


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "Arch.Backbone.pretrained={}"],
        ["-o", "Global.pretrained_model={}"],
        ["--frozen", "--views", "1", "-o", "Arch.Backbone.pretrained={}"],
        ["--frozen", "--views", "1", "-o", "Global.pretrained_model={}"],
    ],
    ids=["backbone", "whole", "frozen-backbone", "frozen-whole"],
)
def test_downloads_are_told(words: list[str], workspace: Path, bare: Path) -> None:
    run = [word for word in RUN if "--frozen" not in words or word not in ("--epochs", "1")]
    with serving(Behaviour({"/w.pdparams": bare.read_bytes()})) as address:
        done = shitu(*run, *(word.format(f"{address}/w.pdparams") for word in words), cwd=workspace)
    assert f"downloading {address}/w.pdparams" in done.stdout
    assert "no checksum is published" in done.stdout


def test_what_a_run_costs_is_measured_without_any_download(workspace: Path, cache: Path) -> None:
    with serving(server := Behaviour()) as address:
        shitu(*RUN, "--dry-run", "--pretrained", f"{address}/w.pdparams", cwd=workspace)
    assert not server.requests and not list(cache.glob("w*"))


@pytest.mark.parametrize("words", [["--init-from", "bare.pdparams"], ["-o", "Global.pretrained_model=bare.pdparams"]])
def test_frozen_takes_a_bare_backbone_as_training_does(words: list[str], workspace: Path, bare: Path) -> None:
    done = shitu("train", *SMALL, "--frozen", "--views", "1", *words, cwd=workspace)
    assert "done in" in done.stdout and same_backbone(workspace, bare)


@pytest.mark.parametrize("words", [["--init-from", "output/latest"], ["-o", "Global.pretrained_model=output/latest"]])
def test_another_head_is_said_to_begin_new(words: list[str], workspace: Path) -> None:
    lines = (workspace / "lists/train_list.txt").read_text().splitlines()
    kept = [line for line in lines if not line.endswith("\t5")]
    (workspace / "five.txt").write_text("\n".join(kept) + "\n")
    fewer = ["-o", "DataLoader.Train.dataset.cls_label_path=five.txt", "-o", "Arch.Head.class_num=5"]
    done = shitu(*RUN, *fewer, *words, cwd=workspace)
    assert "starting from random values: head (latest.pdparams has none of this size)" in done.stderr
    assert "starting from random values: head" in (workspace / "output/train.log").read_text()


def test_a_head_that_is_kept_is_said_to_be(workspace: Path) -> None:
    done = shitu(*RUN, "--init-from", "output/latest", cwd=workspace)
    assert "the head of latest.pdparams is kept: its classes must be those of the training list" in done.stderr


def test_what_is_taken_from_a_whole_model_is_said(workspace: Path) -> None:
    done = shitu(*RUN, "-o", "Arch.Backbone.pretrained=output/latest", cwd=workspace)
    assert "took the names under 'backbone.' of latest.pdparams, leaving out head, neck" in done.stderr


def test_weights_of_another_network_lead_to_the_config_made_for_them(workspace: Path) -> None:
    """Whoever prepared before any weights were there has the config of a network that has none."""
    says = (
        "the weights efficientnet-lite0 belong to tf_efficientnet_lite0, the network of the config is PPLCNet_x0_5",
        "shitu prepare ./data --template tuned",
        "shitu train -o Arch.Backbone.name=tf_efficientnet_lite0 --pretrained efficientnet-lite0",
    )
    fails("train", "--pretrained", "efficientnet-lite0", cwd=workspace, code=4, says=says)
    fails("train", "--frozen", "--pretrained", "efficientnet-lite0", cwd=workspace, code=4, says=says[:2])
    fails("train", "-o", "Global.pretrained_model=efficientnet-lite0", cwd=workspace, code=4, says=says[:2])


def test_files_of_the_command_line_are_relative_to_the_current_folder(workspace: Path, bare: Path) -> None:
    (workspace / "elsewhere").mkdir()
    bare = bare.rename(workspace / "elsewhere/pytorch_model.bin")
    for given in ("./pytorch_model.bin", "pytorch_model.bin", "PPLCNet_x0_25=pytorch_model.bin"):
        shitu(*STILL, "-w", str(workspace), "--pretrained", given, cwd=bare.parent)
        assert same_backbone(workspace, bare)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("PPLCNet_x0_26", "no network is called PPLCNet_x0_26 (did you mean PPLCNet_x0_25"),
        ("tf_efficientnet_lite0", "the network of the config is PPLCNet_x0_25"),
    ],
)
def test_the_network_of_a_file_is_that_of_the_config(network: str, says: str, workspace: Path, bare: Path) -> None:
    fails(*RUN, "--pretrained", f"{network}={bare}", cwd=workspace, code=2, says=(says, "hint: "))


def test_a_file_of_another_network_leads_there_too(workspace: Path, bare: Path) -> None:
    bare.rename(workspace / "PPLCNet_x0_25_pretrained.pdparams")
    for words in (["--init-from"], ["--pretrained"], ["--frozen", "--init-from"]):
        run = ["train", *words, "PPLCNet_x0_25_pretrained.pdparams", "-o", "Arch.Backbone.name=MobileNetV3_small_x0_35"]
        says = (
            "they belong to PPLCNet_x0_25, the network is MobileNetV3_small_x0_35",
            "Arch.Backbone.name=PPLCNet_x0_25",
        )
        fails(*run, cwd=workspace, code=3, says=says)


def test_weights_with_another_neck_start_the_backbone_alone(workspace: Path) -> None:
    size = ["-o", "Arch.Neck.name=FC", "-o", "Arch.Neck.embedding_size=1280", "-o", "Arch.Neck.class_num=16"]
    other = [*RUN, *size, "-o", "Arch.Head.embedding_size=16"]
    file = workspace / "output/latest.pdparams"
    says = (
        "the backbone fits, the neck differs",
        "to start from the backbone alone: shitu train",
        f"--pretrained {file}",
    )
    shown = fails(*other, "--init-from", str(file), cwd=workspace, code=3, says=says)
    assert "--init-from" not in shown.partition("to start from the backbone alone")[2]
    named = ["-o", f"Global.pretrained_model={file}"]
    shown = fails(*other, *named, cwd=workspace, code=3, says=("the neck differs", f"--pretrained {file}"))
    assert "-o Global.pretrained_model=null" in shown and f"pretrained_model={file}" not in shown.partition("alone")[2]
    done = shitu(*other, "--pretrained", str(file), cwd=workspace)
    assert "leaving out head, neck" in done.stderr


def test_a_whole_start_makes_that_of_the_backbone_unnecessary(workspace: Path) -> None:
    """A config that names published weights can start from others, where the published ones are not to be had."""
    shitu(*RUN, "-o", "Arch.Backbone.pretrained=no/where", "--init-from", "output/latest", cwd=workspace)


@pytest.fixture
def interrupted(workspace: Path) -> Callable[..., dict[str, np.ndarray]]:
    """`interrupted(*words)` trains, and leaves what a run that was killed after its first epoch leaves.

    It returns the weights at the end of the whole run.
    """

    def run(*words: str) -> dict[str, np.ndarray]:
        shitu(
            "train", *SMALL, "--epochs", "2", "--batch-size", "8", "--seed", "3", "--keep", "9", *words, cwd=workspace
        )
        output = workspace / "output"
        weights = read_paddle(output / "latest.pdparams")
        first = sorted((output / "checkpoints").glob("*.pdstates"))[0].with_suffix("")
        for path in [*output.glob("latest.*"), *output.glob("best_model.*"), *(output / "checkpoints").iterdir()]:
            if not path.name.startswith(first.name):
                path.unlink()
        return weights

    return run


@pytest.mark.parametrize("words", [["--pretrained", "{}"], ["-o", "Global.pretrained_model={}"], ["--init-from", "{}"]])
def test_a_run_goes_on_to_the_same_bits_without_the_file_that_it_started_from(
    words: list[str], workspace: Path, bare: Path, interrupted: Callable[..., dict[str, np.ndarray]]
) -> None:
    expected = interrupted(*(word.format(bare) for word in words))
    bare.unlink()
    done = shitu("train", "--resume", cwd=workspace)
    assert "exactly as without the interruption" in done.stdout
    weights = read_paddle(workspace / "output/latest.pdparams")
    assert weights.keys() == expected.keys()
    assert all(weights[name].tobytes() == value.tobytes() for name, value in expected.items())


def test_a_run_goes_on_offline_without_published_weights(
    workspace: Path,
    bare: Path,
    cache: Path,
    interrupted: Callable[..., dict[str, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = bare.rename(cache / "PPLCNet_x0_25_pretrained.pdparams")
    interrupted("-o", "Arch.Backbone.pretrained=True")
    file.unlink()
    monkeypatch.setenv("SHITU_OFFLINE", "1")
    done = shitu("train", "--resume", "--json", cwd=workspace)
    assert json.loads(done.stdout)["epochs_done"] == 2 and "exactly as without the interruption" in done.stderr
