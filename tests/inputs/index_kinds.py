"""Features and indexes of strangers: their tables, manifests, id maps and shards."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shitu_cli.features.extract_shards import merge_shards
from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.foreign import foreign_items
from shitu_cli.index.items_file import read_items
from shitu_cli.index.sources import read_features
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.reporting import SilentReporter
from tests.features.test_hostile_shards import shard
from tests.index.made import vectors
from tests.inputs.strangers import BLANKS, BOMB, Kind, file


def _index(folder: Path) -> None:
    table = FeatureTable(vectors(6), [f"class {n % 2}" for n in range(6)], [f"p/{n}.jpg" for n in range(6)])
    save_index(VectorIndex.build(table, BuildOptions(model="m")), folder)


def _index_file(name: str) -> Callable[[Path], Path]:
    def lay_out(folder: Path) -> Path:
        _index(folder / "index")
        return folder / "index" / name

    return lay_out


ITEMS = Kind(
    _index_file("items.tsv"),
    lambda path: read_items(path),
    {
        "two columns": b"1\ta",
        "four columns": b"1\ta\tb\tc",
        "a negative id": b"-1\ta\tb",
        "digits of another script": "٣\ta\tb".encode(),
        "an id of 19 digits": b"9" * 19 + b"\ta\tb",
        "an id of 5000 digits": b"9" * 5000 + b"\ta\tb",
        "an id twice": b"1\ta\tb\n01\tc\td",
        "a line without content": b"1\ta\tb\n\n2\ta\tb",
        "blanks": BLANKS,
        "half an escape": b"1\ta\\\tb\\",
        "a label that commands terminals": b"1\t\x1b[2J\t../../b",
    },
    frozenset({"pipe", "endless device", "looped link", "folder", "half an escape", "a label that commands terminals"}),
    cases=500,
)


def _manifest(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda whole: json.dumps({**json.loads(whole), **changes}).encode()


MANIFEST = Kind(
    _index_file("manifest.json"),
    lambda path: load_index(path.parent).add(FeatureTable(vectors(1), ["x"], ["x.jpg"])),
    {
        "a list": b"[]",
        "no next id": lambda whole: whole.replace(b'"next_id"', b'"next"'),
        "a format of text": _manifest(format="1"),
        "a kind of a list": _manifest(kind=["flat"]),
        "a huge size": _manifest(size=10**9),
        "a count of truth": _manifest(count=True),
        "a count of 5000 digits": lambda whole: whole.replace(b'"count": 6', b'"count": ' + b"9" * 5000),
        "ids that are used up": _manifest(next_id=10**18),
        "ids beyond 64 bits": _manifest(next_id=1 << 64),
        "an effort of infinity": lambda whole: whole.replace(b'"search": {}', b'"search": {"efSearch": 1e999}'),
        "a huge effort": _manifest(search={"efSearch": 10**9}),
        "a recall of text": _manifest(recall="1"),
        "a generation that is no text": _manifest(generation="\ud800"),
        "items of another hash": _manifest(items_sha256="0" * 64),
        "promises of nothing": _manifest(measured={"suggested": 1}),
    },
    # Without a manifest the index is read like another program's: by its own numbers.
    frozenset({"pipe", "endless device", "looped link", "folder"}),
    cases=120,
)
ID_MAP = Kind(
    file("id_map.yaml", yaml.dump({"id_map": {n: f"class {n}" for n in range(20)}}).encode()),
    lambda path: foreign_items(path.parent),
    {
        "a bomb of aliases": BOMB,
        "an alias of itself": b"id_map: &a {1: *a}",
        "merges of merges": b"a: &a {1: x}\nb: &b {<<: [*a, *a]}\nid_map: {<<: [*b, *b, 1]}",
        "deep": b"id_map: " + b"[" * 100_000,
        "a command": b"id_map: !!python/object/apply:os.system ['touch ran']",
        "a list": b"id_map: [a, b]",
        "an id of truth": b"id_map: {true: a}",
        "an id of 5000 digits": b"id_map: {" + b"9" * 5000 + b": a}",
        "an id of 19 digits": b"id_map: {9999999999999999999: a}",
        "a negative id": b"id_map: {-1: a}",
        "an id twice": b"id_map: {1: a, '1': b}",
        "an id of a list": b"id_map: {? [1] : a}",
        "a label of bytes": b"id_map: {1: !!binary AAAA}",
        "a label of a map": b"id_map: {1: {2: a}}",
        "a day that is none": b"id_map: {1: 2001-99-99}",
        "blanks": b"id_map:" + BLANKS + b"x",
    },
)

# --- Features ---


def _features(folder: Path) -> Path:
    np.save(folder / "f.npy", vectors(3, size=4))
    (folder / "f.tsv").write_text("path\tlabel\na b.jpg\tx\n红.jpg\t\nc.jpg\tred apple\n", encoding="utf-8")
    return folder / "f.tsv"


FEATURES = Kind(
    _features,
    lambda path: read_features(path.with_suffix(".npy")),
    {
        "a heading alone": b"path\tlabel\n",
        "lines too few": b"path\tlabel\na\tb\n",
        "lines too many": b"path\tlabel\n" + b"a\tb\n" * 100_000,
        "blanks": BLANKS,
        "carriage returns alone": b"path\tlabel\ra\tb\rc\td\re\tf\r",
        "bytes that are no text": b"path\tlabel\na\t\xff\nc\td\ne\tf\n",
        "columns without end": b"path\tlabel\n" + b"\t" * 200_000 + b"\n\n\n",
        "paths out of the folder": b"path\tlabel\n../../a\tb\n/etc/passwd\td\n\0\tf\n",
        "addresses": b"path\tlabel\ns3://[::\tb\nhttp:///\td\nx.zip::/../y\tf\n",
        "labels that command terminals": b"path\tlabel\na\t\x1b[2J\nc\t\xe2\x80\xae\ne\t\x9b\n",
    },
    frozenset({"columns without end", "paths out of the folder", "addresses"}),
    cases=300,
)


def _shard(**changes: Any) -> bytes:
    """A shard as tests/features/test_hostile_shards.py forges it."""
    packed = io.BytesIO()
    shard(packed, **changes)
    return packed.getvalue()


def _headed(header: bytes, kind: int = zipfile.ZIP_STORED) -> bytes:
    """A shard of nothing but this header."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        archive.writestr("shard.json", header)
    return packed.getvalue()


def _far_entry() -> bytes:
    """A zip whose entry begins at 2**63, in the extra field for such files."""
    data = _headed(b"{}")
    at = data.index(b"PK\x01\x02")
    entry = bytearray(data[at : data.index(b"PK\x05\x06")])
    extra = struct.pack("<HHQ", 1, 8, 1 << 63)
    entry[30:32] = struct.pack("<H", len(extra))
    entry[42:46] = b"\xff" * 4
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    end[12:16] = struct.pack("<I", len(entry) + len(extra))
    return data[:at] + bytes(entry) + extra + bytes(end)


def _read_shard(path: Path) -> None:
    read_features(path)
    merge_shards([str(path)], path.with_name("merged.npy"), SilentReporter())


SHARD = Kind(
    file("x.npy.1-of-1.shard", _shard()),
    _read_shard,
    {
        "a folder of a number": _shard(folder=0),
        "a folder of a list": _shard(folder=[]),
        "more images than numbers": _shard(total=10**15, stop=10**15),
        "an entry beyond 63 bits": _far_entry(),
        "a compressed header": _headed(b'{"a": "' + b" " * 100_000 + b'"}', zipfile.ZIP_DEFLATED),
        "a deep header": _headed(b"[" * 100_000),
        "a header of bytes": _headed(b"\xff\xfe"),
        "a header of an endless number": _headed(b'{"format": ' + b"9" * 5000 + b"}"),
        "of another command": _shard(kind="evaluate"),
        "left out by a list": _shard(skipped=[1, 2]),
        "a size of truth": _shard(feature_size=True),
        "a start after the end": _shard(start=2, stop=1),
    },
    cases=150,
)
