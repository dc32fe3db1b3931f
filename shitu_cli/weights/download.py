"""Download one file: resumed, verified, whole or not at all, and only once if several processes want it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.files import atomic_write_json, atomic_write_text, sha256_of, sync_directory, try_lock
from shitu_cli.reporting import Reporter
from shitu_cli.weights.caches import note_of, writing

if TYPE_CHECKING:
    import httpx

TRIES = 3  # per address, each continuing where the last one stopped
TIMEOUT = 30.0  # seconds without a byte
LARGEST = 16 << 30  # bytes
_HUB_HOST = "huggingface.co"
# Variables that httpx obeys; their values may hold passwords.
_SETTINGS = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PAGE = re.compile(rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|body|script|meta|title|!--)")


class _Refused(Exception):
    """This address does not provide the file; another one may."""


def is_offline() -> bool:
    """Return whether the user forbids downloads."""
    return any(
        os.environ.get(name, "").lower() not in ("", "0", "false") for name in ("SHITU_OFFLINE", "HF_HUB_OFFLINE")
    )


def fetch(
    target: Path,
    addresses: Sequence[str],
    reporter: Reporter,
    *,
    sha256: str | None = None,
    check: Callable[[Path, str], None] | None = None,
    by_hand: str | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download `target` from the first address that works and return it; an existing file is kept.

    `<target>.json` records its address and its hash. `sha256` may be the beginning of the published hash; without one
    the first download is trusted, which is reported, if `check(path, name)` raises no DataError. Raises
    EnvironmentProblem if no address works; its hint says where to put the file by hand, from the address `by_hand`.
    """
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target, reporter, wait):
        if target.is_file():
            return target
        by_hand = by_hand or next(iter(addresses), "its address")
        if is_offline():
            off = "downloads are turned off (SHITU_OFFLINE or HF_HUB_OFFLINE)"
            raise _unreachable(target, by_hand, [off])
        failures = []
        for address in addresses:
            try:
                part = _part_from(address, target, reporter, wait)
                return _accept(part, address, target, reporter, sha256, check)
            except _Refused as refusal:
                failures.append(f"{address}: {refusal}")
        raise _unreachable(target, by_hand, failures)


def _part_from(address: str, target: Path, reporter: Reporter, wait: Callable[[float], None]) -> Path:
    """Download an address completely into a partial file beside `target` and return that."""
    # The partial file belongs to its address: two servers may have different files of the same name.
    part = target.with_name(f"{target.name}.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part")
    reporter.info(f"downloading {address}")
    for attempt in range(TRIES):
        try:
            _append(address, part, target.name, reporter)
            break
        except _transport_errors() as error:
            if attempt + 1 == TRIES:
                raise _Refused(str(error) or type(error).__name__) from error
            wait(2.0**attempt)
    return part


def _accept(
    part: Path,
    address: str,
    target: Path,
    reporter: Reporter,
    sha256: str | None,
    check: Callable[[Path, str], None] | None,
) -> Path:
    """Put a complete download in its place; raise _Refused, and keep nothing of it, if it is not the file."""
    digest = sha256_of(part)
    if reason := _objection(part, target.name, digest, sha256, check):
        part.unlink()
        _tag_of(part).unlink(missing_ok=True)
        raise _Refused(reason)
    if sha256 is None:
        reporter.info(f"no checksum is published for {target.name}: this first download is trusted (SHA-256 {digest})")
    with writing(target):
        # The note comes first: a file without one was put there by hand.
        atomic_write_json(note_of(target), {"address": address, "sha256": digest, "size": part.stat().st_size})
        os.replace(part, target)
        _tag_of(part).unlink(missing_ok=True)
        sync_directory(target.parent)
    return target


def _objection(
    part: Path, name: str, digest: str, sha256: str | None, check: Callable[[Path, str], None] | None
) -> str | None:
    """Return why a complete download is not the file that was asked for, None if nothing speaks against it."""
    with part.open("rb") as file:
        if _PAGE.match(file.read(512)):
            return (
                "a web page arrived instead of weights; some networks send a login page for every address: "
                "open a browser there first, then run the command again"
            )
    if sha256 is not None:
        matches = digest.startswith(sha256)
        return None if matches else f"this is not the published file: its SHA-256 is {digest}, expected {sha256}"
    try:
        if check is not None:
            check(part, name)
    except DataError as error:
        return f"what arrived is not a file of weights: {error.message.replace(str(part), name)}"
    return None


def _tag_of(part: Path) -> Path:
    """Return the file with the server's tag for the version of a partial file."""
    return part.with_name(f"{part.name}.tag")


def _append(address: str, part: Path, name: str, reporter: Reporter) -> None:
    """Complete `part` from an address; continue where it ends if the server still has the same version."""
    import httpx

    start = part.stat().st_size if part.is_file() and _tag_of(part).is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": _tag_of(part).read_text(encoding="utf-8")}
    token = os.environ.get("HF_TOKEN")
    if token and urlsplit(address).hostname == _HUB_HOST:
        headers["Authorization"] = f"Bearer {token}"
    with _client() as client, client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == 416 and start:  # the part is complete, or belongs to another file
            part.unlink()
            raise httpx.ReadError("the part that was downloaded earlier does not fit, starting again")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise httpx.ReadError(f"the server answers {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise _Refused(f"the server answers {answer.status_code} {answer.reason_phrase}")
        _keep(answer, part, start if answer.status_code == 206 else 0, name, reporter)


def _keep(answer: httpx.Response, part: Path, start: int, name: str, reporter: Reporter) -> None:
    """Write the body of an answer to `part` from byte `start` on; raise httpx.ReadError if a piece is missing."""
    import httpx

    length = answer.headers.get("Content-Length")
    total = int(length) + start if length and length.isdecimal() else None
    if total is not None and total > LARGEST:
        raise _Refused(f"the file has {total:,} bytes, more than the {LARGEST:,} that weights may have")
    size = start
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    with writing(part):
        if tag and not tag.startswith("W/"):
            atomic_write_text(_tag_of(part), tag)
        with reporter.progress(name, total or 0, "bytes") as bar, part.open("ab" if start else "wb") as file:
            bar.advance(size)
            for block in answer.iter_bytes():
                file.write(block)
                size += len(block)
                bar.advance(len(block))
                if size > LARGEST:
                    raise _Refused(f"the file is longer than the {LARGEST:,} bytes that weights may have")
            file.flush()
            os.fsync(file.fileno())
    if total is not None and size != total:
        raise httpx.ReadError(f"only {size:,} of {total:,} bytes arrived")


def _client() -> httpx.Client:
    """Return a client with this machine's proxies and certificates; raise _Refused if they cannot be used."""
    import httpx

    try:
        return httpx.Client(follow_redirects=True, timeout=TIMEOUT)
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        names = [name for name in _SETTINGS if os.environ.get(name) or os.environ.get(name.lower())]
        which = f" ({', '.join(names)})" if names else ""
        raise _Refused(f"the settings for proxies or certificates{which} do not work: {error}") from error


def _transport_errors() -> tuple[type[Exception], ...]:
    import httpx

    # Names of hosts that cannot be encoded, and such a token of HF_TOKEN, raise UnicodeError.
    return (httpx.TransportError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError)


def _unreachable(target: Path, by_hand: str, failures: Sequence[str]) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{target.name} cannot be downloaded",
        details=list(failures),
        hint=f"download {by_hand} elsewhere and put it at {target}",
    )


@contextmanager
def _lock(target: Path, reporter: Reporter, wait: Callable[[float], None]) -> Iterator[None]:
    """Let one process at a time fetch `target`."""
    path = target.with_name(f"{target.name}.lock")
    with writing(path):
        handle = path.open("ab", buffering=0)
    with handle:
        waiting = False
        while not try_lock(handle):
            if not waiting:
                reporter.info(f"waiting for another process that is downloading {target.name}")
                waiting = True
            wait(0.2)
        yield
