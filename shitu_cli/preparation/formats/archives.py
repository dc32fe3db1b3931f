"""Images that stay in archives: .tar shards (the WebDataset way), .zip, .parquet; and folders at addresses.

In a tar or zip the label of an image is a member beside it of the same name (`a/7.jpg`, `a/7.cls`), or else its folder.
See https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.data.images import is_image_name
from shitu_cli.errors import Command, DataError, Message
from shitu_cli.preparation.formats.archive_labels import ArchiveShard, kinds_beside, read_beside
from shitu_cli.preparation.formats.base import PACKED, Format, Rows
from shitu_cli.preparation.formats.parquet_tables import read_parquet
from shitu_cli.preparation.formats.source import Source, Tree
from shitu_cli.preparation.formats.splits import split_of_file, split_of_folder
from shitu_cli.preparation.formats.tree import class_rows, say_classes
from shitu_cli.preparation.formats.unreadable import unpacked_folder, unpacking
from shitu_cli.preparation.problems import Problems
from shitu_cli.stores import MEMBER, address_of, is_archive, join, list_files, open_archive

# What letters become that a zip holds in an encoding which it does not state, as Windows writes it in China or Japan.
_GARBLED = re.compile("[\u2500-\u259f]")
BY_FOLDERS = "folders"  # the value of --columns label= that makes folders the labels
# Files beside images that may hold their labels, in a way that is read from folders only.
_LABEL_FILES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".txt", ".lst", ".mat", ".xlsx")
# Files that hold none, whatever they are called: names of classes, descriptions, what prepare --pack notes.
_NO_LABELS = "readme license licence classes label_map dataset_infos dataset_dict pack sizes wids-meta shardindex"
_OTHERS = frozenset(_NO_LABELS.split())


def _detect(source: Source) -> bool:
    """Return whether a source is an archive, an address, or a folder of archives without any image."""
    if address_of(source.path) is not None or source.options.archives is not None:
        return True
    if not source.path.is_dir():
        return is_archive(source.path)
    return not source.tree.images and any(map(is_archive, source.tree.files))


def _read(source: Source, problems: Problems) -> Rows:
    root, names = _listed(source)
    rows = Rows(Path(os.curdir) if address_of(root) else Path(root))
    shards = [_shard(root, name) for name in names if is_archive(name)]
    images = [name for name in names if is_image_name(name)]
    if images and shards:
        raise DataError(
            f"{source.path} holds both images and archives, such as {images[0]} and {shards[0].name}",
            hint="prepare the images or the archives alone: move the others to another folder",
        )
    others = [name for name in names if not is_archive(name)]
    if shards and (listed := next(filter(_may_label, others), None)) is not None and _wants_more(source):
        raise _labels_beside(source, join(root, listed), shards[0])
    if images:
        _read_folders(source, [(name, join(root, name), "") for name in images], others, rows, problems)
        return rows
    for shard in shards:
        if shard.kind == "parquet":
            read_parquet(shard, source, rows, problems)
    packed = [shard for shard in shards if shard.kind != "parquet"]
    if packed:
        _read_packed(source, packed, root, rows, problems)
    _settle_splits(rows)
    return rows


def stored_images(source: Source) -> list[str]:
    """Return the locations of all images of such a source, with or without labels."""
    root, names = _listed(source)
    locations = []
    for name in names:
        if is_archive(name):
            shard = _shard(root, name)
            members = (member for member in shard.members() if shard.kind == "parquet" or is_image_name(member))
            locations += [join(root, shard.location(member)) for member in members]
        elif is_image_name(name):
            locations.append(join(root, name))
    return locations


def _listed(source: Source) -> tuple[str, list[str]]:
    """Return the folder or address of a source and the files below it; of a single archive, its folder and name."""
    address = address_of(source.path)
    if address is not None and not is_archive(address):
        return address, list_files(address)
    if address is not None:
        folder, _, name = address.rpartition("/")
        return folder, [name]
    if not source.path.is_dir():
        return str(source.base), [source.path.name]
    chosen = source.options.archives
    return str(source.base), source.tree.files if chosen is None else sorted(chosen)


def _shard(root: str, name: str) -> ArchiveShard:
    place = join(root, name)
    split = split_of_file(name) or next(filter(None, map(split_of_folder, reversed(name.split("/")[:-1]))), "")
    return ArchiveShard(name if address_of(root) is None else place, open_archive(place), split)


def _read_packed(source: Source, shards: Sequence[ArchiveShard], root: str, rows: Rows, problems: Problems) -> None:
    """Read tar and zip archives: labels beside the images, or their folders."""
    wanted = source.options.columns.get("label")
    kinds = kinds_beside(shards)
    if wanted != BY_FOLDERS and (kinds or wanted is not None):
        read_beside(shards, kinds, wanted, source, root, rows, problems)
        return
    images, others = [], []
    for shard in shards:
        for member in shard.members():
            if _GARBLED.search(member):
                raise _garbled(source, shard, member)
            if is_image_name(member):
                images.append((member, shard.location(member), shard.split))
            else:
                others.append(f"{shard.name}{MEMBER}{member}")
    listed = next((name for name in others if _may_label(name.rpartition(MEMBER)[2])), None)
    if listed is not None and _wants_more(source):
        raise _labels_beside(source, listed, shards[0])
    if all("/" not in member for member, _, _ in images) and len(shards) > 1:
        # cat.zip, dog.zip: each archive is a folder.
        stems = {shard.name: posixpath.basename(shard.name).rpartition(".")[0] for shard in shards}
        images = [(f"{stems[at.partition(MEMBER)[0]]}/{member}", at, split) for member, at, split in images]
    _read_folders(source, images, others, rows, problems)


def _read_folders(
    source: Source, images: Sequence[tuple[str, str, str]], others: list[str], rows: Rows, problems: Problems
) -> None:
    """Read images by the folders of their paths; each is path, location and the split that its archive says."""
    places: dict[str, list[tuple[str, str]]] = {}
    for path, location, split in images:
        places.setdefault(posixpath.normpath(f"/{path}")[1:], []).append((location, split))
    members, layout = class_rows(_Members(source, sorted(places), others), problems)
    for number, path in enumerate(members.paths):
        for location, split in places[path]:
            rows.add(location, members.labels[number], members.splits[number] or split)
    members.root = rows.root
    say_classes(members, layout)
    rows.readings += members.readings
    rows.unused |= members.unused


class _Members(Source):
    """The members of archives as a source whose folders can be read."""

    def __init__(self, source: Source, images: list[str], files: list[str]) -> None:
        super().__init__(source.path, source.options)
        self.tree = _MemberTree(images, files)  # instead of walking the folder


class _MemberTree(Tree):
    def __init__(self, images: list[str], files: list[str]) -> None:
        self.images, self.files, self.problems = images, files, Problems()


def _settle_splits(rows: Rows) -> None:
    """Keep the splits of the archives' names only if each image has one, and if training is among them."""
    counts = Counter(rows.splits)
    if "" in counts or "train" not in counts or len(counts) == 1:
        rows.splits = [""] * len(rows)
        return
    shown = ", ".join(f"{split} {count:,}" for split, count in sorted(counts.items()))
    rows.readings.append(f"splits by the names of the archives or folders: {shown}")


def _may_label(name: str) -> bool:
    stem, suffix = posixpath.splitext(posixpath.basename(name).lower())
    return suffix in _LABEL_FILES and stem not in _OTHERS


def _wants_more(source: Source) -> bool:
    """Return whether the user has not said where the labels are."""
    return "label" not in source.options.columns


def _garbled(source: Source, shard: ArchiveShard, member: str) -> DataError:
    """Return the error for names of members in an encoding that the archive does not state."""
    place = Path(shard.archive.place)
    unpack = unpacking(place) if address_of(shard.archive.place) is None else None
    way: Message = "pack them as UTF-8"
    if unpack is not None:
        way = [
            "unpack it with the encoding of the machine that packed it: ",
            f"{unpack.replace('unzip', 'unzip -O gb18030', 1)} && ",
            Command("prepare", unpacked_folder(place)),
        ]
    return DataError(
        f"{source.path}: its names are in an encoding that {shard.name} does not state: {member}", hint=way
    )


def _labels_beside(source: Source, listed: str, shard: ArchiveShard) -> DataError:
    """Return the error for files that may hold the labels; read by folders, images would get others."""
    insist: list[str | Command] = [
        "or, if the folders are the labels: ",
        Command("prepare", "--columns", f"label={BY_FOLDERS}"),
    ]
    way: Message = ["make a list of path and label that names the members, such as ", f"{shard.example()}; ", *insist]
    place = Path(shard.archive.place)
    unpack = unpacking(place) if address_of(shard.archive.place) is None else None
    if unpack is not None and MEMBER in listed:
        way = [f"unpack it: {unpack} && ", Command("prepare", unpacked_folder(place)), "; ", *insist]
    return DataError(f"{source.path}: the labels may be in {listed}, which is not read beside archives", hint=way)


ARCHIVES = Format(
    "archives",
    "images that stay in .tar shards (WebDataset: a.jpg with a.cls, .json or .txt, else folders), .zip (by folders), "
    ".parquet (Hugging Face), or a folder of such; also at s3://, gs:// and hdfs://, and folders of images there",
    _detect,
    _read,
    PACKED,
    columns=frozenset(("image", "label")),
)
