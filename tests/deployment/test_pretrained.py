"""Published weights that are exported into the cache at first use, and weights of others with their network."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.load import load_config  # noqa: E402
from shitu_cli.deployment import pretrained  # noqa: E402
from shitu_cli.errors import DataError, EnvironmentProblem, Message, UsageError, plain  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.reporting import SilentReporter  # noqa: E402
from shitu_cli.templates import templates_dir  # noqa: E402
from shitu_cli.weights import store  # noqa: E402
from shitu_cli.weights.catalogue import CATALOGUE  # noqa: E402

MANIFEST = {
    "format": 1, "feature_size": 4, "normalized_inside": False, "image_shape": [3, 8, 8], "transform_ops": [],
    "feature": "features", "model": {}, "source": {}, "files": {},
}  # fmt: skip


class Lines(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: Message) -> None:
        self.lines.append(plain(text))

    warn = info


def test_what_is_damaged_in_the_cache_is_exported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes there, so that an error could not say what to do."""
    weights, written = tmp_path / "weights.npz", list[Path]()
    weights.write_bytes(b"weights")

    def write(entry: object, located: object, folder: Path, options: object, reporter: object) -> None:
        written.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(MANIFEST))

    found = (CATALOGUE["efficientnet-lite0"], SimpleNamespace(path=weights, origin="here"))
    monkeypatch.setattr(pretrained, "_find", lambda what, reporter: found)
    monkeypatch.setattr(pretrained, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(pretrained, "_write", write)
    folder = pretrained.export_pretrained("efficientnet-lite0")
    assert pretrained.export_pretrained("efficientnet-lite0") == folder and written == [folder]
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, "feature_size": 0}))
    assert pretrained.export_pretrained("efficientnet-lite0") == folder and written == [folder, folder]
    (folder / "manifest.json").unlink()
    with store.rehearsing():
        measured = pretrained.export_pretrained("efficientnet-lite0")
    assert measured != folder and not (folder / "manifest.json").exists()

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(pretrained, "_write", refuse)
    with pytest.raises(EnvironmentProblem) as caught:
        pretrained.export_pretrained("efficientnet-lite0")
    assert "SHITU_WEIGHTS=" in str(caught.value.hint)


def network_of(what: str, lines: Lines) -> paddle.nn.Layer:
    """The network that would be exported."""
    entry, located = pretrained._find(what, lines)
    entry = pretrained._as_the_file_is(entry, located, lines)
    return pretrained._trained(entry, located).network


def save(model: paddle.nn.Layer, path: Path, *prefixes: str) -> Path:
    paddle.save(
        {name: value for name, value in model.state_dict().items() if name.startswith(prefixes or "")}, str(path)
    )
    return path


def test_a_bare_backbone_of_a_network_with_a_published_recognition_model(tmp_path: Path) -> None:
    backbone = build_rec_model({"Backbone": {"name": "PPLCNet_x2_5"}}).backbone
    lines = Lines()
    network = network_of(f"PPLCNet_x2_5={save(backbone, tmp_path / 'mine.pdparams')}", lines)
    assert network.neck is None and network.feature_size == 1280
    name, value = next(iter(network.backbone.state_dict().items()))
    assert (value.numpy() == backbone.state_dict()[name].numpy()).all()
    assert any("resized to 224 px" in line for line in lines.lines)


def test_a_whole_model_is_that_of_the_template_or_only_its_backbone_is_used(tmp_path: Path) -> None:
    arch = load_config(templates_dir() / "general_v1.yaml").Arch
    model = build_rec_model(arch)
    lines = Lines()
    whole = network_of(f"PPLCNet_x2_5={save(model, tmp_path / 'whole.pdparams')}", lines)
    assert whole.feature_size == 512 and not any("only its backbone" in line for line in lines.lines)
    other = build_rec_model(
        {"Backbone": {"name": "PPLCNet_x2_5"}, "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 64},
         "BackboneStopLayer": {"name": "flatten"}}
    )  # fmt: skip
    lines = Lines()
    bare = network_of(f"PPLCNet_x2_5={save(other, tmp_path / 'other.pdparams')}", lines)
    assert bare.neck is None and any("only its backbone is used" in line for line in lines.lines)


def test_a_network_for_which_nothing_is_published(tmp_path: Path) -> None:
    backbone = build_rec_model({"Backbone": {"name": "AdaFace_IR_18"}}).backbone
    lines = Lines()
    network = network_of(f"AdaFace_IR_18={save(backbone, tmp_path / 'face.pdparams')}", lines)
    assert network.feature_size == 512
    assert any("resized to 112 px" in line and "mean [0.485" in line for line in lines.lines)


@pytest.mark.slow
def test_the_published_models_with_a_neck_of_their_own(tmp_path: Path) -> None:
    entry = CATALOGUE["pp-shitu-v2-clip-base"]
    arch = pretrained._arch(entry)
    assert arch.neck is not None and arch.backbone.name == "CLIP_vit_base_patch16_224"
    path = save(build_rec_model(arch), tmp_path / "PP-ShiTuV2_rec_CLIP_vit_base_pretrained.pdparams")
    entry, located = pretrained._find(str(path), SilentReporter())
    assert entry.name == "pp-shitu-v2-clip-base" and pretrained._trained(entry, located).network.feature_size == 512


def test_the_network_is_looked_at_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UsageError, match=r"called PPLCNetV2_larg \(did you mean PPLCNetV2_large"):
        pretrained.export_pretrained("PPLCNetV2_larg=https://example.org/w.pdparams")


def test_weights_of_another_network_are_refused_with_a_way_that_these_commands_have(tmp_path: Path) -> None:
    backbone = build_rec_model({"Backbone": {"name": "PPLCNet_x0_25"}}).backbone
    path = save(backbone, tmp_path / "mine.pdparams")
    with pytest.raises(DataError) as caught:
        network_of(f"ResNet18={path}", Lines())
    assert "--pretrained NETWORK=FILE" in str(caught.value.hint) and "-o" not in str(caught.value.hint)
