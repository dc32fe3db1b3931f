"""The settings of a server: its key, its folders, and the limits of one request and of all together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, read_bytes

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
KEY_VARIABLE = "SHITU_API_KEY"
SHORTEST_KEY = 16  # characters


@dataclass(frozen=True)
class Limits:
    """Bounds that keep a server alive: whatever exceeds one is refused at once, with a status that says why.

    `body` is the size of one request in bytes, `pixels` that of one image, `images` how many a request may hold,
    `waiting` how many images may wait for the network, `changes` how many requests to add or remove may wait,
    `memory` the bytes of all requests that are being received or answered, `seconds` how long one may take.
    """

    body: int = 64 * MIB
    pixels: int = 64_000_000
    images: int = 64
    waiting: int = 512
    changes: int = 64
    memory: int = 1024 * MIB
    seconds: float = 60.0


@dataclass(frozen=True)
class Settings:
    """The settings of a server besides its model and its index.

    `key` is the API key that requests must carry ("" for none), `kept` the folder for what clients send: photos that
    they add, and indexes that PaddleX's clients build. `root` is what the paths in the index are relative to.
    """

    kept: Path
    root: Path
    key: str = ""
    read_only: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def photos(self) -> Path:
        return self.kept / "photos"

    @property
    def indexes(self) -> Path:
        return self.kept / "indexes"


def read_key(file: Path) -> str:
    """Return the API key that a file holds; DataError if it is too short to keep anybody out."""
    key = read_bytes(file, limit=4096).decode("utf-8", "replace").strip()
    return checked_key(key, str(file))


def checked_key(key: str, source: str) -> str:
    """Return the key; DataError for one that is short or that no HTTP header can carry."""
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise DataError(
            f"{source}: an API key has at least {SHORTEST_KEY} printable ASCII characters without spaces",
            hint="openssl rand -hex 24 makes one",
        )
    return key
