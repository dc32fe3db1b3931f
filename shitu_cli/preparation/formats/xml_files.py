"""Read XML that somebody else wrote: bounded in size, without entities."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, read_bytes


def read_xml(path: Path, *, limit: int = 256 * MIB) -> ElementTree.Element:
    """Return the root of an XML file of at most `limit` bytes.

    Raises DataError for what is no XML or declares entities of its own: a few lines of them stand for gigabytes, and no
    annotation tool writes any. Errors of the path as by `inputs.open_input`.
    """
    data = read_bytes(path, limit=limit)
    if b"<!ENTITY" in data.replace(b"\0", b""):  # UTF-16 has zeros between the letters
        raise DataError(f"{path}: it declares entities, which no annotation needs", hint="take the <!DOCTYPE ...> out")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        line = error.position[0]
        raise DataError(f"{path}:{line}: not valid XML: {str(error).partition(':')[0]}") from None
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that is not known or does not hold
        raise DataError(f"{path}: not valid XML: {error}") from None
