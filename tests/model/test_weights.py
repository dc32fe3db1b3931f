"""Weights files: read without running them, loaded strictly."""

import os
import pickle

import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.weights import load_weights  # noqa: E402
from shitu_cli.weights.files import read_state  # noqa: E402


def arch(classes=5, **backbone):
    return {
        "Backbone": {"name": "PPLCNet_x0_25", **backbone},
        "BackboneStopLayer": {"name": "flatten"},
        "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 16},
        "Head": {"name": "CosMargin", "embedding_size": 16, "class_num": classes},
    }


def test_saved_weights_come_back_with_or_without_suffix(tmp_path):
    model, other = build_rec_model(arch()), build_rec_model(arch())
    paddle.save(model.state_dict(), str(tmp_path / "w.pdparams"))
    assert load_weights(other, tmp_path / "w") == []
    for name, value in model.state_dict().items():
        assert np.array_equal(other.state_dict()[name].numpy(), value.numpy()), name
    assert set(read_state(tmp_path / "w.pdparams")) == set(model.state_dict())


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps({"w": Evil()}, protocol=2))
    with pytest.raises(DataError, match="mkdir"):
        read_state(tmp_path / "evil")
    assert not (tmp_path / "owned").exists()


def test_missing_empty_and_damaged_files(tmp_path):
    with pytest.raises(DataError, match="no weights file"):
        read_state(tmp_path / "nothing")
    for name, content in {"empty": b"", "text": b"hello", "cut": pickle.dumps({"a": np.zeros(9)})[:60]}.items():
        (tmp_path / f"{name}.pdparams").write_bytes(content)
        with pytest.raises(DataError):
            read_state(tmp_path / name)


def test_every_mismatch_is_listed_and_nothing_is_loaded(tmp_path):
    model = build_rec_model(arch(classes=7))
    state = {name: value.numpy() for name, value in build_rec_model(arch()).state_dict().items()}
    del state["neck.fc.bias"]
    state["surplus"] = np.zeros(3, "float32")
    paddle.save(state, str(tmp_path / "w.pdparams"))
    before = model.neck.fc.weight.numpy()
    with pytest.raises(DataError) as caught:
        load_weights(model, tmp_path / "w")
    assert sorted(caught.value.details) == [
        "missing in the file: neck.fc.bias [16]",
        "not in the network: surplus [3]",
        "shape of head.weight: file [16, 5], network [16, 7]",
    ]
    assert np.array_equal(before, model.neck.fc.weight.numpy())


def test_a_head_of_another_class_count_is_left_out_only_when_asked(tmp_path):
    paddle.save(build_rec_model(arch()).state_dict(), str(tmp_path / "w.pdparams"))
    assert load_weights(build_rec_model(arch(classes=7)), tmp_path / "w", allow_missing_prefixes=["head."]) == [
        "head.weight"
    ]


def test_backbone_weights_may_contain_the_classifier(tmp_path):
    whole = build_rec_model({"Backbone": {"name": "PPLCNet_x0_25", "class_num": 9}})
    assert whole(paddle.zeros([1, 3, 32, 32]))["features"].shape == [1, 9]
    paddle.save(whole.backbone.state_dict(), str(tmp_path / "classifier.pdparams"))
    model = build_rec_model(arch(pretrained=str(tmp_path / "classifier")))
    assert np.array_equal(model.backbone.conv1.conv.weight.numpy(), whole.backbone.conv1.conv.weight.numpy())


def test_safetensors_files_load(tmp_path):
    from safetensors.numpy import save_file

    model = build_rec_model(arch())
    save_file({name: value.numpy() for name, value in model.state_dict().items()}, str(tmp_path / "w.safetensors"))
    assert load_weights(build_rec_model(arch()), tmp_path / "w") == []
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        read_state(tmp_path / "bad.safetensors")


def misfit(tmp_path, network, **other):
    """What is said when the file of one network is loaded into another."""
    paddle.save(build_rec_model({"Backbone": other}).backbone.state_dict(), str(tmp_path / "w.pdparams"))
    with pytest.raises(DataError) as caught:
        build_rec_model({"Backbone": {"name": network, "pretrained": str(tmp_path / "w")}})
    return caught.value


@pytest.mark.parametrize(
    ("network", "file_of", "cause"),
    [
        ("PPLCNet_x0_25", "MobileNetV3_small_x0_35", "they belong to another network"),
        ("PPLCNet_x0_25", "PPLCNet_x0_35", "have another size"),
    ],
)
def test_a_misfit_names_its_cause_in_few_lines(tmp_path, network, file_of, cause):
    error = misfit(tmp_path, network, name=file_of)
    assert cause in error.message and error.hint is not None
    assert len(error.details) <= 11 and error.details[-1].startswith("... and ")


def test_a_start_from_the_published_variant_leaves_only_declared_layers_new(tmp_path):
    small = {"depths": [1, 1, 1, 1], "scale": 0.5}
    start = build_rec_model({"Backbone": {"name": "PPLCNetV2_base", **small}}).backbone
    paddle.save(start.state_dict(), str(tmp_path / "w.pdparams"))
    arch = {"name": "PPLCNetV2_base_ShiTu", "pretrained": str(tmp_path / "w"), **small}
    backbone = build_rec_model({"Backbone": arch, "BackboneStopLayer": {"name": "last_conv"}}).backbone
    assert {name.split(".")[0] for name in backbone.left_new} == {"stages", "last_conv"}
    assert all(name.startswith(("stages.3.0.dw_conv_list.2.", "last_conv.")) for name in backbone.left_new)
    assert np.array_equal(backbone.stem[0].conv.weight.numpy(), start.stem[0].conv.weight.numpy())
