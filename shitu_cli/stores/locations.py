"""The location of an image as a string: a file, a member of an archive (`shard-000.tar::a/b.jpg`), or an address.

The archive may be at an address too: `s3://bucket/shard-000.tar::a/b.jpg`. A member of a Parquet file is a column and a
row: `train.parquet::image/17.jpg`, whose suffix has no meaning.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence

MEMBER = "::"  # between an archive and its member
SUFFIXES = (".tar", ".zip", ".parquet")  # of archives whose members are read without unpacking
WAITING = 16  # threads that read images at addresses, which is mostly waiting
_SAMPLE = 16
# A path of the system writes one slash where an address has two.
_ADDRESS = re.compile(r"(s3|gs|hdfs|https?):/{1,2}(?=[^/])", re.I)


def address_of(location: str | os.PathLike[str]) -> str | None:
    """Return the address that a location is, in its usual spelling; None for places of the file system."""
    text = os.fspath(location)
    match = _ADDRESS.match(text)
    return None if match is None else f"{match[1].lower()}://{text[match.end() :]}"


def is_archive(location: str | os.PathLike[str]) -> bool:
    """Return whether a name is that of an archive whose members can be read without unpacking."""
    return os.fspath(location).lower().endswith(SUFFIXES)


def split_location(location: str) -> tuple[str, str | None]:
    """Return an archive and its member; the location itself and None if it is not a member."""
    at = location.find(MEMBER)
    while at > 0:
        if is_archive(location[:at]):
            return location[:at], location[at + len(MEMBER) :]
        at = location.find(MEMBER, at + 1)
    return location, None


def is_stored(location: str) -> bool:
    """Return whether a location is a member or an address: no path that the system could open."""
    return ":" in location and (split_location(location)[1] is not None or address_of(location) is not None)


def join(root: str, path: str) -> str:
    """Return the location of a path of a list: below `root`, which may be an address, unless it is whole itself."""
    if ":" in path and (address := address_of(path)) is not None:
        return address
    if ":" in root and (address := address_of(root)) is not None:
        return posixpath.join(address, path)
    return os.path.join(root, path)


def absolute(location: str) -> str:
    """Return the whole location: that of a file or an archive from the root of the file system, an address as it is."""
    address = address_of(location)
    if address is not None:
        return address
    place, member = split_location(location)
    return os.path.abspath(place) if member is None else f"{os.path.abspath(place)}{MEMBER}{member}"


def real(location: str) -> str:
    """Return `absolute` with all links of the file system followed, to compare locations."""
    if address_of(location) is not None:
        return absolute(location)
    place, member = split_location(location)
    return os.path.realpath(place) if member is None else f"{os.path.realpath(place)}{MEMBER}{member}"


def are_remote(locations: Sequence[object]) -> bool:
    """Return whether images are at addresses, judged by a sample: more threads should read these than compute."""
    sample = locations[:: max(1, len(locations) // _SAMPLE)]
    return any(isinstance(location, str) and address_of(location) is not None for location in sample)
