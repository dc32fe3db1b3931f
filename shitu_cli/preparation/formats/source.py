"""A source as readers see it: the files below it, walked once, and its images by any spelling of their paths."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from shitu_cli.data.images import IMAGE_SUFFIXES, is_image_name
from shitu_cli.preparation.formats.base import ReadOptions, upright_size, walk_files
from shitu_cli.preparation.problems import Problems

_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,15}://", re.I)
PROBED_BYTES = 1 << 16
HEADS = 512  # files whose beginnings are kept in memory, as several formats look at them
SAMPLE = 200  # lines of a list that decide how it spells its paths


class Match(NamedTuple):
    """The image that a list means, None if there is none or more than one.

    `how` is "" if the list spells the path exactly, else it says what differs; `candidates` are the nearest images.
    """

    path: str | None
    how: str = ""
    candidates: tuple[str, ...] = ()


class Tree:
    """The files below `root`: `images` and `files` (all others) as sorted relative paths with forward slashes.

    Images without a known suffix are recognised by their content. `problems` is what the walk met: hidden images,
    links without end, images in formats that are not read, folders without images.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems = Problems()
        self.images: list[str] = []
        self.files: list[str] = []
        for path, is_image in walk_files(root, self.problems):
            (self.images if is_image else self.files).append(path)

    @cached_property
    def image_set(self) -> frozenset[str]:
        """The images, to ask whether one is there."""
        return frozenset(self.images)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped(self.images, lambda path: fold(path.rpartition("/")[2]))

    @cached_property
    def parts(self) -> frozenset[str]:
        """The names of all images and of their folders, as `fold` writes them."""
        folders = {path.rpartition("/")[0] for path in self.images}
        return frozenset(fold(part) for folder in folders for part in folder.split("/")) | self._by_name.keys()

    @cached_property
    def stems(self) -> dict[str, list[str]]:
        """The images by their names without suffix, as `stem_of` writes them."""
        return _grouped(self.images, stem_of)

    def find(self, spelt: str, near: str = "") -> Match:
        """Return the image that `spelt` means in a file of the folder `near` ("" for the root).

        Tried in this order: the path as it is, from `near` and from the root; the image that shares the longest tail
        of folders with it (absolute paths and addresses of another machine, images in another folder), letters
        compared without case and encoding (é as one sign or two); the same without the suffix, where it has none.
        """
        plain = plain_path(spelt)
        if not plain:
            return Match(None)
        for start in dict.fromkeys((near, "")):
            whole = posixpath.normpath(posixpath.join(start, plain))
            if whole in self.image_set:
                return Match(whole)
        name = fold(plain.rpartition("/")[2])
        candidates, how = self._by_name.get(name, []), "another folder"
        if not candidates and not is_image_name(plain):
            candidates, how = self.stems.get(name, []), "without its suffix"
        if not candidates and (decoded := urllib.parse.unquote(plain, errors="replace")) != plain:
            return self.find(decoded, near)
        if not candidates:
            return Match(None, "", tuple(self._alike(plain)))
        best = _longest_tail(fold(plain), candidates, suffix=how != "without its suffix")
        if len(best) > 1:
            best = [path for path in best if not _in_mask_folder(path)] or best
        if len(best) > 1 and near:
            best = [path for path in best if path.startswith(f"{near}/")] or best
        if len(best) > 1:
            return Match(None, "several", tuple(best[:3]))
        if how == "another folder" and fold(best[0]) == fold(posixpath.normpath(posixpath.join(near, plain))):
            how = "other letters"
        return Match(best[0], how)

    def home(self, spelt: Sequence[str], near: str = "") -> list[str]:
        """Return the folders from which most of a sample of one list's paths leads to images, all equally good.

        `[near]` where most paths are right as they are; [] if no folder fits.
        """
        sample = [plain for path in _sample(spelt) if (plain := plain_path(path))]
        counts: Counter[str] = Counter()
        for plain in sample:
            name = fold(plain.rpartition("/")[2])
            candidates = self._by_name.get(name) or ([] if is_image_name(plain) else self.stems.get(name, []))
            counts.update({folder for path in candidates if (folder := _prefix(path, plain)) is not None})
        most = max(counts.values(), default=0)
        best = [folder for folder, count in counts.items() if count == most]
        return [near] if near in best else sorted(best)

    def size(self, path: str) -> tuple[int, int] | None:
        """Return width and height of an image as it is shown, turned as its EXIF data says; None if not known."""
        return upright_size(self.root / path)

    def _alike(self, plain: str) -> Iterator[str]:
        """Yield images whose name differs in its suffix only."""
        yield from self.stems.get(stem_of(plain), [])[:3]


class Source:
    """A folder or a single file that holds or lists images, with what the user said about how to read it."""

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        self.path = path
        self.options = options or ReadOptions()
        self._heads: dict[str, bytes] = {}
        self.format_named = False  # by the user
        self.memo: dict[str, object] = {}  # results of formats that others need too

    @property
    def base(self) -> Path:
        """The folder that paths are relative to: the source itself, or the folder of the file."""
        return self.path if self.path.is_dir() else self.path.parent

    def head(self, file: str) -> bytes:
        """Return the first and the last bytes of a file, to recognise it by; empty if it cannot be read."""
        if file not in self._heads:
            if len(self._heads) >= HEADS:
                self._heads.clear()
            self._heads[file] = _head_and_tail(self.base / file)
        return self._heads[file]

    @cached_property
    def tree(self) -> Tree:
        """Everything below the base; walked when first asked for."""
        return Tree(self.base)

    @cached_property
    def _folders(self) -> list[str]:
        """The source and the folders up to two levels below it, level by level."""
        levels = [[str(self.path)]]
        for _ in range(2):
            levels.append(sorted(inner for folder in levels[-1] for inner in _folders_in(folder)))
        return list(chain.from_iterable(levels))

    def folder_with(self, *names: str) -> Path | None:
        """Return the source itself, or a folder up to two levels below it, that holds all `names`."""
        folders = self._folders if self.path.is_dir() else []
        holders = (folder for folder in folders if all(os.path.exists(f"{folder}/{name}") for name in names))
        return next(map(Path, holders), None)


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _head_and_tail(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            head = file.read(PROBED_BYTES)
            size = os.fstat(file.fileno()).st_size
            if size > 2 * PROBED_BYTES:
                file.seek(size - PROBED_BYTES)
            return head + b"\n" + file.read(PROBED_BYTES)
    except OSError:
        return b""


_MASKS = re.compile(r"(?:^|/)(?:masks?|trimaps?|ground_?truth|gt|segmentation[^/]{0,40})/", re.I)


def _in_mask_folder(path: str) -> bool:
    """Return whether it is in a folder of masks, which have the names of other images."""
    return _MASKS.search(path) is not None


def plain_path(spelt: str) -> str:
    """Return a path as this program writes it: forward slashes, no drive, no protocol, no query of an address."""
    path = spelt.strip().strip('"').strip()
    if _ADDRESS.match(path):
        parts = urllib.parse.urlsplit(path)
        path = urllib.parse.unquote(parts.path, errors="replace")
    path = _DRIVE.sub("", path.replace("\\", "/"), count=1)
    return path.lstrip("/").removeprefix("./")


def fold(text: str) -> str:
    """Return a text without case and with accents encoded in one way, to compare names of files."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def names_image(spelt: str) -> bool:
    """Return whether a path, as a list spells it, ends as images do."""
    return is_image_name(plain_path(spelt))


def without_suffix(name: str) -> str:
    """Return a name without an image's suffix; others keep their dots."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def bare_name(path: str) -> str:
    """Return the name of a file without its folder and any suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def stem_of(path: str) -> str:
    """Return the name of a file without its folder and an image's suffix, as `fold` writes it."""
    return fold(without_suffix(path.rpartition("/")[2]))


def report_missing(match: Match, place: str, spelt: str, problems: Problems) -> None:
    """Report a name that no image has, or several."""
    nearest = f"; nearest: {', '.join(match.candidates)}" if match.candidates else ""
    problems.add("several-images" if match.how == "several" else "missing", place, f"{spelt}{nearest}")


def _grouped(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(key(path), []).append(path)
    return groups


def _longest_tail(spelt: str, candidates: list[str], *, suffix: bool) -> list[str]:
    """Return those of the candidates that share the most folders at the end with a path."""
    wanted = spelt.split("/")[-2::-1]

    def shared(path: str) -> int:
        folders = fold(path).split("/")[-2::-1]
        count = 0
        for mine, theirs in zip(folders, wanted, strict=False):
            if mine != theirs:
                break
            count += 1
        return count

    if len(candidates) == 1:
        return candidates
    counts = [shared(path) for path in candidates]
    return [path for path, count in zip(candidates, counts, strict=True) if count == max(counts)]


def _prefix(path: str, plain: str) -> str | None:
    """Return the folder from which `plain` leads to `path`; None if their folders differ."""
    tail = posixpath.normpath(plain)
    whole = path if is_image_name(plain) or not is_image_name(path) else without_suffix(path)
    if fold(whole) == fold(tail):
        return ""
    if fold(whole).endswith(f"/{fold(tail)}"):
        return "/".join(path.split("/")[: -len(tail.split("/"))])
    return None


def _sample(values: Sequence[str]) -> list[str]:
    step = max(1, len(values) // SAMPLE)
    return list(values[::step])
