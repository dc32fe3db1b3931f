"""Find the images that a list names: where it says, or elsewhere on this machine."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.formats.source import Match, Source, Tree, plain_path
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted
from shitu_cli.stores import address_of, is_stored, is_there, join

SAMPLE = 200


@dataclass(frozen=True)
class LocatedImages:
    """Where the images of a list are: `paths` below `root`, None for those that are not there (reported)."""

    root: Path
    paths: list[str | None]
    remarks: list[str]


class Locator:
    """Finds the images that files of a source name. `folder` of a file is relative to the source's base."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.named_root = source.options.image_root

    @cached_property
    def tree(self) -> Tree:
        """The files among which images are searched if the paths of a list are not exact."""
        if self.named_root is not None:
            return Tree(self.named_root)
        if self.source.tree.images or self.source.path.is_dir():
            above = self.source.base.resolve().parent
            return self.source.tree if self.source.tree.images else Tree(above)
        return Tree(self.source.base.resolve().parent)

    def is_image(self, spelt: str, folder: str = "") -> bool:
        """Return whether a value of a table leads to exactly one image."""
        if not spelt or len(spelt) > 1000 or "\0" in spelt or "\n" in spelt:
            return False
        plain = plain_path(spelt)
        if self.is_file(spelt, folder):
            return True
        return bool(plain) and self.tree.find(plain, self._near(folder)).path is not None

    def is_known(self, spelt: str) -> bool:
        """Return whether a value is the name of an image, or of several in different folders."""
        match = self.tree.find(spelt)
        return match.path is not None or match.how == "several"

    def is_file(self, spelt: str, folder: str = "") -> bool:
        """Return whether a path leads to a file as it is spelt."""
        return any(_is_file(root, spelt) for root in self._roots(folder))

    def locate(
        self,
        spelt: Sequence[str],
        places: Callable[[int], str],
        folder: str,
        role: str,
        problems: Problems,
        listed: str,
        splits: Sequence[str] = (),
    ) -> LocatedImages:
        """Return where the images are that one file names.

        Args:
            spelt: Their paths as the file has them.
            places: `file:line` of the n-th, for messages.
            folder: The folder of the file.
            role: The split that the file's name says, "" for none: decides between equal folders.
            problems: Takes those that are not there, or may be several.
            listed: The file, for messages.
            splits: The split of each, if the file says it: where two have images of one name, it decides.

        Raises UsageError when two folders hold all of them, DataError when none of them is there.
        """
        sample = list(spelt[:: max(1, len(spelt) // SAMPLE)])
        if self._are_only_addresses(sample):
            return LocatedImages(self.source.base, [_clean(path) for path in spelt], ["read from these addresses"])
        if len(set(splits)) > 1 and len(set(zip(spelt, splits, strict=True))) > len(set(spelt)):
            return self._in_splits(spelt, splits, places, folder, problems, listed)
        roots = self._roots(folder)
        hits = {root: sum(_is_file(root, path) for path in sample) for root in roots}
        root = max(roots, key=lambda candidate: hits[candidate])
        if hits[root] * 2 >= len(sample) or not self.tree.images:
            return self._from_root(root, spelt, places, problems)
        homes = self.tree.home(sample, self._near(folder)) if self.tree.images else []
        home = self._one_home(homes, spelt, role, listed)
        return self._by_search(home, spelt, places, folder, problems, listed)

    def _in_splits(
        self,
        spelt: Sequence[str],
        splits: Sequence[str],
        places: Callable[[int], str],
        folder: str,
        problems: Problems,
        listed: str,
    ) -> LocatedImages:
        """Find the images of each split for themselves."""
        paths: dict[int, str | None] = {}
        remarks: list[str] = []
        for split in dict.fromkeys(splits):
            numbers = [number for number, other in enumerate(splits) if other == split]
            part = self.locate(
                [spelt[n] for n in numbers], lambda n, at=numbers: places(at[n]), folder, split, problems, listed  # type: ignore[misc]
            )  # fmt: skip
            below = os.path.relpath(part.root, self.tree.root).replace(os.sep, "/")
            for number, path in zip(numbers, part.paths, strict=True):
                is_below = path is not None and address_of(path) is None
                paths[number] = posixpath.normpath(posixpath.join(below, path)) if is_below and path else path
            remarks += [f"{split}: {remark}" for remark in part.remarks]
        return LocatedImages(self.tree.root, [paths[n] for n in range(len(spelt))], remarks)

    def _are_only_addresses(self, sample: Sequence[str]) -> bool:
        """Return whether paths are addresses, and most of them have no copy below the list or the named folder.

        Elsewhere on this machine, images of these names are other images.
        """
        if not sample or not all(address_of(_clean(path)) for path in sample):
            return False
        tree = self.source.tree if self.named_root is None else self.tree
        return 2 * sum(tree.find(path).path is not None for path in sample) < len(sample)

    def _roots(self, folder: str) -> list[Path]:
        if self.named_root is not None:
            return [self.named_root]
        base = self.source.base
        above = [base.parent] if self.source.path.is_file() or not folder else []
        return list(dict.fromkeys([base / folder, base, *above]))

    def _near(self, folder: str) -> str:
        near = os.path.relpath(self.source.base / folder, self.tree.root).replace(os.sep, "/")
        return "" if near == "." or near.startswith("..") else near

    def _from_root(
        self, root: Path, spelt: Sequence[str], places: Callable[[int], str], problems: Problems
    ) -> LocatedImages:
        """Find images if most paths are right; search for the others among all images."""
        paths: list[str | None] = []
        ways: Counter[str] = Counter()
        for number, path in enumerate(spelt):
            # A folder, a pipe or a path that leads out of the root is reported where images are looked at.
            if _is_there(root, path) or _clean(path).startswith("../") or not self._searchable:
                paths.append(_clean(path))
                continue
            match = self.tree.find(path)
            paths.append(self._settle(match, path, places(number), problems))
            if match.path is not None:
                ways[match.how] += 1
                paths[-1] = os.path.relpath(self.tree.root / match.path, root).replace(os.sep, "/")
        return LocatedImages(root, paths, _remarks(ways))

    @cached_property
    def _searchable(self) -> bool:
        return bool(self.tree.images)

    def _one_home(self, homes: list[str], spelt: Sequence[str], role: str, listed: str) -> str | None:
        """Return the folder that the list's paths start from; of several equally good ones, the one of its split."""
        if len(homes) < 2:
            return homes[0] if homes else None
        whole = {home: sum(self._at(home, path) for path in spelt) for home in homes}
        best = [home for home in homes if whole[home] == max(whole.values())]
        if len(best) > 1 and role:
            best = [home for home in best if split_of(home) == role] or best
        if len(best) == 1:
            return best[0]
        if max(whole.values()) < len(spelt):
            return None  # the images are in different folders
        raise UsageError(
            f"{listed}: its images may be those of {' or '.join(best[:3])}",
            details=[f"{spelt[0]}: {posixpath.join(home, plain_path(spelt[0]))}" for home in best[:3]],
            hint=f"name the folder: --image-root {self.tree.root / best[0]}; or, if the folders are the classes: "
            "--format class-tree",
        )

    def _at(self, home: str, path: str) -> bool:
        return posixpath.normpath(posixpath.join(home, plain_path(path))) in self.tree.image_set

    def _by_search(
        self,
        home: str | None,
        spelt: Sequence[str],
        places: Callable[[int], str],
        folder: str,
        problems: Problems,
        listed: str,
    ) -> LocatedImages:
        near = self._near(folder) if home is None else home
        paths: list[str | None] = []
        ways: Counter[str] = Counter()
        missing = Problems()
        for number, path in enumerate(spelt):
            match = self.tree.find(path, near)
            paths.append(self._settle(match, path, places(number), missing))
            if match.path is not None:
                ways[match.how] += 1
        if spelt and not any(path is not None for path in paths):
            raise self._nothing_there(spelt, listed, missing)
        problems.take(missing)
        remarks = [f"images are in {home}/"] if home else []
        return LocatedImages(self.tree.root, paths, remarks + _remarks(ways, home is not None))

    def _settle(self, match: Match, spelt: str, place: str, problems: Problems) -> str | None:
        if match.path is None:
            nearest = f"; nearest: {', '.join(match.candidates)}" if match.candidates else ""
            kind = "several-images" if match.how == "several" else "missing"
            problems.add(kind, f"{place} ({_clean(spelt)})", nearest.removeprefix("; "))
        return match.path

    def _nothing_there(self, spelt: Sequence[str], listed: str, missing: Problems) -> DataError:
        examples = [
            f"{where}: {detail}" if detail else where for f in missing.cases.values() for where, detail in f.examples
        ]
        hint = "name the folder that holds them: --image-root FOLDER"
        if self.source.path.is_dir():
            hint += "; or, if the folders are the classes: --format class-tree"
        names = f"names {counted(len(spelt), 'image')}, none of which is below {self.tree.root}"
        return DataError(f"{listed} {names}", details=examples[:3], hint=hint)


def _is_file(root: Path, path: str) -> bool:
    try:
        location = join(str(root), _clean(path))
        if is_stored(location):
            # An address is only known when it is read; images on this machine come first.
            return address_of(location) is None and is_there(location)
        return os.path.isfile(location)
    except ValueError:
        return False


def _is_there(root: Path, path: str) -> bool:
    try:
        location = join(str(root), _clean(path))
        return address_of(location) is not None or is_there(location)
    except ValueError:
        return False


def _clean(path: str) -> str:
    return path.strip('\ufeff" \t\r').replace("\\", "/").removeprefix("./")


def _remarks(ways: Counter[str], home: bool = False) -> list[str]:
    words = {
        "another folder": "found in another folder than it says",
        "other letters": "spelt differently (upper or lower case, or accents)",
        "without its suffix": "named without suffix",
    }
    return [
        f"{count:,} {words[how]}"
        for how, count in ways.items()
        if how in words and not (home and how == "another folder")
    ]
