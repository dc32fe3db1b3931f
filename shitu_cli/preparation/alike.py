"""Find the images of a data set that are the same or nearly so, by what `audit` has recorded of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from shitu_cli.preparation.audit import Look

BITS_APART = 7  # of 256: images this close in outline ...
LEVELS_APART = 5.0  # ... and this close in mean colour are nearly the same
BUCKET = 64  # most images that share a chunk; more have it from plain backgrounds, so it says nothing
IDENTICAL, NEAR = "identical", "nearly the same"  # how two images are alike


@dataclass(frozen=True)
class Alike:
    """Groups of images (positions) that are identical files, and pairs that are nearly the same."""

    identical: list[list[int]]
    near: list[tuple[int, int]]

    def pairs(self) -> Iterator[tuple[int, int, str]]:
        """Yield the pairs of alike images and how: the first of each identical group with the others, then NEAR."""
        yield from ((group[0], other, IDENTICAL) for group in self.identical for other in group[1:])
        yield from ((a, b, NEAR) for a, b in self.near)


def find_alike(looks: list[Look]) -> Alike:
    """Compare all images that could be read, each with all others, in time about proportional to their number."""
    usable = [number for number, look in enumerate(looks) if not look.problem and look.digest]
    by_digest: dict[bytes, list[int]] = {}
    for number in usable:
        by_digest.setdefault(looks[number].digest, []).append(number)
    identical = [group for group in by_digest.values() if len(group) > 1]
    # One image represents each identical group in the search for near ones.
    first = [group[0] for group in by_digest.values() if looks[group[0]].outline]
    return Alike(identical, sorted(_near_pairs(first, looks)))


def _near_pairs(numbers: list[int], looks: list[Look]) -> Iterator[tuple[int, int]]:
    """Yield the pairs with at most BITS_APART different bits: one of 8 chunks of 32 bits is then equal."""
    if len(numbers) < 2:
        return
    outlines = np.frombuffer(b"".join(looks[n].outline for n in numbers), np.uint8).reshape(-1, 32)
    colours = np.frombuffer(b"".join(looks[n].colours for n in numbers), np.uint8).reshape(-1, 48)
    chunks = outlines.view(np.uint32)
    seen: set[tuple[int, int]] = set()
    for chunk in range(chunks.shape[1]):
        order = np.argsort(chunks[:, chunk], kind="stable")
        ordered = chunks[order, chunk]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        sizes = np.diff(np.append(starts, len(ordered)))
        for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
            if size > BUCKET:
                continue
            seen.update(_close(order[start : start + size], outlines, colours))
    for a, b in seen:
        x, y = sorted((numbers[a], numbers[b]))
        yield x, y


def _close(members: np.ndarray, outlines: np.ndarray, colours: np.ndarray) -> Iterable[tuple[int, int]]:
    a, b = np.triu_indices(len(members), 1)
    a, b = members[a], members[b]
    bits = np.bitwise_count(outlines[a] ^ outlines[b]).sum(axis=1) if hasattr(np, "bitwise_count") else (
        np.unpackbits(outlines[a] ^ outlines[b], axis=1).sum(axis=1)
    )  # fmt: skip
    levels = np.abs(colours[a].astype(np.int16) - colours[b]).mean(axis=1)
    # Images without outlines (plain colours) all agree, so they are never taken for alike.
    structured = np.unpackbits(outlines[a], axis=1).sum(axis=1) >= 16
    good = (bits <= BITS_APART) & (levels <= LEVELS_APART) & structured
    return [(int(min(x, y)), int(max(x, y))) for x, y in zip(a[good], b[good], strict=True)]
