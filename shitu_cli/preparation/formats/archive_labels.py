"""Labels beside images in tar and zip archives, as in WebDataset: members with the same name up to its first dot."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shitu_cli.data.lists import parse_label_map
from shitu_cli.errors import Command, DataError, ShituError, UsageError
from shitu_cli.inputs import MIB, parse_json, whole_number
from shitu_cli.preparation.formats.base import Rows, is_image_name
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from shitu_cli.stores import MEMBER, join, read_image
from shitu_cli.stores.archives import Archive

LABEL_SUFFIXES = ("cls", "json", "txt")  # in the order in which they are preferred
KEYS = ("label", "class", "cls", "category", "label_name", "class_name", "label_id", "class_id", "category_id")
SAMPLE = 200
LONGEST = 100  # characters of a label
OFTEN = 0.5  # share of the images that have a kind of label beside them


@dataclass(frozen=True)
class ArchiveShard:
    """An archive of a source: its name as lists have it, and the split that the name says."""

    name: str
    archive: Archive
    split: str

    @property
    def kind(self) -> str:
        return self.archive.kind

    def members(self) -> list[str]:
        """Return the members that systems do not hide."""
        return [name for name in self.archive.index.names() if not _is_hidden(name)]

    def location(self, member: str) -> str:
        """Return how lists name a member."""
        return f"{self.name}{MEMBER}{member}"

    def example(self) -> str:
        """Return the name of an image of it."""
        return self.location(next((name for name in self.members() if is_image_name(name)), "a.jpg"))


def _is_hidden(name: str) -> bool:
    return any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def kinds_beside(shards: Sequence[ArchiveShard]) -> list[str]:
    """Return which kinds of labels most images have beside them."""
    counts: Counter[str] = Counter()
    for shard in shards:
        names = shard.members()
        images, others = [name for name in names if is_image_name(name)], set(names)
        counts["images"] += len(images)
        for kind in LABEL_SUFFIXES:
            counts[kind] += sum(f"{_key(image)}.{kind}" in others for image in images)
    return [kind for kind in LABEL_SUFFIXES if counts[kind] and counts[kind] > OFTEN * counts["images"]]


def read_beside(
    shards: Sequence[ArchiveShard],
    kinds: Sequence[str],
    wanted: str | None,
    source: Source,
    root: str,
    rows: Rows,
    problems: Problems,
) -> None:
    """Add the images of archives with the labels beside them.

    `wanted` is cls, txt or a key of the JSON; without it cls comes before JSON and text. Raises UsageError if the
    user has to say what the label is.
    """
    kind = wanted if wanted in LABEL_SUFFIXES else "json" if wanted is not None else kinds[0]
    if kind not in kinds:
        raise UsageError(
            f"{source.path}: most images have no .{kind} beside them, where --columns label={wanted} would be",
            hint=[Command("prepare", "--columns", "label=folders"), " takes the folders"],
        )
    pairs = list(_pairs(shards, kind, problems))
    if not pairs:
        return
    label_of, said = _reader(kind, wanted if wanted not in LABEL_SUFFIXES else None, pairs, source)
    names, names_file = _class_names(root)
    for shard, image, beside in pairs:
        place = shard.location(beside)
        try:
            label = label_of(shard.archive.text(beside))
        except ShituError as problem:
            problems.add("bad-annotation", place, problem.message)
            continue
        if not label or len(label) > LONGEST or "\n" in label:
            problems.add("bad-annotation", place, "empty" if not label else f"not a label: {label[:40]!r}")
            continue
        rows.add(shard.location(image), label, shard.split)
        number = whole_number(label)
        if number is not None and number in names:
            rows.display[label] = names[number]
    rows.readings.append(f"{counted_shards(shards)}: {said}")
    rows.readings += [f"names of classes: {names_file}"] if names else []
    rows.unused |= {f"*.{other}": f"beside the images, as .{kind} is read" for other in kinds if other != kind}


def counted_shards(shards: Sequence[ArchiveShard]) -> str:
    """Return the names of archives, shortened."""
    return shards[0].name if len(shards) == 1 else f"{shards[0].name} and {len(shards) - 1:,} more"


def _pairs(shards: Sequence[ArchiveShard], kind: str, problems: Problems) -> Iterator[tuple[ArchiveShard, str, str]]:
    """Yield archive, image and member with its label; images without one are reported."""
    for shard in shards:
        names = shard.members()
        others = set(names)
        for image in names:
            if not is_image_name(image):
                continue
            beside = f"{_key(image)}.{kind}"
            if beside in others:
                yield shard, image, beside
            else:
                problems.add("no-annotation", shard.location(image), f"no {posixpath.basename(beside)}")


def _reader(
    kind: str, key: str | None, pairs: Sequence[tuple[ArchiveShard, str, str]], source: Source
) -> tuple[Callable[[str], str], str]:
    """Return a function from the text of a member to its label, and a description for the user."""
    step = max(1, len(pairs) // SAMPLE)
    sample = [shard.archive.text(beside) for shard, _, beside in pairs[::step]]
    if kind == "json":
        key = key or _json_key(sample, source)
        return lambda text: _of_json(text, key), f"class = {key} of the .json beside each image"
    if kind == "txt":
        labels = [text.strip() for text in sample]
        if len(set(labels)) > max(1, OFTEN * len(labels)) or any(len(t) > LONGEST or "\n" in t for t in labels):
            raise UsageError(
                f"{source.path}: the .txt beside the images look like captions or annotations: {labels[0][:60]!r}",
                hint=[
                    Command("prepare", "--columns", "label=folders"),
                    " takes the folders; or make a list of path and label that names the members",
                ],
            )
    return str.strip, f"class = the .{kind} beside each image"


def _json_key(sample: Sequence[str], source: Source) -> str:
    """Return the key of JSON values that is the label; UsageError if none or several may be."""
    values = [value for text in sample if isinstance(value := _parsed(text), dict)]
    scalar = Counter(key for value in values for key, item in value.items() if isinstance(item, (str, int)))
    keys = [key for key, count in scalar.items() if count > OFTEN * len(sample)]
    usual = [key for key in keys if key.lower() in KEYS]
    if len(usual) == 1 or (len(keys) == 1 and not usual):
        return (usual or keys)[0]
    raise UsageError(
        f"{source.path}: which key of the .json beside the images is the class? {', '.join((usual or keys)[:20])}",
        hint=[Command("prepare", "--columns", f"label={(usual or keys or ['KEY'])[0]}"), " or another one"],
    )


def _parsed(text: str) -> Any:
    try:
        return parse_json(text, "member")
    except DataError:
        return None


def _of_json(text: str, key: str) -> str:
    value = parse_json(text, "member")
    label = value.get(key) if isinstance(value, dict) else None
    if isinstance(label, bool) or not isinstance(label, (str, int)):
        raise DataError(f"no {key} that is text or a whole number")
    return str(label).strip()


def _class_names(root: str) -> tuple[dict[int, str], str]:
    """Return names of numbers from label_map.txt or classes.txt beside the archives, and which of these it was."""
    for name in ("label_map.txt", "classes.txt"):
        place = join(root, name)
        try:
            text = read_image(place, limit=16 * MIB).decode("utf-8-sig", "surrogateescape")
        except ShituError:
            continue
        if name == "classes.txt":
            names = dict(enumerate(filter(None, map(str.strip, text.splitlines()))))
        else:
            names = {number: label for label, number in parse_label_map(text, place).items()}
        return names, name
    return {}, ""
