"""Files at addresses, through fsspec: S3, Google Cloud Storage, HDFS, HTTP; what was read is cached on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from shitu_cli.errors import DataError, EnvironmentProblem, ShituError, pip_install
from shitu_cli.stores.cache import Pieces, cache_folder, cache_limit, key_of
from shitu_cli.stores.ranges import REMOTE_BLOCK, too_early

_EXTRAS = {"gs": "gcs", "hdfs": "hdfs"}  # what to install; s3fs of the others brings HTTP too
PIECE = 32 << 20  # bytes; longer reads are not kept: they are no images
# Entries that change with the content of a file; each service has its own name for them.
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest"),
    *("mtime", "LastModified", "Last-Modified", "last_modified", "modification_time"),
)
_NETWORK = "check the network, the address and your credentials; docs/how-to.md says where they come from"
ADDRESSES = 1_000_000  # whose state a process remembers: about 250 bytes each
# States of files by a digest of their address. When it is full, nothing makes room: every epoch asks for the same files
# in another order, so to forget the oldest would be to forget each before it is asked for again.
_states: dict[bytes, str] = {}


@lru_cache(maxsize=1)
def _pieces() -> Pieces:
    return Pieces(cache_folder(), cache_limit())


def system_of(address: str) -> Any:
    """Return fsspec's file system of an address.

    Raises EnvironmentProblem if its package or a dependency is not installed, or if the service does not answer.
    """
    protocol = address.partition("://")[0]
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(protocol)
        return kind(**kind._get_kwargs_from_urls(address))  # of hdfs://host:port, the cluster
    except (ImportError, ValueError) as problem:
        raise EnvironmentProblem(
            f"{address}: addresses with {protocol}:// need a package ({problem})",
            hint=pip_install(_EXTRAS.get(protocol, "stores")),
        ) from None
    except OSError as problem:  # HDFS is reached when its system is opened, through libraries of Java
        reason, hint = (str(problem).splitlines() or [type(problem).__name__])[0], _NETWORK
        if "libjvm" in reason or "libhdfs" in reason:
            hint = "HDFS needs Java and Hadoop on this machine, found by JAVA_HOME, HADOOP_HOME and CLASSPATH"
        raise EnvironmentProblem(f"cannot read {address}: {reason}", hint=hint) from None


class RemoteFile:
    """A file at an address; threads may share it. Raises DataError if there is none."""

    block = REMOTE_BLOCK

    def __init__(self, address: str) -> None:
        self.name, self._system = address, system_of(address)
        self.state = _states.get(_digest(address)) or self._ask()
        size, _, self._version = self.state.partition(" ")
        self.size, self.is_versioned = int(size), bool(self._version)

    def _ask(self) -> str:
        with _problems(self.name):
            info = self._system.info(self.name)
        if info.get("type") == "directory":
            raise DataError(f"cannot read {self.name}: it is a folder")
        return _remember(self.name, info)

    def read_at(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on, from this machine if they were read before."""
        if not length:
            return b""
        # Blocks are read only once, for the index of an archive. Without a version, a change would go unnoticed.
        is_kept = self._version and length <= PIECE and length != self.block
        key = key_of(self.name, self.state, start, length) if is_kept else ""
        data = _pieces().read(key) if key else None
        if data is not None and len(data) == length:
            return data
        with _problems(self.name):
            data = bytes(self._system.cat_file(self.name, start=start, end=start + length))
        if len(data) == self.size != length:  # a web server that knows no ranges sends all
            data = data[start : start + length]
        if len(data) != length:
            raise too_early(self.name)
        if key:
            _pieces().write(key, data)
        return data

    def read_all(self, limit: int) -> bytes:
        """Return the whole file of at most `limit` bytes."""
        if self.size >= 0:
            return self.read_at(0, min(self.size, limit + 1))
        with _problems(self.name), self._system.open(self.name, "rb") as file:
            return bytes(file.read(limit + 1))


def _digest(address: str) -> bytes:
    return hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _remember(address: str, info: Mapping[str, Any]) -> str:
    """Return the state of a file from what its service says of it, and remember it while there is room."""
    size = info.get("size")
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
    state = f"{-1 if size is None else int(size)} {version}"  # some HTTP servers give no size
    key = _digest(address)
    if len(_states) < ADDRESSES or key in _states:
        _states[key] = state
    return state


def list_files(address: str) -> Iterator[str]:
    """Yield the files below an address, relative to it, in order; DataError if there is nothing.

    Their states come with the list and are remembered: one request for a thousand files instead of one for each.
    """
    if address.startswith(("http://", "https://")):
        raise DataError(
            f"{address}: a web server cannot list its files",
            hint="write a list with path<TAB>label on each line, where each path is a complete address",
        )
    system = system_of(address)
    with _problems(address):
        root = system._strip_protocol(address).rstrip("/")
        entries = system.find(root, detail=True)
        # What fsspec keeps of a list takes a kilobyte a file, and it searches all of a folder for each of its files.
        system.invalidate_cache()
    if not entries:
        raise DataError(f"{address}: no files there", hint="check the address, and whether you may list it")
    base = address.rstrip("/")
    for name in sorted(entries):
        if name.startswith(f"{root}/") and not name.endswith("/"):
            path = name[len(root) + 1 :]
            _remember(f"{base}/{path}", entries[name])
            yield path


@contextmanager
def _problems(address: str) -> Iterator[None]:
    """Turn what libraries of services raise into an error that names the address."""
    try:
        yield
    except ShituError:
        raise
    except Exception as problem:
        cause: BaseException = problem
        while cause.__cause__ is not None:
            cause = cause.__cause__
        # fsspec calls a server that does not answer a missing file too.
        unreachable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if isinstance(problem, FileNotFoundError) and not unreachable:
            raise DataError(f"cannot read {address}: there is no such file") from None
        # Each service has its own exceptions; fsspec translates some of them.
        what = " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
        raise EnvironmentProblem(f"cannot read {address}: {what}", hint=_NETWORK) from None
