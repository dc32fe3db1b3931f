"""Choose images for evaluation where the source does not: the same seed chooses the same on every machine.

Classes and images are ordered by a hash of the seed and their name, not drawn from a generator: adding some later
hardly moves the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OPEN_SET_CLASSES = 20  # fewer classes than this are all needed for training


@dataclass(frozen=True)
class Split:
    """Positions of images. In an open set query and gallery are the same: each is searched among the others."""

    train: list[int]
    query: list[int]
    gallery: list[int]
    kind: str
    reason: str


def choose_kind(classes: int) -> tuple[str, str]:
    """Return open or closed, and why."""
    if classes >= OPEN_SET_CLASSES:
        return "open", f"{classes} classes: whole classes are held out of training, as new ones will appear in use"
    return "closed", f"only {classes} classes: all are trained, some images of each are held out as queries"


def split_images(
    labels: Sequence[str],
    paths: Sequence[str],
    *,
    kind: str,
    reason: str = "",
    share: float = 0.2,
    seed: int = 0,
    alike: Iterable[Sequence[int]] = (),
    one_image: Sequence[Sequence[int]] = (),
) -> Split:
    """Keep `share` of the classes (open) or of each class's images (closed) for evaluation.

    `alike` are groups of images that must stay together (duplicates), `one_image` groups of boxes in one image. If
    classes are so linked by shared images that none can be held out of training, an open split becomes a closed one,
    and its reason says so.
    """
    data = _Data(labels, paths, alike, one_image)
    if kind == "none":
        return Split(list(range(len(labels))), [], [], kind, reason)
    parts = _open_split(data, share, seed) if kind == "open" else _closed_split(data, share, seed)
    if kind == "open" and not parts[1]:
        kind, parts = "closed", _closed_split(data, share, seed)
        reason = "the classes are linked by shared images: some images of each are held out as queries"
    train, query, gallery = parts
    return Split(sorted(train), sorted(query), sorted(gallery), kind, reason)


Parts = tuple[list[int], list[int], list[int]]


class _Data:
    """Images by class, and which of them must stay together.

    `blocked` are roots of `groups` in which different images look alike but have other labels: one of the labels is
    wrong, so they are no queries.
    """

    def __init__(
        self,
        labels: Sequence[str],
        paths: Sequence[str],
        alike: Iterable[Sequence[int]],
        one_image: Sequence[Sequence[int]],
    ) -> None:
        self.labels, self.paths = labels, paths
        self.groups = _Groups()
        self.by_label: dict[str, list[int]] = defaultdict(list)
        for number, label in enumerate(labels):
            self.by_label[label].append(number)
        boxes_of = {number: group for group in one_image for number in group}
        for group in one_image:
            self._join(group)
        contradicting = []
        for group in alike:
            self._join(group)
            by_path: dict[str, set[str]] = {}
            for number in group:
                of_image = by_path.setdefault(paths[number], set())
                of_image.update(labels[n] for n in boxes_of.get(number, (number,)))
            if len(set(map(frozenset, by_path.values()))) > 1:
                contradicting.append(group[0])
        self.blocked = {self.groups.root(number) for number in contradicting}

    def _join(self, group: Sequence[int]) -> None:
        for other in group[1:]:
            self.groups.join(group[0], other)

    def bundle_key(self, bundle: Sequence[int], seed: int) -> bytes:
        """Return what orders images that stay together: the hash of the first path."""
        return _hash(seed, min(self.paths[n] for n in bundle))


def _open_split(data: _Data, share: float, seed: int) -> Parts:
    # Classes that share an image stay on one side.
    families = _Groups()
    names = sorted(data.by_label)
    place = {label: number for number, label in enumerate(names)}
    for number in data.groups.members():
        families.join(place[data.labels[number]], place[data.labels[data.groups.root(number)]])
    family_of: dict[int, list[str]] = {}
    for label in names:
        family_of.setdefault(families.root(place[label]), []).append(label)
    wanted = min(max(2, round(share * len(names))), len(names) - 2)
    held: set[str] = set()
    decided: set[int] = set()  # families: links between folders may join all classes to a single one
    for label in sorted(names, key=lambda name: _hash(seed, name)):
        root = families.root(place[label])
        if root in decided:
            continue
        decided.add(root)
        family = family_of[root]
        if len(held) + len(family) <= wanted and all(len(data.by_label[name]) >= 2 for name in family):
            held.update(family)
    kept = [number for label in names if label in held for number in data.by_label[label]]
    rest = [number for label in names if label not in held for number in data.by_label[label]]
    return rest, kept, list(kept)


def _closed_split(data: _Data, share: float, seed: int) -> Parts:
    train: list[int] = []
    query: list[int] = []
    taken: dict[str, int] = {}
    decided = _shared_images(data, share, seed, taken, train, query)
    for label, members in data.by_label.items():
        bundles: dict[int, list[int]] = {}
        for number in members:
            if (root := data.groups.root(number)) not in decided:
                bundles.setdefault(root, []).append(number)
        wanted = _wanted(members, share)
        count = taken.get(label, 0)
        for root, bundle in sorted(bundles.items(), key=lambda b: data.bundle_key(b[1], seed)):
            fits = root not in data.blocked and count < wanted and count + len(bundle) < len(members)
            (query if fits else train).extend(bundle)
            count += len(bundle) if fits else 0
    return train, query, list(train)


def _wanted(members: Sequence[int], share: float) -> int:
    return max(1, round(share * len(members))) if len(members) > 1 else 0


def _shared_images(
    data: _Data, share: float, seed: int, taken: dict[str, int], train: list[int], query: list[int]
) -> set[int]:
    """Decide about images with boxes of several classes first, as a whole; return the roots of these.

    One becomes a query as long as a class in it needs queries, and every class keeps at least half of its boxes.
    """
    bundles: dict[int, list[int]] = {}
    for number in data.groups.members():
        bundles.setdefault(data.groups.root(number), []).append(number)
    several = {root: bundle for root, bundle in bundles.items() if len({data.labels[n] for n in bundle}) > 1}
    for root, bundle in sorted(several.items(), key=lambda b: data.bundle_key(b[1], seed)):
        counts = Counter(data.labels[n] for n in bundle)
        sizes = {label: len(data.by_label[label]) for label in counts}
        needed = any(taken.get(label, 0) < _wanted(data.by_label[label], share) for label in counts)
        spared = all(taken.get(label, 0) + count <= sizes[label] / 2 for label, count in counts.items())
        fits = root not in data.blocked and needed and spared
        (query if fits else train).extend(bundle)
        for label, count in counts.items():
            taken[label] = taken.get(label, 0) + (count if fits else 0)
    return set(several)


def _hash(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


class _Groups:
    """Disjoint sets (Tarjan 1975) of numbers; numbers that were never joined take no memory."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._roots: set[int] = set()

    def root(self, item: int) -> int:
        while (above := self._parent.get(item, item)) != item:
            self._parent[item] = self._parent.get(above, above)
            item = above
        return item

    def members(self) -> list[int]:
        """Return all that have been joined with another, in order."""
        return sorted(self._parent.keys() | self._roots)

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self._parent[max(a, b)] = min(a, b)
            self._roots.add(min(a, b))
