"""Choosing pictures for evaluation where the source does not: the same seed chooses the same on every machine.

Classes and pictures are ordered by a hash of the seed and their name, not drawn from a generator: adding some later
hardly moves the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OPEN_SET_CLASSES = 20  # fewer classes than this are all needed for training


@dataclass(frozen=True)
class Split:
    """Positions of pictures. In an open set query and gallery are the same: each is searched among the others."""

    train: list[int]
    query: list[int]
    gallery: list[int]
    kind: str
    reason: str


def choose_kind(classes: int) -> tuple[str, str]:
    """open or closed, and why."""
    if classes >= OPEN_SET_CLASSES:
        return "open", f"{classes} classes: whole classes are kept from training, as new ones will come in use"
    return "closed", f"only {classes} classes: all are trained, some pictures of each are kept for queries"


def split_pictures(
    labels: Sequence[str],
    paths: Sequence[str],
    *,
    kind: str,
    reason: str = "",
    share: float = 0.2,
    seed: int = 0,
    alike: Iterable[Sequence[int]] = (),
) -> Split:
    """Keep `share` of the classes (open) or of each class's pictures (closed) for evaluation.

    `alike` are groups of pictures that must not be torn apart (duplicates).
    """
    groups = _Groups()
    for group in alike:
        for other in group[1:]:
            groups.join(group[0], other)
    by_label: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        by_label.setdefault(label, []).append(number)
    if kind == "none":
        return Split(list(range(len(labels))), [], [], kind, reason)
    divide = _open if kind == "open" else _closed
    train, query, gallery = divide(by_label, paths, groups, share, seed)
    return Split(sorted(train), sorted(query), sorted(gallery), kind, reason)


Parts = tuple[list[int], list[int], list[int]]


def _open(by_label: dict[str, list[int]], paths: Sequence[str], groups: _Groups, share: float, seed: int) -> Parts:
    # Classes that share a picture stay on one side.
    families = _Groups()
    names = sorted(by_label)
    place = {label: number for number, label in enumerate(names)}
    owner: dict[int, int] = {}
    for label in names:
        for number in by_label[label]:
            if groups.joined(number):
                families.join(place[label], owner.setdefault(groups.root(number), place[label]))
    family_of: dict[int, list[str]] = {}
    for label in names:
        family_of.setdefault(families.root(place[label]), []).append(label)
    wanted = min(max(2, round(share * len(names))), len(names) - 2)
    held: set[str] = set()
    for label in sorted(names, key=lambda name: _hash(seed, name)):
        family = family_of[families.root(place[label])]
        large = all(len(by_label[name]) >= 2 for name in family)
        if large and label not in held and len(held) + len(family) <= wanted:
            held.update(family)
    kept = [number for label in names if label in held for number in by_label[label]]
    rest = [number for label in names if label not in held for number in by_label[label]]
    return rest, kept, list(kept)


def _closed(by_label: dict[str, list[int]], paths: Sequence[str], groups: _Groups, share: float, seed: int) -> Parts:
    train: list[int] = []
    query: list[int] = []
    # A picture that several classes hold stays in training: as a query it would be torn from its doubles.
    owners: dict[int, str] = {}
    shared: set[int] = set()
    for label, members in by_label.items():
        for number in members:
            if groups.joined(number) and owners.setdefault(groups.root(number), label) != label:
                shared.add(groups.root(number))
    for members in by_label.values():
        bundles: dict[int, list[int]] = {}
        for number in members:
            bundles.setdefault(groups.root(number), []).append(number)
        wanted = max(1, round(share * len(members))) if len(bundles) > 1 else 0
        taken = 0
        for root, bundle in sorted(bundles.items(), key=lambda b: _hash(seed, min(paths[n] for n in b[1]))):
            fits = root not in shared and taken < wanted and taken + len(bundle) < len(members)
            (query if fits else train).extend(bundle)
            taken += len(bundle) if fits else 0
    return train, query, list(train)


def _hash(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


class _Groups:
    """Disjoint sets (Tarjan 1975) of whatever numbers; those never joined take no memory."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._roots: set[int] = set()

    def root(self, item: int) -> int:
        while (above := self._parent.get(item, item)) != item:
            self._parent[item] = self._parent.get(above, above)
            item = above
        return item

    def joined(self, item: int) -> bool:
        """Whether it may have been joined with another."""
        return item in self._parent or item in self._roots

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self._parent[max(a, b)] = min(a, b)
            self._roots.add(min(a, b))
