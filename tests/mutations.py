"""Generated cases: how many of them (SHITU_FUZZ=N: at least so many a test), and damaged versions of a file's bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

from hypothesis import settings

_AT_LEAST = int(os.environ.get("SHITU_FUZZ", "0"))
_SIGNIFICANT = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def at_least(count: int) -> int:
    """Return `count`, or what SHITU_FUZZ asks for where that is more."""
    return max(count, _AT_LEAST)


def cases(count: int) -> settings:
    """Return the decorator of a property test that tries at least so many cases; without it they are at least 100."""
    return settings(max_examples=at_least(count))


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` versions of `data`: cut off, or bits and bytes changed, removed or doubled."""
    chance = random.Random(f"{seed} {len(data)}")
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            _damage(damaged, chance)
        yield bytes(damaged)


def _damage(data: bytearray, chance: random.Random) -> None:
    # Most of what matters stands at the begin or the end of a file.
    at = min(chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)) if data else 0
    at = len(data) - at if chance.random() < 0.2 else at
    size = chance.choice((1, 1, 2, 4, 8, 100))
    match chance.randrange(6):
        case 0:
            del data[at:]
        case 1:
            data[at : at + 1] = bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1])
        case 2:
            data[at : at + size] = bytes([chance.choice(_SIGNIFICANT)]) * len(data[at : at + size])
        case 3:
            del data[at : at + size]
        case 4:
            data[at:at] = data[at : at + size]
        case 5:
            data[at : at + size] = chance.randbytes(len(data[at : at + size]))
