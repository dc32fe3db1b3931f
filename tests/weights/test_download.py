"""Downloads against a server on the loopback: whole, resumed, verified; every failure leaves the way out."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.reporting import SilentReporter
from shitu_cli.weights import download
from shitu_cli.weights.caches import note_of
from shitu_cli.weights.download import fetch
from shitu_cli.weights.files import check_weights
from tests.weights.server import Behaviour, serving

DATA = np.random.default_rng(0).bytes(700_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


class Lines(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)


def get(target: Path, *addresses: str, **options: Any) -> Path:
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
    with serving(Behaviour()) as address, pytest.raises(EnvironmentProblem) as caught:
        get(tmp_path / "w", f"{address}/mirror/w", f"{address}/w", by_hand="https://publisher/w")
    assert caught.value.hint == f"download https://publisher/w elsewhere and put it at {tmp_path / 'w'}"
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
            with pytest.raises(EnvironmentProblem, match="No space left") as caught:
                get(tmp_path / "w", f"{address}/w")
        assert "SHITU_WEIGHTS=" in str(caught.value.hint)
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


def test_a_server_that_falls_silent_is_left_and_the_rest_comes_from_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    behaviour = Behaviour({"/w": DATA}, stall_after=[200_000])
    with serving(behaviour) as address:
        assert get(tmp_path / "w", f"{address}/w", sha256=DIGEST).read_bytes() == DATA
        assert [wanted for _, wanted in behaviour.requests] == [None, "bytes=200000-"]
        behaviour.stall_after = [0] * 3
        with pytest.raises(EnvironmentProblem, match="cannot be downloaded"):
            get(tmp_path / "v", f"{address}/w")
    assert not (tmp_path / "v").exists()


PAGE = b"\n  <!DOCTYPE html><html><head><title>Welcome to our Wi-Fi</title></head></html>"


@pytest.mark.parametrize("name", ["w.pdparams", "w.safetensors", "w.pth"])
def test_a_login_page_is_no_file_of_weights_and_nothing_of_it_is_kept(name: str, tmp_path: Path) -> None:
    for body, said in ((PAGE, "a web page arrived"), (b'{"error": "no such key"}', "not a file of weights")):
        with serving(Behaviour({"/w": body})) as address, pytest.raises(EnvironmentProblem) as caught:
            get(tmp_path / name, f"{address}/w", check=check_weights)
        assert caught.value.details[0].startswith(f"{address}/w: ") and said in caught.value.details[0]
        assert ".part" not in caught.value.details[0]
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.lock"]


def test_a_page_instead_of_a_published_file_is_said_to_be_one(tmp_path: Path) -> None:
    with serving(Behaviour({"/w": PAGE})) as address, pytest.raises(EnvironmentProblem) as caught:
        get(tmp_path / "w", f"{address}/w", sha256=DIGEST)
    assert "a web page arrived" in caught.value.details[0]


def test_the_beginning_of_a_hash_is_compared(tmp_path: Path) -> None:
    with serving(Behaviour({"/w": DATA})) as address:
        assert get(tmp_path / "w", f"{address}/w", sha256=DIGEST[:8]).is_file()
        with pytest.raises(EnvironmentProblem):
            get(tmp_path / "v", f"{address}/w", sha256="0" * 8)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("ALL_PROXY", "socks://user:secret@127.0.0.1:9"),
        ("SSL_CERT_FILE", "/no/such/file.pem"),
    ],
)
def test_settings_that_do_not_work_are_named_beside_the_address(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value.startswith("socks5"):
        monkeypatch.setitem(sys.modules, "socksio", None)  # as without that package
    monkeypatch.setenv(variable, value)
    with pytest.raises(EnvironmentProblem) as caught:
        get(tmp_path / "w", "https://127.0.0.1:9/w")
    assert caught.value.details[0].startswith("https://127.0.0.1:9/w: the settings")
    assert variable in caught.value.details[0] and "secret" not in caught.value.details[0]
    assert caught.value.hint == f"download https://127.0.0.1:9/w elsewhere and put it at {tmp_path / 'w'}"


def test_a_host_that_cannot_be_encoded_is_an_address_that_does_not_work(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be downloaded"):
        get(tmp_path / "w", f"http://{'a' * 70}.example/w")


@pytest.mark.parametrize("there", ["folder", "target"])
def test_a_cache_that_refuses_is_replaced_by_another_one(there: str, tmp_path: Path) -> None:
    """Working elsewhere with -w, the usual way out, moves no cache."""
    (tmp_path / "cache").write_text("a file where the folder would be")
    folder = tmp_path / "cache" / "deeper" if there == "folder" else tmp_path / "cache"
    with serving(Behaviour({"/w": DATA})) as address, pytest.raises(EnvironmentProblem) as caught:
        get(folder / "w", f"{address}/w")
    assert "SHITU_WEIGHTS=" in str(caught.value.hint) and "-w" not in str(caught.value.hint)
