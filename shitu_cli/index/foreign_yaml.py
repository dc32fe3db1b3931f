"""Read `id_map.yaml`, PaddleX's map from ids to labels, entry by entry: read as a whole, each would take a kilobyte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.index.foreign import map_id, map_text
from shitu_cli.index.store import AGAIN
from shitu_cli.inputs import MIB, read_lines
from shitu_cli.inputs.yaml_files import is_text, parse_yaml, read_yaml

MAX_BYTES = 1024 * MIB  # as PyYAML writes it: five million images with labels of two hundred characters
MAX_OTHER = 16 * MIB  # in any other form of YAML
_ENTRY = re.compile(r"""( +)(?:'(\d{1,18})'|"(\d{1,18})"|(0|[1-9]\d{0,17})): (.+)""", re.ASCII)
_PLAIN = re.compile(r"\w[\w./()+&-]*(?: [\w./()+&-]+)*")
_OTHER_KEY = re.compile(r"[A-Za-z_]\w*: [\w.+-]+")


def read_yaml_map(file: Path) -> dict[int, str]:
    """Return the label of each id. Raises DataError for anything else, and for an id that is named twice."""
    labels: dict[int, str] = {}
    texts: dict[str, str] = {}  # each label is read once, however many ids have it
    try:
        for number, text in _entries(file):
            if text not in texts:
                texts[text] = _label(text, file)
            if number in labels:
                raise _twice(file)
            labels[number] = texts[text]
    except _OtherForm:
        return _read_whole(file)
    return labels


def _label(text: str, file: Path) -> str:
    """Return the label that stands behind an id."""
    if _PLAIN.fullmatch(text) and is_text(text):
        return text
    try:
        value = parse_yaml(text, file)
    except DataError:  # it may be more than one value, which only the whole file tells
        raise _OtherForm from None
    return map_text(value, file)


class _OtherForm(Exception):
    """The file is not in the form in which PyYAML writes such a map."""


def _entries(file: Path) -> Iterator[tuple[int, str]]:
    """Yield id and text of each entry of the map, which may go on over several lines."""
    number, texts, indent, is_inside, is_there = -1, [""], "", False, False
    for line in _lines(file):
        line = line.removesuffix("\r")
        entry = _ENTRY.fullmatch(line) if is_inside else None
        if entry is not None and entry[1] == (indent or entry[1]):
            if indent:
                yield number, "\n".join(texts)
            number, texts, indent = int(entry[2] or entry[3] or entry[4]), [entry[5]], entry[1]
        elif is_inside and indent and (not line or line.startswith(f"{indent} ")):
            texts.append(line)
        elif line == "id_map:" and not is_there:
            is_inside = is_there = True
        elif _OTHER_KEY.fullmatch(line) and (indent or not is_inside):
            is_inside = False
        else:
            raise _OtherForm
    if not indent:
        raise _OtherForm
    yield number, "\n".join(texts)


def _lines(file: Path) -> Iterator[str]:
    try:
        yield from read_lines(file, limit=MAX_BYTES)
    except DataError:
        raise _OtherForm from None


def _read_whole(file: Path) -> dict[int, str]:
    values = read_yaml(file, limit=MAX_OTHER, hint=AGAIN)
    names = values.get("id_map") if isinstance(values, dict) else None
    if not isinstance(names, dict):
        raise DataError(f"{file} is damaged: it has no id_map", hint=AGAIN)
    labels = {map_id(key, file): map_text(label, file) for key, label in names.items()}
    if len(labels) != len(names):
        raise _twice(file)
    return labels


def _twice(file: Path) -> DataError:
    return DataError(f"{file} is damaged: it names an id twice", hint=AGAIN)
