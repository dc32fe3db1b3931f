"""The index in a Milvus server, or in its embedded edition's local file.

The name that the user gives is an alias. A build fills a new collection and then points the alias at it, so that
concurrent searches see the old index or the new one. The manifest is a property of the collection: a collection without
one is not ours, and is never changed. The server numbers the items, so that several machines can add at once.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from shitu_cli.boundary import place_to_write
from shitu_cli.config.arguments import several, whole_ids
from shitu_cli.errors import Command, EnvironmentProblem, UsageError, pip_install
from shitu_cli.index.measured import noted
from shitu_cli.index.milvus_collection import KINDS, PAGE, VectorCollection, drop_others
from shitu_cli.index.store import (
    BuildOptions,
    FeatureTable,
    IndexManifest,
    Item,
    Match,
    Texts,
    check_options,
    check_present,
    check_size,
    check_vectors,
    leaves_nothing,
    query_vectors,
    rank_matches,
)
from shitu_cli.reporting import Reporter

if TYPE_CHECKING:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

TOKEN = "SHITU_MILVUS_TOKEN"  # an API key or `user:password`
PATIENCE = 10  # seconds to reach a server
NOT_FOUND, NOT_REACHED = 100, 2  # error codes: no such collection; no server, or a wrong password
TRIES = 5  # at an operation whose collection keeps being replaced
BUILD = Command("index build")

Answer = TypeVar("Answer")


class MilvusStore:
    """The index `collection` at `address`: `http(s)://host:port`, `host:port`, or a local file that ends in `.db`."""

    def __init__(self, address: str, collection: str) -> None:
        self.file = Path(os.path.expanduser(address)) if address.endswith(".db") else None
        self.address = _server(address) if self.file is None else str(self.file)
        self.alias, self.place = collection, f"milvus:{address}, collection {collection}"
        self._client: MilvusClient | None = None
        self._collection: VectorCollection | None = None

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Return an empty context: a local file admits one process, and changes on a server touch different rows."""
        return contextlib.nullcontext()

    def check(self, options: BuildOptions) -> None:
        _check_options(options)
        with self._connection(make=True) as client:
            VectorCollection.behind(client, self.alias, self.place)

    def build(self, table: FeatureTable, options: BuildOptions, reporter: Reporter) -> None:
        _check_options(options)
        features = table.validate().features
        manifest = options.manifest(int(features.shape[1]), count=len(features), next_id=None)
        manifest = noted(manifest, options.measured)
        with self._connection(make=True) as client, contextlib.ExitStack() as undo:
            former = VectorCollection.behind(client, self.alias, self.place)
            new = VectorCollection.create(client, f"{self.alias}_{secrets.token_hex(4)}", self.alias, manifest)
            undo.callback(client.drop_collection, new.name)
            ids = new.insert(table, reporter)
            # Each server version has its own index of text (Trie, later INVERTED) and takes it when none is named.
            new.make_ready(features, ids, "" if self.file is None else "INVERTED")
            (client.create_alias if former is None else client.alter_alias)(new.name, self.alias)
            undo.pop_all()
            self._collection = new
            drop_others(client, new.name, self.alias)

    def add(self, table: FeatureTable, reporter: Reporter) -> int:
        """Add these vectors; if killed midway, a path may be there twice but never lost: run the command again."""

        def replace_paths(collection: VectorCollection) -> int:
            check_size(table.validate().features, collection.manifest)
            check_vectors(table.features)  # all of them, before the first is stored
            former = [item.id for item in collection.find([path for path in table.paths if path], (), ())]
            collection.insert(table, reporter)
            collection.delete(former)
            return len(former)

        return self._ask(replace_paths)

    def remove(self, ids: Collection[int], reporter: Reporter) -> None:
        old_ids = sorted(set(whole_ids(ids)))

        def take_out(collection: VectorCollection) -> None:
            check_present(old_ids, [item.id for item in collection.find((), (), old_ids)])
            if collection.count() <= len(old_ids):
                raise leaves_nothing()
            collection.delete(old_ids)

        self._ask(take_out, repeat=False)

    def manifest(self) -> IndexManifest:
        return self._ask(lambda collection: replace(collection.manifest, count=collection.count()))

    def items(self) -> Iterator[Item]:
        return iter(self._ask(lambda collection: list(collection.items())))

    def find(self, paths: Texts = (), labels: Texts = (), ids: Collection[int] = ()) -> list[Item]:
        of_paths, of_labels, of_ids = several(paths), several(labels), whole_ids(ids)
        return self._ask(lambda collection: collection.find(of_paths, of_labels, of_ids))

    def label_count(self) -> None:
        return None

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        def nearest(collection: VectorCollection) -> list[list[Match]]:
            vectors = query_vectors(features, collection.manifest, top, threshold)
            if top > PAGE:
                raise UsageError(f"--top {top}: Milvus returns at most {PAGE:,}")
            return [rank_matches(matches, threshold) for matches in collection.search(vectors, top)]

        return self._ask(nearest)

    def close(self) -> None:
        self._collection = None
        if self._client is None:
            return
        self._client.close()
        self._client = None
        if self.file is not None:  # other processes may have it now
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(str(self.file))

    def _ask(self, operation: Callable[[VectorCollection], Answer], *, repeat: bool = True) -> Answer:
        """Return the result of `operation` on the collection behind the alias; UsageError if there is none.

        A build elsewhere drops the collection that it replaces, which then returns part of its items or an error. So
        a result counts only if the alias still points to the same collection; otherwise the operation runs again on
        the new one. Without `repeat`, EnvironmentProblem is raised instead.
        """
        with self._connection() as client:
            from pymilvus.exceptions import MilvusException

            for _ in range(TRIES):
                try:
                    if self._collection is None:
                        self._collection = VectorCollection.behind(client, self.alias, self.place)
                    if self._collection is None:
                        raise UsageError(f"no index in {self.place}", hint=BUILD)
                    answer = operation(self._collection)
                    if self.file is not None or self._collection.is_behind(self.alias):
                        return answer
                except MilvusException as error:
                    if error.code != NOT_FOUND:
                        raise
                self._collection = None
                if not repeat:
                    break
        raise EnvironmentProblem(f"{self.place} was replaced while it was in use", hint="run the command again")

    @contextlib.contextmanager
    def _connection(self, *, make: bool = False) -> Iterator[MilvusClient]:
        """Yield the connection, opened at first use (with `make`, a local file may be new); translate its errors."""
        _require("pymilvus")
        if self.file is not None:
            _require("milvus_lite")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # read once, at import: gRPC warns of harmless forks
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        for logger in ("pymilvus", "milvus_lite", "grpc"):  # they also log each error that they raise, with a traceback
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        try:
            if self._client is None:
                if self.file is not None:
                    _check_file(place_to_write(self.file), make)
                self._client = MilvusClient(self.address, token=os.environ.get(TOKEN, ""), timeout=PATIENCE)
            yield self._client
        except MilvusException as error:
            raise EnvironmentProblem(f"{self.place}: {error.message.strip()}", hint=self._hint(error)) from None

    def _hint(self, error: MilvusException) -> str:
        if self.file is None and error.code == NOT_REACHED:
            return f"is the server running there, and does {TOKEN} hold the API key or user:password that it expects?"
        if self.file is None:
            return f"the server at {self.address} refused this; its log says more"
        for number in (errno.ENOSPC, errno.EDQUOT):
            if os.strerror(number) in error.message:
                return f"free some space on the disk of {self.file}, then run the command again"
        for number in (errno.EACCES, errno.EPERM, errno.EROFS):
            if os.strerror(number) in error.message:
                return f"may you write to {self.file}, and is its disk writable?"
        return "only one process at a time can use such a file; is another one using it?"


def _check_options(options: BuildOptions) -> None:
    check_options(options)
    if options.kind not in KINDS:
        raise UsageError(
            f"--kind {options.kind}: an index in Milvus is {', '.join(KINDS)}",
            hint=f"leave out --kind, or --store: only an index in a directory can be {options.kind}",
        )


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise EnvironmentProblem(f"--store milvus needs {package}", hint=pip_install("milvus"))


def _server(address: str) -> str:
    if "@" in address:
        raise UsageError("--store: no password in the address, where others can see it", hint=f"put it into {TOKEN}")
    if re.fullmatch(r"https?://[^/\s]+(/\w*)?", address):
        return address
    if re.fullmatch(r"[\w.-]+:\d+", address):
        return f"http://{address}"
    raise UsageError(f"--store milvus:{address}: expected http(s)://host:port, host:port, or a file that ends in .db")


def _check_file(file: Path, make: bool) -> None:
    """Raise UsageError for a file to leave alone: the embedded edition would write into any directory of that name.

    Raises EnvironmentProblem if a link in it leads out of the workspace.
    """
    if not file.exists():
        if not make:
            raise UsageError(f"no index in milvus:{file}: there is no such file", hint=BUILD)
        if not file.parent.is_dir():
            raise UsageError(f"milvus:{file}: there is no directory {file.parent}", hint=f"mkdir -p {file.parent}")
    elif not (file / "LOCK").is_file():
        raise UsageError(f"{file} is not from milvus-lite 3 or later; it was left unchanged", hint="name another file")
    for inside in file.rglob("*"):  # even a search writes there
        place_to_write(inside)
