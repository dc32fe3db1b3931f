"""Several networks in one run (`Arch.name: DistillationModel`): only the student is kept, all of them go on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from shitu_cli.config.dump import dump_config
from shitu_cli.config.load import load_config
from shitu_cli.errors import ConfigError
from shitu_cli.model.tracing import load_trained
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import shitu
from tests.weights.server import Behaviour, serving

NETWORK = {
    "name": "RecModel",
    "infer_output_key": "features",
    "infer_add_softmax": False,
    "Backbone": {"name": "PPLCNet_x0_25"},
    "BackboneStopLayer": {"name": "flatten"},
    "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 16},
    "Head": {"name": "ArcMargin", "embedding_size": 16, "class_num": 6, "margin": 0.2, "scale": 30},
}
ARCH = {
    "name": "DistillationModel",
    "infer_output_key": "features",
    "infer_model_name": "Student",
    "pretrained_list": None,
    "freeze_params_list": [False, False],
    "models": [{"Teacher": NETWORK}, {"Student": NETWORK}],
}
PAIR = {"model_name_pairs": [["Student", "Teacher"]]}
UDML = [
    {"DistillationGTCELoss": {"weight": 1.0, "key": "logits", "model_names": ["Student", "Teacher"]}},
    {"DistillationDMLLoss": {"weight": 1.0, "key": "logits", **PAIR}},
    {"DistillationDistanceLoss": {"weight": 1.0, "key": "backbone", **PAIR}},
]
RUN = ["train", "--epochs", "2", "--batch-size", "12", "--seed", "3", "--eval-during-train", "false", "--lr", "0.01"]


def write(workspace: Path, arch: dict[str, object], losses: list[object] = UDML) -> Path:
    """Write the workspace's config with other networks and losses."""
    path = workspace / "shitu.yaml"
    values = yaml.safe_load(path.read_text())
    values |= {"Arch": arch, "Loss": {"Train": losses, "Eval": losses[:1]}}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_two_networks_train_resume_and_only_the_student_is_saved_and_exported(workspace: Path) -> None:
    config = write(workspace, ARCH)
    assert load_config(config).Arch.head.class_num == 6  # type: ignore[union-attr]
    done = shitu(*RUN, "-o", "EMA.decay=0.5", "--save-every-steps", "1", "--keep", "9", cwd=workspace)
    assert "distillation: Student learns with Teacher; only Student is evaluated and exported" in done.stdout
    output = workspace / "output"
    weights, rest = read_paddle(output / "latest.pdparams"), read_paddle(output / "latest.pdtrain")
    assert not [name for name in weights if "Student" in name or "Teacher" in name] and "head.weight" in weights
    teacher = {name: value for name, value in rest.items() if name.startswith("loss.peers.networks.Teacher.")}
    assert len(teacher) == len(weights)
    assert json.loads((output / "latest.pdstates").read_text())["run"]["arch"]["name"] == "RecModel"
    snapshot = load_config(output / "config.yaml")
    assert dump_config(snapshot) == dump_config(load_config(output / "config.yaml"))
    assert [peer.name for peer in snapshot.Distillation.peers] == ["Teacher"]  # type: ignore[union-attr]

    middle = sorted((output / "checkpoints").glob("save_*_epoch_1_step_*.pdstates"))[0].with_suffix("")
    for path in [*output.glob("latest.*"), *output.glob("best_model.*"), *(output / "checkpoints").iterdir()]:
        if not path.name.startswith(middle.name):
            path.unlink()
    resumed = shitu(*RUN, "-o", "EMA.decay=0.5", "--resume", cwd=workspace)
    assert "exactly as without the interruption" in resumed.stdout
    for kind, wanted in (("pdparams", weights), ("pdtrain", rest)):
        now = read_paddle(output / f"latest.{kind}")
        assert now.keys() == wanted.keys()
        assert not [name for name, value in wanted.items() if now[name].tobytes() != value.tobytes()]

    network = load_trained(output / "latest", load_config(config))  # as evaluation and export do
    assert network.feature_size == 16
    assert network.state_dict().keys() == weights.keys()


def test_a_frozen_teacher_keeps_its_weights_and_needs_some(workspace: Path) -> None:
    frozen = {**ARCH, "freeze_params_list": [True, False]}
    write(workspace, frozen)
    refused = shitu(*RUN, cwd=workspace, check=False)
    assert refused.returncode == 4 and "Teacher is frozen, but has no trained weights to teach" in refused.stderr

    write(workspace, ARCH)
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    weights = read_paddle((workspace / "output" / "latest.pdparams").rename(workspace / "taught.pdparams"))
    write(workspace, {**frozen, "pretrained_list": ["taught", None]})
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    rest = read_paddle(workspace / "output" / "latest.pdtrain")
    prefix = "loss.peers.networks.Teacher."
    teacher = {name.removeprefix(prefix): value for name, value in rest.items() if name.startswith(prefix)}
    assert all(np.array_equal(teacher[name], value) for name, value in weights.items())
    student = read_paddle(workspace / "output" / "latest.pdparams")
    assert not np.array_equal(student["head.weight"], weights["head.weight"])

    (workspace / "taught.pdparams").unlink()  # the checkpoint has the teacher
    shitu(*RUN, "--resume", cwd=workspace)
    rest = read_paddle(workspace / "output" / "latest.pdtrain")
    assert all(np.array_equal(rest[f"{prefix}{name}"], value) for name, value in weights.items())


def test_a_projection_of_the_student_needs_nothing_of_its_peers(workspace: Path) -> None:
    write(workspace, ARCH)
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    elsewhere = {**NETWORK, "Backbone": {"name": "PPLCNet_x0_25", "pretrained": "no/where"}}
    write(workspace, {**ARCH, "models": [{"Teacher": elsewhere}, {"Student": NETWORK}]})
    shitu("train", "--frozen", "--init-from", "output/latest", "--views", "1", cwd=workspace)
    saved = load_config(workspace / "output/config.yaml", root=workspace)
    assert saved.Distillation is None and saved.Arch.head is None and saved.Arch.neck is not None
    write(workspace, {**ARCH, "pretrained_list": [None, "output/earlier/001/latest"]})
    shitu("train", "--frozen", "--views", "1", cwd=workspace)  # from the weights that are named for the student


def test_a_student_that_starts_from_weights_is_measured_before_the_first_step(workspace: Path) -> None:
    write(workspace, ARCH)
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    (workspace / "output" / "latest.pdparams").rename(workspace / "taught.pdparams")
    write(workspace, {**ARCH, "pretrained_list": [None, "taught"]})
    done = shitu(*RUN, "--epochs", "1", "--eval-during-train", "true", cwd=workspace)
    assert "before training: recall@1" in done.stdout


def test_what_is_said_of_the_weights_of_peers(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_WEIGHTS", str(workspace / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write(workspace, ARCH)
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    arrays = read_paddle(workspace / "output" / "latest.pdparams")
    np.savez(workspace / "taught.npz", **{f"module.{name}": value for name, value in arrays.items()})
    with serving(Behaviour({"/taught.npz": (workspace / "taught.npz").read_bytes()})) as address:
        network = {**NETWORK, "Backbone": {"name": "PPLCNet_x0_25", "pretrained": f"{address}/taught.npz"}}
        models = [{"Teacher": network}, {"Student": NETWORK}]
        write(workspace, {**ARCH, "models": models, "pretrained_list": ["taught.npz", None]})
        done = shitu(*RUN, "--epochs", "1", cwd=workspace)
    assert f"downloading {address}/taught.npz" in done.stdout
    assert "Teacher: took the names under 'backbone.' of taught" in done.stderr
    assert done.stderr.count("Teacher: took the names without their prefix 'module.'") == 2


MISTAKES = [
    ({"infer_model_name": "Pupil"}, UDML, "Arch.infer_model_name: got 'Pupil' for the network that is kept"),
    ({"freeze_params_list": [True, True]}, UDML, "Student is the network that learns: it cannot be frozen"),
    ({"freeze_params_list": [True]}, UDML, "expected a list of 2, one for each of Arch.models"),
    ({"pretrained_list": [3, None]}, UDML, "Arch.pretrained_list.0: got 3, expected a file or null"),
    ({"models": {"Student": NETWORK}}, UDML, "expected a list of networks"),
    ({"models": [{"Student": NETWORK}, {"Student": NETWORK}]}, UDML, "a second network has this name"),
    ({"model": []}, UDML, "Arch.model: unknown key (did you mean models?)"),
    ({}, [{"DistillationDMLLoss": {"model_name_pairs": [["Student", "Tutor"]]}}], "the network 'Tutor', Arch.models"),
    ({}, [{"DistillationDMLLoss": {"model_name_pairs": ["Student", "Teacher"]}}], "expected a list of pairs of texts"),
    ({}, [{"DistillationRKDLoss": PAIR}], "exists in PaddleClas, but not here"),
]


@pytest.mark.parametrize(("change", "losses", "text"), MISTAKES)
def test_what_does_not_fit_together_is_said_by_its_key(
    workspace: Path, change: dict[str, object], losses: list[object], text: str
) -> None:
    arch = {**ARCH, **change}
    path = write(workspace, arch, losses)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert text in "\n".join(raised.value.details)
    assert all(re.match(r".*shitu\.yaml:\d+: ", line) for line in raised.value.details)


def test_networks_without_the_logits_that_a_loss_compares_are_named(workspace: Path) -> None:
    bare = {name: value for name, value in NETWORK.items() if name != "Head"}
    sampled = {**NETWORK, "Head": {**NETWORK["Head"], "sample_ratio": 0.5}}  # type: ignore[dict-item]
    path = write(workspace, {**ARCH, "models": [{"Teacher": bare}, {"Student": sampled}]})
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    text = "\n".join(raised.value.details)
    assert "the network Teacher has no Head, which gives the logits" in text
    assert "the network Student trains against some of the classes at a time (Head.sample_ratio)" in text
    path = write(workspace, {**NETWORK})
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert "compares several networks, which only Arch.name: DistillationModel has" in "\n".join(raised.value.details)


def test_class_counts_of_all_networks_are_checked_and_prepared(workspace: Path) -> None:
    wrong = {**NETWORK, "Head": {**NETWORK["Head"], "class_num": 185341}}  # type: ignore[dict-item]
    write(workspace, {**ARCH, "models": [{"Teacher": wrong}, {"Student": wrong}]})
    refused = shitu(*RUN, cwd=workspace, check=False)
    assert "Arch.models.Teacher.Head.class_num: got 185341, expected 6" in refused.stderr
    (hint,) = re.findall(r"(-o Arch\.models\S+ -o \S+)", refused.stderr.replace("\n", " "))
    shown = shitu("config", *hint.split(), cwd=workspace)
    assert "185341" not in shown.stdout
    shitu("prepare", "./data", cwd=workspace)
    assert "185341" not in (workspace / "shitu.yaml").read_text()
