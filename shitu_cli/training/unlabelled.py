"""Images without labels for `train --teacher`: where they are, which of them count, and the batches of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.parts.samplers import DistributedBatchSampler
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.lists import ImageList, read_list, relative_to, write_list
from shitu_cli.data.samplers import Feed, Repeated, build_sampler
from shitu_cli.errors import Command, UsageError
from shitu_cli.inputs import read_lines
from shitu_cli.preparation.audit import look_at
from shitu_cli.preparation.formats.delimited import split_line
from shitu_cli.preparation.sources import find_images
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import counted
from shitu_cli.stores import is_stored, join, real, state_of
from shitu_cli.training.checks import training_part

LISTS = (".txt", ".lst")  # of a path on each line, and perhaps a label


@dataclass(frozen=True)
class Unlabelled:
    """The images of a folder or a list without those of the config's lists; `left_out` counts these by their list."""

    dataset: RecDataset
    source: str
    left_out: Counter[str]

    def described(self, batch_size: int) -> str:
        """Return how many there are, and why others are not used."""
        count = counted(min(batch_size, len(self.dataset)), "more image")
        text = f"{count} in each batch, of {len(self.dataset):,} without labels from {self.source}"
        if not self.left_out:
            return text
        lists = ", ".join(f"{count:,} of the {name} list" for name, count in self.left_out.items())
        return f"{text} (left out, as they have labels or are for evaluation: {lists})"

    def too_many_views(self, views: int, shown: int) -> list[str]:
        """Return a remark if training shows less than half of the views, `shown` of them, that a teacher looks at."""
        count = len(self.dataset)
        if 2 * shown > views * count:
            return []
        fewer = f"-o Loss.Train.TeacherLoss.views={max(1, round(shown / count))}"
        return [
            f"the teacher looks at {views * count:,} crops of images without labels, but training shows only {shown:,} "
            f"of them: train more --epochs, or let it look at fewer with {fewer}"
        ]


def find_unlabelled(
    config: Config, loss: TeacherLoss | None, keep_bytes: int, lists_dir: Path | None = None
) -> Unlabelled | None:
    """Return the images without labels that a loss names, None if it names none; writes their list to `lists_dir`.

    By default that is in the cache of the workspace. Raises the errors of unlisted_images.
    """
    if loss is None or loss.unlabelled is None:
        return None
    source = loss.unlabelled
    files, left_out = unlisted_images(config, source)
    names = [file if is_stored(file) else relative_to(file, Path(source)) for file in files]
    key = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    path = (lists_dir or Places.of(config).workspace.cache_dir / "lists") / f"unlabelled-{key}.txt"
    write_list(path, ImageList.of(names, np.full(len(names), -1)))
    dataset = dataclasses.replace(
        training_part(config).dataset, image_root=source, cls_label_path=str(path), delimiter=None, relabel=False
    )
    return Unlabelled(RecDataset(dataset, keep_bytes), source, left_out)


def unlisted_images(config: Config, source: str) -> tuple[list[str], Counter[str]]:
    """Return the images of a source that no list of the config has, and how many of each list were left out.

    Images of the training list are known, and those that are queried or searched would flatter an evaluation: what is
    in a list, or has the same bytes, is left out.

    Raises UsageError for a source that is not there, and if no image is left.
    """
    files = _files_of(source)
    if not files:
        raise UsageError(f"--unlabelled: no images in {source}")
    listed = _listed(config, files)
    left = [file for number, file in enumerate(files) if number not in listed]
    left_out = Counter(listed[number] for number in sorted(listed))
    if not left:
        raise UsageError(
            f"--unlabelled: all {counted(len(files), 'image')} of {source} are in lists already",
            details=[f"{count:,} of the {name} list" for name, count in left_out.items()],
            hint=["learn from the images with labels only: ", Command("train", without=("--unlabelled",))],
        )
    return left, left_out


def sources_of(dataset: RecDataset, unlabelled: Unlabelled | None) -> list[RecDataset]:
    """Return the images with labels, and those without if there are any."""
    return [dataset] if unlabelled is None else [dataset, unlabelled.dataset]


def _files_of(source: str) -> list[str]:
    """Return the location of each image of a folder, an archive, an address or a list, once."""
    path = Path(source)
    if path.suffix.lower() in LISTS and path.is_file():
        lines = [line.removesuffix("\r") for line in read_lines(path, keep_bytes=True)]
        files = [_image_of(line, str(path.parent)) for line in lines if line.strip()]
    else:
        files = find_images([source], folder_labels=False).files
    return list({real(file): file for file in files}.values())


def _image_of(line: str, folder: str) -> str:
    """Return the location of the image of a line, which a tab or a blank may divide from a label."""
    path = line.partition("\t")[0]
    parts = split_line(path, lambda start: state_of(join(folder, start)) is not None)
    return join(folder, path if parts is None else parts[0].strip('"'))


def _listed(config: Config, files: list[str]) -> dict[int, str]:
    """Return the number of each file that a list of the config has, or has a copy of, with the name of that list."""
    places = {real(file): number for number, file in enumerate(files)}
    by_size: dict[int, list[int]] = {}
    for number, file in enumerate(files):
        if (state := state_of(file)) is not None:
            by_size.setdefault(state.size, []).append(number)
    by_content: dict[int, dict[bytes, list[int]]] = {}  # for each size that a listed image has too
    listed: dict[int, str] = {}
    for name, split in config.DataLoader.splits.items():
        path = Path(split.dataset.cls_label_path)
        if not path.is_file():
            continue  # a list that this run does not need
        images = read_list(path, delimiter=split.dataset.delimiter)
        for location in dict.fromkeys(images.location(n, split.dataset.image_root) for n in range(len(images))):
            state = state_of(location)
            if state is None or state.size not in by_size:
                continue
            alike, same = by_size[state.size], places.get(real(location))
            if alike != [same]:
                if state.size not in by_content:
                    by_content[state.size] = _by_content(files, alike)
                alike = by_content[state.size].get(look_at(location, decode=False).digest, [])
            for number in alike if same is None else [same, *alike]:
                listed.setdefault(number, name)
    return listed


def _by_content(files: list[str], numbers: list[int]) -> dict[bytes, list[int]]:
    """Return the numbers of files by the digests of what is in them, without those that are no images."""
    result: dict[bytes, list[int]] = {}
    for number in numbers:
        if digest := look_at(files[number], decode=False).digest:
            result.setdefault(digest, []).append(number)
    return result


def batches_of(dataset: RecDataset, batch_size: int, steps: int, seed: int, ranks: Ranks) -> Repeated:
    """Return the batches of an epoch of so many steps: as large as those of images with labels, if there are enough.

    Raises UsageError if there is no image for each process.
    """
    if len(dataset) < ranks.world:
        raise UsageError(
            f"--unlabelled: {counted(len(dataset), 'image')} for {ranks.world} processes are too few",
            hint="name more images, or use fewer processes (--devices)",
        )
    part = DistributedBatchSampler(
        batch_size=batch_size, shuffle=True, drop_last=len(dataset) >= batch_size * ranks.world
    )
    return Repeated(build_sampler(part, Feed(dataset.labels, None, seed, ranks.rank, ranks.world)), steps)
