"""The members of an archive and their places in it: read once, then cached on this machine."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.files import atomic_write
from shitu_cli.inputs.damage import DAMAGE
from shitu_cli.stores.cache import cache_folder, key_of

VERSION = 2


class Member(NamedTuple):
    """The place of a member: `packed` bytes from `start` on hold its `size` bytes.

    `method` says how they are packed: 0 as they are, else as the kind of archive counts. `check` is the CRC-32 of a
    member of a zip; in Parquet, `inside` is where the image begins in the `check` bytes of its unpacked page.
    """

    start: int
    size: int
    packed: int
    method: int = 0
    check: int = 0
    inside: int = 0


class MemberIndex:
    """Members by name, about 80 bytes each: five million images fit into half a gigabyte.

    `texts` hold the content of small members with labels, by the number of the member.
    """

    def __init__(self, names: bytes, ends: np.ndarray, table: np.ndarray, texts: Mapping[int, bytes]) -> None:
        self._names, self._ends, self._table, self._texts = names, ends, table, texts
        hashes = np.frombuffer(b"".join(_hash(self._name(n)) for n in range(len(ends))), np.uint64)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    @classmethod
    def of(cls, members: Mapping[str, Member], texts: Mapping[str, bytes]) -> MemberIndex:
        """Return the index of these members."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in members]
        numbers = {name: number for number, name in enumerate(members)}
        ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        table = np.array(list(members.values()), np.int64).reshape(-1, len(Member._fields))
        return cls(b"".join(encoded), ends, table, {numbers[name]: text for name, text in texts.items()})

    def __len__(self) -> int:
        return len(self._ends)

    def names(self) -> list[str]:
        """Return all names in the order of the archive."""
        return [self._name(n).decode("utf-8", "surrogateescape") for n in range(len(self))]

    def find(self, name: str) -> Member | None:
        """Return the place of a member, None if there is none of this name."""
        number = self._number(name)
        return None if number is None else Member(*self._table[number].tolist())

    def text(self, name: str) -> bytes | None:
        """Return the content of a small member with a label, None for others."""
        number = self._number(name)
        return None if number is None else self._texts.get(number)

    def _name(self, number: int) -> bytes:
        return self._names[self._ends[number - 1] if number else 0 : self._ends[number]]

    def _number(self, name: str) -> int | None:
        encoded = name.encode("utf-8", "surrogateescape")
        key = np.frombuffer(_hash(encoded), np.uint64)[0]
        at = int(np.searchsorted(self._hashes, key))
        while at < len(self._hashes) and self._hashes[at] == key:
            number = int(self._order[at])
            if self._name(number) == encoded:
                return number
            at += 1
        return None

    def save(self, address: str, state: str) -> None:
        """Keep it for the next process; a disk that refuses only means that it is read again."""
        path = cache_folder() / "indexes" / f"{key_of(address)}.npz"
        with contextlib.suppress(EnvironmentProblem), atomic_write(path) as file:
            np.savez(
                file,
                head=_bytes(f"{VERSION}\n{state}\n{address}".encode("utf-8", "surrogateescape")),
                names=_bytes(self._names),
                ends=self._ends,
                table=self._table,
                text_numbers=np.array(list(self._texts), np.int64),
                text_ends=np.cumsum([len(text) for text in self._texts.values()], dtype=np.int64),
                texts=_bytes(b"".join(self._texts.values())),
            )

    @classmethod
    def load(cls, address: str, state: str) -> MemberIndex | None:
        """Return the index that was kept for this state of an archive, None if there is none or it is damaged."""
        path = cache_folder() / "indexes" / f"{key_of(address)}.npz"
        try:
            with np.load(path, allow_pickle=False) as values:
                if bytes(values["head"]).decode("utf-8", "surrogateescape") != f"{VERSION}\n{state}\n{address}":
                    return None
                ends, text_ends, texts = values["ends"], values["text_ends"].tolist(), bytes(values["texts"])
                pieces = zip([0, *text_ends], text_ends, strict=False)
                kept = dict(zip(values["text_numbers"].tolist(), (texts[a:b] for a, b in pieces), strict=True))
                return cls(bytes(values["names"]), ends, values["table"].reshape(len(ends), len(Member._fields)), kept)
        except DAMAGE:
            return None


def _hash(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=8).digest()


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)
