"""Weights files: read without running them, loaded strictly."""

import os
import pickle

import numpy as np
import pytest
import yaml

from shitu_cli.errors import ConfigError, DataError
from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.parts.backbones import Backbone  # noqa: E402
from shitu_cli.config.reader import make_part  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.misfit import TEMPLATES, is_of_other_family  # noqa: E402
from shitu_cli.model.weights import load_backbone, load_start, load_weights  # noqa: E402
from shitu_cli.templates import read_template  # noqa: E402
from shitu_cli.weights.catalogue import CATALOGUE  # noqa: E402
from shitu_cli.weights.files import read_state  # noqa: E402
from tests.weights.test_torch_files import _tensor, _zip  # noqa: E402


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
        ("PPLCNet_x0_25", "PPLCNet_x0_35", "arrays have another size: the file may be of another width"),
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


def arrays_of(layer):
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def drawn_backbone(name="PPLCNet_x0_25"):
    """A backbone whose weights no other one has."""
    return build_rec_model({"Backbone": {"name": name}}).backbone


def as_bfloat16(array):
    """As Paddle's numpy() gives it: the upper halves of float32."""
    return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16)


def write_half(path, arrays, kind):
    """Write arrays in half precision in the format of the file's ending."""
    half = {name: as_bfloat16(a) if kind == "bfloat16" else a.astype(np.float16) for name, a in arrays.items()}
    if path.suffix == ".pdparams":
        path.write_bytes(pickle.dumps(half, protocol=4))
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file(half, path)
    else:
        storage = "BFloat16Storage" if kind == "bfloat16" else "HalfStorage"
        tensors = {name: _tensor(storage, str(n), a.size, a.shape) for n, (name, a) in enumerate(half.items())}
        path.write_bytes(_zip(tensors, {str(n): a.tobytes() for n, a in enumerate(half.values())}))


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("w.safetensors", "float16"),
        ("w.pth", "float16"),
        ("w.pth", "bfloat16"),
        ("w.pdparams", "float16"),
        ("w.pdparams", "bfloat16"),
    ],
)
def test_weights_in_half_precision_start_a_network(tmp_path, file, kind):
    source = arrays_of(drawn_backbone())
    write_half(tmp_path / file, source, kind)
    built = build_rec_model(arch(pretrained=str(tmp_path / file)))
    started = build_rec_model(arch())
    load_start(started, tmp_path / file)
    for backbone in (built.backbone, started.backbone):
        for name, array in arrays_of(backbone).items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, source[name], rtol=2**-7, atol=1e-6)


def test_positions_in_half_precision_are_resampled(tmp_path):
    network = {"name": "vit_tiny_patch16_224", "img_size": 32}
    write_half(tmp_path / "w.pth", arrays_of(build_rec_model({"Backbone": network}).backbone), "float16")
    start = {**network, "img_size": 48, "pretrained": str(tmp_path / "w.pth")}
    assert build_rec_model({"Backbone": start}).backbone.pos_embed.dtype == paddle.float32


def test_quantised_weights_are_refused(tmp_path):
    arrays = arrays_of(drawn_backbone())
    arrays["conv1.conv.weight"] = arrays["conv1.conv.weight"].astype(np.int8)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(DataError) as caught:
        build_rec_model(arch(pretrained=str(tmp_path / "w.npz")))
    assert caught.value.details == ["type of conv1.conv.weight: file int8, network float32"]


def test_a_backbone_is_taken_out_of_a_whole_model_and_that_is_said(tmp_path):
    whole = build_rec_model(arch())
    np.savez(tmp_path / "w.npz", **{f"module.{name}": value for name, value in arrays_of(whole).items()})
    backbone = build_rec_model(arch(pretrained=str(tmp_path / "w.npz"))).backbone
    assert backbone.start_remarks == [
        "took the names without their prefix 'module.'",
        "took the names under 'backbone.' of w.npz, leaving out head, neck",
    ]
    assert np.array_equal(backbone.conv1.conv.weight.numpy(), whole.backbone.conv1.conv.weight.numpy())


def test_a_backbone_of_pytorch_below_a_prefix_starts_a_whole_model(tmp_path):
    source = arrays_of(drawn_backbone("mobilenetv4_conv_small"))
    theirs = {"_mean": "running_mean", "_variance": "running_var"}
    names = {name: ".".join([name.rpartition(".")[0], theirs.get(name.rpartition(".")[2], name.rpartition(".")[2])])
             for name in source}  # fmt: skip
    arrays = {f"backbone.{names[name]}": value for name, value in source.items()}
    np.savez(tmp_path / "w.npz", **arrays, **{"head.fc.weight": np.zeros(3, np.float32)})
    network = {"Backbone": {"name": "mobilenetv4_conv_small"}, "Head": {**arch()["Head"], "embedding_size": 1280}}
    model = build_rec_model(network)
    assert load_start(model, tmp_path / "w.npz") == [
        "took the names under 'backbone.' of w.npz, leaving out head",
        "only the backbone is taken from w.npz; starting from random values: head",
    ]
    for name, value in arrays_of(model.backbone).items():
        assert np.array_equal(value, source[name]), name


def test_what_begins_new_and_what_is_left_out_is_said(tmp_path):
    paddle.save(build_rec_model(arch()).state_dict(), str(tmp_path / "w.pdparams"))
    other = {**arch(classes=7), "Neck": None}
    other["Head"] = {**other["Head"], "embedding_size": 1280}
    assert load_start(build_rec_model(arch()), tmp_path / "w") == [
        "the head of w.pdparams is kept: its classes must be those of the training list, in the same order"
    ]
    assert load_start(build_rec_model(other), tmp_path / "w", allow_missing_prefixes=("head.", "neck.")) == [
        "starting from random values: head (w.pdparams has none of this size)",
        "left out of w.pdparams: neck",
    ]


def test_arrays_that_a_start_lacks_are_counted(tmp_path):
    small = {"depths": [1, 1, 1, 1], "scale": 0.5}
    start = build_rec_model({"Backbone": {"name": "PPLCNetV2_base", **small}}).backbone
    paddle.save(start.state_dict(), str(tmp_path / "w.pdparams"))
    backbone = build_rec_model({"Backbone": {"name": "PPLCNetV2_base_ShiTu", **small}}).backbone
    (remark,) = load_backbone(backbone, tmp_path / "w")
    assert f"as the weights lack them: {len(backbone.left_new)} arrays of the backbone, such as" in remark


def test_a_file_of_the_catalogue_says_which_network_it_belongs_to(tmp_path):
    file = tmp_path / "MobileNetV3_small_x0_35_pretrained.pdparams"
    paddle.save(drawn_backbone("MobileNetV3_small_x0_35").state_dict(), str(file))
    with pytest.raises(DataError) as caught:
        build_rec_model(arch(pretrained=str(file)))
    assert "they belong to MobileNetV3_small_x0_35, the network is PPLCNet_x0_25" in caught.value.message
    assert "Arch.Backbone.name=MobileNetV3_small_x0_35" in caught.value.hint


@pytest.mark.parametrize(
    ("network", "own", "other"),
    [
        ("ResNet50", "ResNet50_last_stage_stride1", False),
        ("ResNet50", "resnet50", False),
        ("PPLCNetV2_base", "PPLCNetV2_base_ShiTu", False),
        ("PPLCNet_x1_0", "PPLCNet_x0_5", False),  # which of them it is, its shapes tell
        ("tf_efficientnet_lite0", "PPLCNet_x0_5", True),
        ("vit_small_patch14_dinov2", "mobilenetv4_conv_small", True),
        ("nobody's", "PPLCNet_x0_5", False),
    ],
)
def test_only_variants_of_a_network_share_weights(network, own, other):
    assert is_of_other_family(network, make_part("backbone", own)) is other


def test_backbones_of_installed_packages_may_take_any_weights():
    assert not is_of_other_family("tf_efficientnet_lite0", Backbone(name="mine"))


def test_the_templates_named_for_weights_have_their_network():
    networks = {entry.network for entry in CATALOGUE.values()}
    for network, template in TEMPLATES.items():
        assert yaml.safe_load(read_template(template))["Arch"]["Backbone"]["name"] == network and network in networks


def test_what_pretrained_means_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("SHITU_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("SHITU_OFFLINE", "1")
    expected = {}
    for name in ("PPLCNet_x0_25", "PPLCNet_x0_25_ssld"):
        source = drawn_backbone()
        paddle.save(source.state_dict(), str(tmp_path / f"{name}_pretrained.pdparams"))
        expected[name] = source.conv1.conv.weight.numpy()
    address = CATALOGUE["PPLCNet_x0_25_ssld"].addresses[0]
    for start, name in (
        ({"pretrained": True}, "PPLCNet_x0_25"),
        ({"pretrained": True, "use_ssld": True}, "PPLCNet_x0_25_ssld"),
        ({"pretrained": "PPLCNet_x0_25_ssld"}, "PPLCNet_x0_25_ssld"),
        ({"pretrained": address}, "PPLCNet_x0_25_ssld"),
    ):
        model = build_rec_model(arch(**start))
        assert np.array_equal(model.backbone.conv1.conv.weight.numpy(), expected[name]), start


def test_networks_without_published_weights_say_so():
    with pytest.raises(ConfigError, match=r"no published distilled \(SSLD\) weights for PPLCNet_x0_35") as caught:
        build_rec_model({"Backbone": {"name": "PPLCNet_x0_35", "pretrained": True, "use_ssld": True}})
    assert "Arch.Backbone.pretrained=False" in caught.value.hint
