"""Surroundings of every test of weights: empty caches, no proxies, no settings of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

SETTINGS = (
    *("SHITU_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"),
    *("SHITU_WEIGHTS_MIRROR", "TORCH_HOME", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHITU_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
