"""Download one file: resumed, verified, whole or not at all, and only once if several processes want it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.files import (
    atomic_write_json,
    atomic_write_text,
    cannot_write,
    sha256_of,
    sync_directory,
    try_lock,
)
from shitu_cli.inputs import read_json_object
from shitu_cli.reporting import Reporter

TRIES = 3  # per address, each continuing where the last one stopped
TIMEOUT = 30.0  # seconds without a byte
LARGEST = 16 << 30  # bytes
_HUB_HOST = "huggingface.co"


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
    md5: str | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download `target` from the first address that works and return it; an existing file is kept.

    `<target>.json` records its address and its hash. Without a published hash the first download is trusted, which
    is reported. Raises EnvironmentProblem if no address works; its hint says where to put the file by hand.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target.parent, error) from error
    with _lock(target, reporter, wait):
        if target.is_file():
            return target
        if is_offline():
            raise _unreachable(target, addresses, ["downloads are turned off (SHITU_OFFLINE or HF_HUB_OFFLINE)"])
        failures = []
        for address in addresses:
            try:
                return _fetch_from(address, target, reporter, sha256, md5, wait)
            except _Refused as refusal:
                failures.append(f"{address}: {refusal}")
        raise _unreachable(target, addresses, failures)


def _fetch_from(
    address: str, target: Path, reporter: Reporter, sha256: str | None, md5: str | None, wait: Callable[[float], None]
) -> Path:
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
    digest = sha256_of(part)
    if (sha256 is not None and digest != sha256) or (md5 is not None and _md5_of(part) != md5):
        part.unlink()
        raise _Refused(f"this is not the published file: its SHA-256 is {digest}, expected {sha256 or md5}")
    if sha256 is None and md5 is None:
        reporter.info(f"no checksum is published for {target.name}: this first download is trusted (SHA-256 {digest})")
    try:
        # The note comes first: a file without one was put there by hand.
        atomic_write_json(note_of(target), {"address": address, "sha256": digest, "size": part.stat().st_size})
        os.replace(part, target)
        _tag_of(part).unlink(missing_ok=True)
        sync_directory(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def note_of(target: Path) -> Path:
    """Return the file that records the address and the hash of a download."""
    return target.with_name(f"{target.name}.json")


def check_note(target: Path) -> str:
    """Return the SHA-256 of a file; raise DataError if it differs from the recorded one."""
    digest = sha256_of(target)
    if note_of(target).is_file():
        recorded = read_json_object(note_of(target), error=DataError).get("sha256")
        if recorded != digest:
            raise DataError(
                f"{target} has changed since it was downloaded: its SHA-256 is {digest}, it was {recorded}",
                hint=f"remove it and download it again: rm {target}",
            )
    return digest


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
    with httpx.stream("GET", address, headers=headers, follow_redirects=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and start:  # the part is complete, or belongs to another file
            part.unlink()
            raise httpx.ReadError("the partial file did not fit, starting again")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise httpx.ReadError(f"the server answers {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise _Refused(f"the server answers {answer.status_code} {answer.reason_phrase}")
        resumed = answer.status_code == 206
        length = answer.headers.get("Content-Length")
        total = int(length) + (start if resumed else 0) if length and length.isdecimal() else None
        if total is not None and total > LARGEST:
            raise _Refused(f"the file has {total:,} bytes, more than the {LARGEST:,} that weights may have")
        size = start if resumed else 0
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if tag and not tag.startswith("W/"):
            atomic_write_text(_tag_of(part), tag)
        with reporter.progress(name, total or 0, "bytes") as bar:
            bar.advance(size)
            try:
                with part.open("ab" if resumed else "wb") as file:
                    for block in answer.iter_bytes():
                        file.write(block)
                        size += len(block)
                        bar.advance(len(block))
                        if size > LARGEST:
                            raise _Refused(f"the file is longer than the {LARGEST:,} bytes that weights may have")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise cannot_write(part, error) from error
        if total is not None and size != total:
            raise httpx.ReadError(f"only {size:,} of {total:,} bytes arrived")


def _transport_errors() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.TransportError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


def _md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # some publish nothing better
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _unreachable(target: Path, addresses: Sequence[str], failures: Sequence[str]) -> EnvironmentProblem:
    where = addresses[0] if addresses else "its address"
    return EnvironmentProblem(
        f"{target.name} cannot be downloaded",
        details=list(failures),
        hint=f"download {where} elsewhere and put it at {target}",
    )


@contextmanager
def _lock(target: Path, reporter: Reporter, wait: Callable[[float], None]) -> Iterator[None]:
    """Let one process at a time fetch `target`."""
    path = target.with_name(f"{target.name}.lock")
    try:
        handle = path.open("ab", buffering=0)
    except OSError as error:
        raise cannot_write(path, error) from error
    with handle:
        waiting = False
        while not try_lock(handle):
            if not waiting:
                reporter.info(f"waiting for another process that is downloading {target.name}")
                waiting = True
            wait(0.2)
        yield
