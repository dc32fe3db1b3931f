"""Join the shards of a job, after checking that all of them agree and none is missing."""

from __future__ import annotations

import glob
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.errors import DataError, ErrorCollector, UsageError
from shitu_cli.features.shard_file import SUFFIX, Shard, damaged, read_shard
from shitu_cli.features.writing import Name

_PIECE = 4096  # rows read at once
_SHOWN = 20  # problems of one kind


def find_shards(sources: Sequence[str]) -> list[Path]:
    """Return the shard files that files, folders and patterns name, each once. Raises UsageError if there are none."""
    paths: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        matches = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path] if path.exists() else []
        matches = matches or [Path(match) for match in sorted(glob.glob(source, recursive=True))]
        if not matches:
            raise UsageError(f"no shards: {source}", hint=f"files that end in {SUFFIX}, or their folder")
        paths |= dict.fromkeys(match.resolve() for match in matches)
    return list(paths)


def computed_differently(engines: Sequence[str]) -> str:
    """Return the warning for features that were computed by several of these."""
    return f"the shards were computed in different ways ({'; '.join(engines)}): features are equal except for rounding"


def check_shards(paths: Sequence[Path], kind: str) -> list[Shard]:
    """Return the shards of one job in order.

    Raises DataError that lists all that is wrong, UsageError for shards of another command.
    """
    collector, shards = ErrorCollector(), list[Shard]()
    for path in paths:
        with collector:
            shards.append(read_shard(path))
    problems = [line for error in collector.errors for line in (error.message, *error.details)]
    if shards:
        others = sorted({shard.job.kind for shard in shards} - {kind})
        if others:
            raise UsageError(
                f"these are shards of shitu {', '.join(others)}, not of shitu {kind}",
                details=[str(shard.path) for shard in shards if shard.job.kind != kind][:_SHOWN],
            )
        problems += [*_differences(shards), *_missing(shards)]
    if not problems:
        problems = _gaps(sorted(shards, key=lambda shard: shard.number))
    if problems:
        raise DataError(
            "the shards do not fit together",
            details=problems,
            hint="nothing was written; compute what is missing or different again, with the same model and images",
        )
    return sorted(shards, key=lambda shard: shard.number)


def _differences(shards: Sequence[Shard]) -> list[str]:
    """Return how shards differ in what must be the same, each against what most of them say."""
    lines = []
    for name, value in {
        "parts in all": lambda shard: shard.job.of,
        "model": lambda shard: shard.job.model,
        "options": lambda shard: shard.job.settings,
        "feature size": lambda shard: shard.job.feature_size,
        "images or their order": lambda shard: tuple((part.name, part.order, part.total) for part in shard.parts),
    }.items():
        counts = Counter(value(shard) for shard in shards)
        usual = counts.most_common(1)[0][0]
        lines += [
            f"{shard.path}: another {name}: {_short(value(shard))}, most have {_short(usual)}"
            for shard in shards
            if value(shard) != usual
        ][:_SHOWN]
    return lines


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(f"{total:,} of {name}, {order[:12]}" for name, order, total in value)
    return str(value) if not isinstance(value, str) or len(value) < 200 else f"{value[:40]}…"


def _missing(shards: Sequence[Shard]) -> list[str]:
    """Return which shard numbers are missing or duplicated."""
    of = Counter(shard.job.of for shard in shards).most_common(1)[0][0]
    counts = Counter(shard.number for shard in shards if shard.job.of == of)
    missing = [number for number in range(1, of + 1) if number not in counts]
    lines = [f"missing: {', '.join(f'{number}/{of}' for number in missing[:_SHOWN])}"] if missing else []
    if len(missing) > _SHOWN:
        lines[-1] += f" and {len(missing) - _SHOWN:,} more"
    for number, count in counts.items():
        if count > 1:
            same = [str(shard.path) for shard in shards if shard.number == number and shard.job.of == of]
            lines.append(f"{number}/{of} was given {count} times: {', '.join(same[:_SHOWN])}")
    return lines


def _gaps(shards: Sequence[Shard]) -> list[str]:
    """Return where the stretches of neighbouring shards do not meet."""
    lines = []
    for at, first in enumerate(shards[0].parts):
        reached = 0
        for shard in shards:
            part = shard.parts[at]
            if part.start != reached:
                lines.append(f"{shard.path}: begins at image {part.start:,} of {part.name}, expected {reached:,}")
            reached = part.stop
        if reached != first.total:
            lines.append(f"{shards[-1].path}: ends at image {reached:,} of {first.name}, expected {first.total:,}")
    return lines


def joined(shards: Sequence[Shard], name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Return the features float32 [N, D] of one part of all shards, and the images without one (number → reason)."""
    features = np.empty((shards[0].part(name).total, shards[0].job.feature_size), np.float32)
    skipped: dict[int, str] = {}
    for shard in shards:
        at = shard.part(name).start
        for piece in shard.pieces(name, itertools.repeat(_PIECE)):
            features[at : at + len(piece)] = piece
            at += len(piece)
        skipped |= {number: why for number, (_, why) in shard.part(name).skipped.items()}
    return features, skipped


def stretches(shards: Sequence[Shard], name: str, size: int) -> Iterator[tuple[int, list[Name], np.ndarray]]:
    """Yield (number of the first, names, features [n, D]) of every `size` images, across the borders of shards."""
    at, names, rows = 0, list[Name](), list[np.ndarray]()
    to_fill = iter(lambda: size - len(names), None)  # asked before each piece
    for shard in shards:
        lines = shard.names(name)
        for piece in shard.pieces(name, to_fill):
            rows.append(piece)
            names += itertools.islice(lines, len(piece))
            if len(names) == size:
                yield at, list(names), np.concatenate(rows)
                at += size
                names.clear()
                rows.clear()
        if next(lines, None) is not None:
            raise damaged(shard.path, "more names than features")
    if names:
        yield at, names, np.concatenate(rows)
