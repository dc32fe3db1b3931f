"""Read files with a JSON object in each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json
from shitu_cli.preparation.formats.base import lines_of, read_text
from shitu_cli.preparation.problems import Problems


def read_json_lines(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object); lines that are no object are reported."""
    for number, line in enumerate(lines_of(read_text(path, problems)), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line, path)
        except DataError as error:
            problems.add("bad-annotation", f"{path}:{number}", error.message.rpartition("JSON: ")[2])
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            problems.add("bad-annotation", f"{path}:{number}", f"expected an object, got {line.strip()[:60]!r}")
