"""`items.tsv` of an index directory: id, label and path of each vector, one item a line."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.files import atomic_write
from shitu_cli.index.store import AGAIN, plain_text
from shitu_cli.inputs import MIB, is_input, read_lines

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
    digested = hashlib.sha256()
    lines = read_lines(file, limit=MAX_BYTES, hint=AGAIN, digest=digested)
    damaged = 0  # the first line that is no item
    labels: dict[int, str] = {}
    paths: dict[int, str] = {}
    plain: dict[str, str] = {}  # each label is stored once, however many images have it
    for line, text in enumerate(lines, 1):
        columns = text.split("\t")
        if len(columns) != 3 or not _ID.fullmatch(columns[0]) or int(columns[0]) in labels:
            damaged = line
            break
        number, label = int(columns[0]), columns[1]
        if label not in plain:
            plain[label] = _unfield(label)
        labels[number], paths[number] = plain[label], _unfield(columns[2])
    deque(lines, 0)  # to the end, for the digest of all of them
    if digest and digested.hexdigest() != digest:
        raise DataError(f"{file} is not the file that was written with the index", hint=AGAIN)
    if damaged or not labels:
        raise DataError(f"{file}:{damaged or 1} is damaged: expected a new id, label and path", hint=AGAIN)
    return labels, paths


def _field(text: str) -> str:
    return plain_text(text).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _unfield(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text) if "\\" in text else text
