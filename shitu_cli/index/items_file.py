"""`items.tsv` of an index directory: id, label and path of each vector, one item a line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.files import atomic_write
from shitu_cli.index.store import AGAIN, plain_text
from shitu_cli.inputs import MIB, is_input, read_bytes
from shitu_cli.inputs.files import decode_text

MAX_BYTES = 16_384 * MIB
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
_ID = re.compile(r"\d{1,18}", re.ASCII)


def write_items(file: Path, labels: Mapping[int, str], paths: Mapping[int, str]) -> str:
    """Write the items in the order of `labels`; return the SHA-256 of the file."""
    digest = hashlib.sha256()
    with atomic_write(file) as out:
        for number, label in labels.items():
            line = f"{number}\t{_field(label)}\t{_field(paths[number])}\n".encode()
            digest.update(line)
            out.write(line)
    return digest.hexdigest()


def read_items(file: Path, digest: str = "") -> tuple[dict[int, str], dict[int, str]] | None:
    """Return labels and paths by id, None if there is no such file (an index of another program).

    Raises DataError for a line that is not an item, or if the SHA-256 of the file is not `digest`.
    """
    if not is_input(file):
        return None
    data = read_bytes(file, limit=MAX_BYTES, hint=AGAIN)
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{file} is not the file that was written with the index", hint=AGAIN)
    labels: dict[int, str] = {}
    paths: dict[int, str] = {}
    plain: dict[str, str] = {}  # each label is stored once, however many images have it
    for line, text in enumerate(decode_text(data, file, hint=AGAIN).removesuffix("\n").split("\n"), 1):
        columns = text.split("\t")
        if len(columns) != 3 or not _ID.fullmatch(columns[0]) or int(columns[0]) in labels:
            raise DataError(f"{file}:{line} is damaged: expected a new id, label and path", hint=AGAIN)
        number, label = int(columns[0]), columns[1]
        if label not in plain:
            plain[label] = _unfield(label)
        labels[number], paths[number] = plain[label], _unfield(columns[2])
    return labels, paths


def _field(text: str) -> str:
    return plain_text(text).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _unfield(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text) if "\\" in text else text
