"""Downloads against a server on the loopback: whole, resumed, verified; every failure leaves the way out."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.reporting import SilentReporter
from shitu_cli.weights import download, store
from shitu_cli.weights.catalogue import CATALOGUE, Package, Published, find_published, published_for
from shitu_cli.weights.download import check_note, fetch, note_of
from tests.weights.server import Behaviour, serving

DATA = np.random.default_rng(0).bytes(700_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


class Lines(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SHITU_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "SHITU_WEIGHTS_MIRROR", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHITU_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def get(target: Path, *addresses: str, **options: str) -> Path:
    return fetch(target, addresses, SilentReporter(), wait=lambda seconds: None, **options)


def test_a_whole_download_is_noted_with_its_hash_and_said_to_be_trusted(tmp_path: Path) -> None:
    lines = Lines()
    with serving(Behaviour({"/w": DATA})) as address:
        path = fetch(tmp_path / "a" / "w", [f"{address}/w"], lines)
    assert path.read_bytes() == DATA
    assert json.loads(note_of(path).read_text()) == {"address": f"{address}/w", "sha256": DIGEST, "size": len(DATA)}
    assert any("no checksum is published" in line and DIGEST in line for line in lines.lines)
    assert sorted(p.name for p in path.parent.iterdir()) == ["w", "w.json", "w.lock"]


def test_a_file_that_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    behaviour = Behaviour({"/w": DATA})
    with serving(behaviour) as address:
        get(tmp_path / "w", f"{address}/w", sha256=DIGEST)
        get(tmp_path / "w", f"{address}/w", sha256=DIGEST)
    assert len(behaviour.requests) == 1


def test_a_download_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    behaviour = Behaviour({"/w": DATA}, cut_after=[300_000, 100_000])
    with serving(behaviour) as address:
        path = get(tmp_path / "w", f"{address}/w", sha256=DIGEST)
    assert path.read_bytes() == DATA
    assert [wanted for _, wanted in behaviour.requests] == [None, "bytes=300000-", "bytes=400000-"]


def test_an_interrupted_download_goes_on_in_the_next_command(tmp_path: Path) -> None:
    behaviour = Behaviour({"/w": DATA}, cut_after=[100_000] * 3)
    with serving(behaviour) as address:
        with pytest.raises(EnvironmentProblem):
            get(tmp_path / "w", f"{address}/w")
        path = get(tmp_path / "w", f"{address}/w")
    assert path.read_bytes() == DATA and behaviour.requests[-1][1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    behaviour = Behaviour({"/w": b"old" * 100_000}, cut_after=[200_000, 10, 10])
    with serving(behaviour) as address:
        with pytest.raises(EnvironmentProblem):
            get(tmp_path / "w", f"{address}/w")
        behaviour.files["/w"], behaviour.tag, behaviour.cut_after = DATA, '"2"', []
        assert get(tmp_path / "w", f"{address}/w").read_bytes() == DATA


def test_a_server_without_ranges_sends_all_again(tmp_path: Path) -> None:
    behaviour = Behaviour({"/w": DATA}, cut_after=[300_000], ranges=False)
    with serving(behaviour) as address:
        assert get(tmp_path / "w", f"{address}/w", sha256=DIGEST).read_bytes() == DATA


def test_a_wrong_file_is_refused_and_the_next_address_is_tried(tmp_path: Path) -> None:
    behaviour = Behaviour({"/bad": b"something else", "/good": DATA})
    with serving(behaviour) as address:
        path = get(tmp_path / "w", f"{address}/bad", f"{address}/missing", f"{address}/good", sha256=DIGEST)
        assert path.read_bytes() == DATA
        with pytest.raises(EnvironmentProblem) as caught:
            get(tmp_path / "v", f"{address}/bad", sha256=DIGEST)
    assert "not the published file" in caught.value.details[0]
    assert not (tmp_path / "v").exists() and not list(tmp_path.glob("v.*.part"))


def test_when_nothing_works_the_address_and_the_place_are_named(tmp_path: Path) -> None:
    with serving(Behaviour()) as address, pytest.raises(EnvironmentProblem) as caught:
        get(tmp_path / "w", f"{address}/w", f"{address}/mirror/w")
    assert caught.value.details == [
        f"{address}/w: the server answers 404 Not Found",
        f"{address}/mirror/w: the server answers 404 Not Found",
    ]
    assert caught.value.hint == f"download {address}/w elsewhere and put it at {tmp_path / 'w'}"
    (tmp_path / "w").write_bytes(DATA)  # by hand
    assert get(tmp_path / "w", "http://127.0.0.1:9/w").read_bytes() == DATA


def test_a_busy_server_is_asked_again_and_a_dead_one_is_an_error(tmp_path: Path) -> None:
    behaviour = Behaviour({"/w": DATA}, failures=2)
    with serving(behaviour) as address:
        assert get(tmp_path / "w", f"{address}/w").read_bytes() == DATA
    with pytest.raises(EnvironmentProblem, match="cannot be downloaded"):
        get(tmp_path / "v", "http://127.0.0.1:9/v")
    with pytest.raises(EnvironmentProblem, match="cannot be downloaded"):
        get(tmp_path / "v", "http://[broken/v")


@pytest.mark.parametrize("variable", ["SHITU_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    behaviour = Behaviour({"/w": DATA})
    with serving(behaviour) as address, pytest.raises(EnvironmentProblem) as caught:
        get(tmp_path / "w", f"{address}/w")
    assert behaviour.requests == [] and "turned off" in caught.value.details[0]


def test_a_full_disk_is_named_and_the_part_stays_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving(Behaviour({"/w": DATA})) as address:
        with monkeypatch.context() as patch:
            patch.setattr(download.os, "fsync", refuse)
            with pytest.raises(EnvironmentProblem, match="No space left"):
                get(tmp_path / "w", f"{address}/w")
        assert not (tmp_path / "w").exists()
        assert get(tmp_path / "w", f"{address}/w").read_bytes() == DATA


def test_four_processes_at_once_download_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from shitu_cli.weights.download import fetch; "
        "from shitu_cli.reporting import SilentReporter; "
        "print(len(fetch(Path(sys.argv[1]), [sys.argv[2]], SilentReporter()).read_bytes()))"
    )
    behaviour = Behaviour({"/w": DATA}, delay=0.5)
    with serving(behaviour) as address:
        command = [sys.executable, "-c", code, str(tmp_path / "w"), f"{address}/w"]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert outputs == [str(len(DATA))] * 4 and len(behaviour.requests) == 1


def test_a_file_that_changes_after_its_download_is_noticed(tmp_path: Path) -> None:
    with serving(Behaviour({"/w": DATA})) as address:
        path = get(tmp_path / "w", f"{address}/w")
    assert check_note(path) == DIGEST
    path.write_bytes(DATA[:-1])
    with pytest.raises(DataError, match="has changed since it was downloaded"):
        check_note(path)


def published(address: str, **more: object) -> Published:
    return Published("tiny", "PPLCNet_x0_25", "nothing", (f"{address}/tiny.pdparams",), **more)


def test_the_caches_of_others_are_looked_in_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published("http://127.0.0.1:9", hub=("timm/tiny.in1k", "model.safetensors"))
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    home = tmp_path / "home"
    places = {
        "the Hugging Face cache": home / ".cache/huggingface/hub/models--timm--tiny.in1k/snapshots/1/model.safetensors",
        "PaddleClas's cache": home / ".paddleclas/weights/tiny.pdparams",
        "the cache": tmp_path / "cache/tiny.in1k.safetensors",
    }
    for origin, path in places.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(DATA)
        located = store.obtain("tiny")
        assert (located.path, located.origin) == (path, origin)


def test_an_address_of_paddleclas_is_looked_up_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/others/resnet50_torch2paddle.pdparams"
    assert not store.looks_like_a_file(theirs)
    monkeypatch.setattr(store, "fetch", lambda target, *_: target)
    path = tmp_path / "home/.paddleclas/weights/resnet50_torch2paddle.pdparams"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert store.obtain(theirs).path == path
    for other in (theirs.replace("resnet50", "resnet18"), theirs.replace("bcebos.com", "example.org")):
        assert store.obtain(other).origin == "downloaded"


def test_a_package_carries_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('not to be imported')")
    (package / "w.pth").write_bytes(DATA)
    entry = Published("tiny", "n", "t", (), package=Package("tiny-weights", "tiny_weights", "w.pth"), sha256=DIGEST)
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    with pytest.raises(UsageError) as caught:
        store.obtain("tiny")
    assert caught.value.hint == "pip install tiny-weights"
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert store.obtain("tiny").path == package / "w.pth"
    (package / "w.pth").write_bytes(b"forged")
    with pytest.raises(DataError, match="not the published file of tiny"):
        store.obtain("tiny")


def test_mirror_and_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = Behaviour({"/m/tiny.in1k.safetensors": DATA, "/timm/tiny.in1k/resolve/main/model.safetensors": DATA})
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
    assert [path for path, _ in behaviour.requests] == [
        "/timm/tiny.in1k/resolve/main/model.safetensors",
        "/m/tiny.in1k.safetensors",
    ]
    assert not any("Authorization" in headers for headers in behaviour.headers)  # the token is for the hub alone


def test_an_address_and_a_file(tmp_path: Path) -> None:
    with serving(Behaviour({"/other/own.pdparams": DATA})) as address:
        located = store.obtain(f"{address}/other/own.pdparams?download=1")
    assert located.path.parent == tmp_path / "cache" and located.path.match("own-????????????.pdparams")
    assert store.obtain(str(located.path)).path == located.path
    with pytest.raises(DataError, match="no weights file"):
        store.obtain(str(tmp_path / "nothing.pdparams"))


def test_files_of_one_name_at_two_addresses_are_two() -> None:
    behaviour = Behaviour({"/run1/best_model.pdparams": b"first", "/run2/best_model.pdparams": b"second"})
    with serving(behaviour) as address:
        for _ in range(2):
            first, second = (store.obtain(f"{address}/run{n}/best_model.pdparams").path for n in (1, 2))
            assert (first.read_bytes(), second.read_bytes()) == (b"first", b"second")
    assert len(behaviour.requests) == 2


def test_a_user_without_a_home_has_no_caches_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    with serving(Behaviour({"/tiny.pdparams": DATA})) as address:
        entry = published(address, hub=("timm/tiny.in1k", "model.safetensors"))
        monkeypatch.setitem(CATALOGUE, "tiny", entry)
        assert store.locate(entry) is None
        assert store.obtain("tiny").path == tmp_path / "cache" / entry.file_name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("SHITU_WEIGHTS")
    assert store.locate(entry) is None  # and no error


def test_names_are_found_by_what_people_type() -> None:
    assert find_published("PP-ShiTu-V2").network == "PPLCNetV2_base_ShiTu"
    assert find_published("vit_small_patch14_dinov2").name == "vit_small_patch14_dinov2.lvd142m"
    with pytest.raises(UsageError, match="did you mean"):
        find_published("PPLCNet_x3_0")
    plain, distilled = published_for("PPLCNet_x2_5"), published_for("PPLCNet_x2_5", distilled=True)
    assert plain is not None and plain.name == "PPLCNet_x2_5"
    assert distilled is not None and distilled.name == "PPLCNet_x2_5_ssld"
    assert published_for("PPLCNet_x0_35", distilled=True) is None


def test_every_entry_is_complete() -> None:
    from shitu_cli.config.parts import KINDS

    files = [entry.file_name for entry in CATALOGUE.values()]
    assert len(set(files)) == len(files)
    for entry in CATALOGUE.values():
        assert entry.network in KINDS["backbone"].parts, entry.name
        assert entry.addresses or entry.package, entry.name
        assert all(address.startswith("https://") for address in entry.addresses), entry.name
