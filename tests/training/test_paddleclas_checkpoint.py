"""Going on from a checkpoint of PaddleClas: weights, optimiser and epoch; starts from a bare backbone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.errors import DataError
from shitu_cli.model import build_rec_model
from shitu_cli.model.weights import load_backbone, load_start
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import SilentReporter
from shitu_cli.training.build import build_training
from shitu_cli.training.paddleclas_checkpoint import is_of_paddleclas, read_checkpoint
from shitu_cli.weights.files import read_state
from shitu_cli.weights.paddle_files import read_paddle, read_paddle_tables, read_parameter_names
from tests.command import SMALL, shitu
from tests.training.test_peers import ARCH, RUN, UDML, write


def their_run(workspace: Path, *, epoch: int) -> Path:
    """Write what PaddleClas writes after some epochs; its parameters have numbers of their own."""
    config = load_config(workspace / "shitu.yaml", SMALL[1::2])
    model = build_rec_model(config.Arch)
    for number, parameter in enumerate(model.parameters()):
        parameter.name = f"their_{number}.w_0"  # their_1 begins the name of their_10
    momentum = paddle.optimizer.Momentum(0.1, 0.9, model.parameters())
    momentum_state = {
        f"{p.name}_velocity_0": paddle.full(p.shape, float(n + 1)) for n, p in enumerate(model.parameters())
    }
    folder = workspace / "theirs"
    folder.mkdir()
    paddle.save(model.state_dict(), str(folder / "epoch_1.pdparams"))
    state = {**momentum.state_dict(), **momentum_state, "LR_Scheduler": {"last_epoch": 5, "last_lr": 0.1}}
    paddle.save([state], str(folder / "epoch_1.pdopt"))
    paddle.save({"metric": 0.5, "epoch": epoch}, str(folder / "epoch_1.pdstates"))
    return folder / "epoch_1"


def test_a_run_of_theirs_goes_on(workspace: Path) -> None:
    prefix = their_run(workspace, epoch=1)
    assert is_of_paddleclas(prefix)
    assert read_parameter_names(f"{prefix}.pdparams")["backbone.conv1.conv.weight"] == "their_0.w_0"
    options = ["--epochs", "2", "--batch-size", "8", "--lr", "0", "-o", f"Global.checkpoints={prefix}"]
    done = shitu("train", *SMALL, "-o", "Optimizer.name=Momentum", *options, cwd=workspace)
    assert "is a checkpoint of PaddleClas: 1 epochs are done" in " ".join((done.stdout + done.stderr).split())
    state = json.loads((workspace / "output/latest.pdstates").read_text())["state"]
    assert state["epoch"] == 2 and len(state["epoch_losses"]) == 1
    before, after = read_state(f"{prefix}.pdparams"), read_state(workspace / "output/latest.pdparams")
    trained = [name for name in before if not name.endswith(("_mean", "_variance"))]
    assert all(np.array_equal(before[name], after[name]) for name in trained)  # at a rate of 0
    velocities = {
        name: value for name, value in read_paddle(workspace / "output/latest.pdopt").items() if "velo" in name
    }
    assert len(velocities) > 20 and not any(name.startswith("their") for name in velocities)
    assert np.mean([np.abs(value).mean() > 0.3 for value in velocities.values()]) > 0.9  # theirs, decayed by momentum


CENTERS = {"CenterLoss": {"weight": 0.01, "num_classes": 6, "feat_dim": 16}}


def their_networks(workspace: Path, losses: bool = True) -> Path:
    """Write what PaddleClas writes of two networks with a loss that has centres."""
    config = load_config(write(workspace, ARCH, [*UDML, CENTERS]))
    assert config.Distillation is not None
    networks = {"Teacher": config.Distillation.peers[0].arch, "Student": config.Arch}
    state = {
        f"{key}.{name}": tensor
        for key, arch in networks.items()
        for name, tensor in build_rec_model(arch).state_dict().items()
    }
    state |= {"loss_func.3.centers": paddle.full([6, 16], 0.25)} if losses else {}
    optimizer = {}
    for number, (name, tensor) in enumerate(state.items()):
        tensor.name = f"their_{number}.w_0"
        if not name.endswith(("_mean", "_variance")):
            optimizer[f"their_{number}.w_0_velocity_0"] = paddle.full(tensor.shape, float(number + 1))
    folder = workspace / "theirs"
    folder.mkdir()
    paddle.save(state, str(folder / "epoch_1.pdparams"))
    paddle.save([optimizer], str(folder / "epoch_1.pdopt"))
    paddle.save({"metric": 0.5, "epoch": 1}, str(folder / "epoch_1.pdstates"))
    return folder / "epoch_1"


def test_two_networks_of_theirs_go_on_with_what_losses_have_learned(workspace: Path) -> None:
    prefix = their_networks(workspace)
    run = [*RUN[:-1], "0", "-o", "Optimizer.name=Momentum", "-o", f"Global.checkpoints={prefix}"]
    done = shitu(*run, cwd=workspace)
    assert "1 epochs are done" in " ".join((done.stdout + done.stderr).split())
    theirs = read_paddle(f"{prefix}.pdparams")
    weights, rest = (read_paddle(workspace / f"output/latest.{kind}") for kind in ("pdparams", "pdtrain"))
    ours = {f"Student.{name}": array for name, array in weights.items()}
    ours |= {name.removeprefix("loss.peers.networks."): array for name, array in rest.items()}
    ours["loss_func.3.centers"] = ours.pop("loss.parts.3.centers")
    assert ours.keys() == theirs.keys()
    trained = [name for name in theirs if not name.endswith(("_mean", "_variance"))]
    assert all(np.array_equal(ours[name], theirs[name]) for name in trained)  # at a rate of 0
    velocities = [value for name, value in read_paddle(workspace / "output/latest.pdopt").items() if "velo" in name]
    assert len(velocities) == len(trained)
    assert np.mean([np.abs(value).mean() > 0.3 for value in velocities]) > 0.9  # theirs, decayed by momentum


def with_a_mean(prefix: Path) -> None:
    """Make of a checkpoint one with EMA: its mean is a deep copy, with names of its own for Paddle."""
    weights = prefix.with_name(f"{prefix.name}.pdparams")
    mean = {}
    for name, array in read_paddle(weights).items():
        if not name.startswith("loss_func."):
            mean[name] = paddle.to_tensor(array + 1)
            mean[name].name = f"{name}_deepcopy_7"
    weights.rename(weights.with_suffix(".pdema"))
    paddle.save(mean, str(weights))


def test_with_a_mean_the_optimiser_and_the_losses_go_on_from_the_weights_beside_it(workspace: Path) -> None:
    prefix = their_networks(workspace)
    before = read_paddle(f"{prefix}.pdparams")
    with_a_mean(prefix)
    config = load_config(
        workspace / "shitu.yaml", ["Optimizer.name=Momentum", "EMA.decay=0.5", "Global.eval_during_train=False"]
    )
    training = build_training(config, device="cpu", ranks=Ranks(), threads=1, reporter=SilentReporter(), resuming=True)
    saved = read_checkpoint(prefix, training)
    student = {name.removeprefix("Student."): a for name, a in before.items() if name.startswith("Student.")}
    assert saved.weights.keys() == student.keys()
    assert all(np.array_equal(saved.weights[name], array + 1) for name, array in student.items())
    assert all(np.array_equal(saved.training[f"model.{name}"], array) for name, array in student.items())
    peers = {name: array for name, array in before.items() if name.startswith("Teacher.")}
    assert all(np.array_equal(saved.training[f"loss.peers.networks.{name}"], array) for name, array in peers.items())
    assert np.array_equal(saved.training["loss.parts.3.centers"], before["loss_func.3.centers"])
    trained = [name for name in before if not name.endswith(("_mean", "_variance"))]
    assert len(saved.optimizer) == len(trained) and len(saved.notes) == 1  # nothing begins anew
    assert saved.state.ema_updates == saved.state.global_step > 0  # the first update does not blot the mean out


def test_a_checkpoint_of_other_networks_is_refused_with_a_way_on(workspace: Path) -> None:
    prefix = their_networks(workspace, losses=False)
    state = {name.replace("Teacher.", "Tutor."): value for name, value in read_paddle(f"{prefix}.pdparams").items()}
    paddle.save(state, f"{prefix}.pdparams")
    refused = shitu(*RUN, "-o", f"Global.checkpoints={prefix}", cwd=workspace, check=False)
    shown = " ".join(refused.stderr.split())
    assert refused.returncode == 3 and "holds no weights of Teacher" in shown
    assert "-o Global.checkpoints=null -o Global.pretrained_model=" in shown


def test_what_losses_have_learned_is_no_part_of_the_network(tmp_path: Path) -> None:
    from shitu_cli.weights.files import read_weights

    state = {"backbone.w": paddle.ones([2]), "loss_func.2.centers": paddle.ones([3])}
    paddle.save(state, str(tmp_path / "best_model.pdparams"))
    file = read_weights(tmp_path / "best_model")
    assert list(file.arrays) == ["backbone.w"] and "what losses have learned: 1 array under" in file.remarks[0]


def test_a_bare_backbone_starts_a_whole_network(workspace: Path) -> None:
    config = load_config(workspace / "shitu.yaml", SMALL[1::2])
    source, target = build_rec_model(config.Arch), build_rec_model(config.Arch)
    paddle.save(source.backbone.state_dict(), str(workspace / "bare.pdparams"))
    (remark,) = load_start(target, workspace / "bare.pdparams")
    assert remark == "only the backbone is taken from bare.pdparams; starting from random values: neck, head"
    for name, value in source.backbone.state_dict().items():
        np.testing.assert_array_equal(target.backbone.state_dict()[name].numpy(), value.numpy())
    wrapped = {f"_layers.Student.{name}": value for name, value in source.state_dict().items()}
    paddle.save(wrapped, str(workspace / "student.pdparams"))
    assert any("Student." in remark for remark in load_start(target, workspace / "student.pdparams"))
    del wrapped["_layers.Student.backbone.conv1.conv.weight"]
    paddle.save(wrapped, str(workspace / "damaged.pdparams"))
    with pytest.raises(DataError, match="do not fit"):
        load_start(target, workspace / "damaged.pdparams")


def test_a_last_layer_for_other_classes_begins_new(tmp_path: Path) -> None:
    from shitu_cli.model.backbones import build_backbone

    paddle.save(build_backbone("PPLCNet_x0_25").state_dict(), str(tmp_path / "published.pdparams"))
    other, same = build_backbone("PPLCNet_x0_25", class_num=12), build_backbone("PPLCNet_x0_25")
    (remark,) = load_backbone(other, tmp_path / "published.pdparams")
    assert sorted(other.left_new) == ["fc.bias", "fc.weight"] and "as the weights lack them: 2 arrays" in remark
    assert load_backbone(same, tmp_path / "published.pdparams") == []


def test_weights_trained_at_half_precision_go_on_as_their_optimiser_has_them(workspace: Path) -> None:
    """As Paddle writes it with AMP O2: float32 copies of the weights, after which the accumulators are called."""
    prefix = their_run(workspace, epoch=1)
    (table,) = read_paddle_tables(f"{prefix}.pdopt")
    velocities = {
        name.removesuffix("_velocity_0"): paddle.to_tensor(value) for name, value in table.items() if "velo" in name
    }
    copies = {f"{name}_fp32_master_0_velocity_0": value for name, value in velocities.items()}
    masters = {name: value + 0.25 for name, value in velocities.items()}
    paddle.save([{**copies, "master_weights": masters}], f"{prefix}.pdopt")
    config = load_config(workspace / "shitu.yaml", [*SMALL[1::2], "Optimizer.name=Momentum"])
    training = build_training(config, device="cpu", ranks=Ranks(), threads=1, reporter=SilentReporter(), resuming=True)
    saved = read_checkpoint(prefix, training)
    own = {parameter.name: name for name, parameter in training.optimizer.parameters}
    assert set(saved.optimizer) == {f"{name}_velocity_0" for name in own}
    for name, network in own.items():
        np.testing.assert_array_equal(saved.weights[network], saved.optimizer[f"{name}_velocity_0"] + 0.25)
