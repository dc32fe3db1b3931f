"""Read PyTorch's weights, `.pth` and `.pt`, without PyTorch: its zip archives and its older stream of pickles.

In both, a pickle describes tensors as views of storages; the bytes of these are stored separately.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.inputs.pickles import PickleProblem, read_pickle_stream
from shitu_cli.weights.arrays import Budget
from shitu_cli.weights.opening import MAX_OPERATIONS, open_weights
from shitu_cli.weights.torch_tensors import Storage, resolve, storage_of, torch_names

_MAX_PICKLE = 256 * MIB
# What the older format begins with: two pickles of these numbers, then one about the machine.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_torch(path: str | Path) -> dict[Any, Any]:
    """Return the dict in a file of `torch.save`: arrays, numbers, text and containers of them; nothing is run.

    bfloat16 becomes float32. Raises DataError for anything else.
    """
    path = Path(path)
    with open_weights(path) as (stream, size):
        archive = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        values = (_read_archive if archive else _read_sequence)(stream, size)
    if not isinstance(values, dict):
        raise DataError(f"{path} holds a {type(values).__name__}, not a table of weights")
    return values


def _read_archive(stream: BinaryIO, size: int) -> Any:
    budget = Budget.of_file(size)
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleProblem("it is a zip archive, but not one that PyTorch wrote")
        root = pickles[0].removesuffix("data.pkl")

        def load(name: str, limit: int) -> bytes:
            info = members.get(root + name)
            if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
                raise PickleProblem(f"its part {name[:40]} is missing, compressed or too large")
            budget.spend(info.file_size)
            return archive.read(info)

        def load_storage(storage: Storage) -> bytes:
            expected = storage.count * storage.kind.size
            data = load(f"data/{storage.key}", expected)
            if len(data) != expected:
                raise PickleProblem(f"its storage {storage.key[:40]} has {len(data)} bytes, expected {expected}")
            return data

        if f"{root}byteorder" in members and load("byteorder", 10) != b"little":
            raise PickleProblem("it was written on a machine with another byte order")
        described = io.BytesIO(load("data.pkl", _MAX_PICKLE))
        values = read_pickle_stream(
            described, torch_names(budget), persistent=storage_of, max_operations=MAX_OPERATIONS
        )
        return resolve(values, load_storage, budget)


def _read_sequence(stream: BinaryIO, size: int) -> Any:
    """Read the older format: four pickles, the names of the storages, then the size and the bytes of each storage."""
    budget = Budget.of_file(size)
    names = torch_names(budget)
    begin = [read_pickle_stream(stream, {}, max_operations=1000) for _ in range(3)]
    if begin[:2] != [_MAGIC, _PROTOCOL]:
        raise PickleProblem("it is neither a zip archive nor the older format of PyTorch")
    if not isinstance(begin[2], dict) or begin[2].get("little_endian") is not True:
        raise PickleProblem("it was written on a machine with another byte order")
    storages: dict[str, Storage] = {}

    def declare(identity: Any) -> Storage:
        storage = storage_of(identity)
        return storages.setdefault(storage.key, storage)

    values = read_pickle_stream(stream, names, persistent=declare, max_operations=MAX_OPERATIONS)
    keys = read_pickle_stream(stream, {}, max_operations=MAX_OPERATIONS)
    places = _places(stream, size, keys, storages)

    def load_storage(storage: Storage) -> bytes:
        if storage.key not in places:
            raise PickleProblem(f"its storage {storage.key[:40]} is missing")
        budget.spend(storage.count * storage.kind.size)
        stream.seek(places[storage.key])
        return stream.read(storage.count * storage.kind.size)

    return resolve(values, load_storage, budget)


def _places(stream: BinaryIO, size: int, keys: Any, storages: dict[str, Storage]) -> dict[str, int]:
    """Return the offset of each storage; raise PickleProblem if their sizes do not fit the file."""
    if not isinstance(keys, list) or set(map(type, keys)) > {str} or len(set(keys)) != len(keys):
        raise PickleProblem("its list of storages is damaged")
    places = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        if key not in storages or count != storages[key].count:
            raise PickleProblem(f"its storage {key[:40]} has another size than its tensors say")
        places[key] = stream.tell()
        end = places[key] + count * storages[key].kind.size
        if end > size:
            raise PickleProblem("it is cut off")
        stream.seek(end)
    return places
