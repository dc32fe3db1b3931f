"""`evaluate` in shards: the features of a share of both lists, and all shares joined to the lists' features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.schema import Config, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import DataError
from shitu_cli.evaluation.evaluate import distinct_splits
from shitu_cli.features.engine import Engine
from shitu_cli.features.list_features import ListFeatures, extract_part, prepared_engine
from shitu_cli.features.shard_file import Job, Shard, Share, Stretch, write_shard
from shitu_cli.features.shards import check_shards, computed_differently, find_shards, joined
from shitu_cli.files import sha256_of
from shitu_cli.inputs import parse_json
from shitu_cli.reporting import Reporter, counted

KIND = "evaluate"


def write_evaluation_shard(
    file: Path, share: Share, engine: Engine, config: Config, reporter: Reporter, *, flip: bool = False
) -> None:
    """Compute the features of a share of the query and gallery lists and write them to `file`.

    Raises DataError for an image that cannot be read, unless its split says `on_error: skip`.
    """
    splits = dict(zip(("query", "gallery"), distinct_splits(config), strict=False))
    normalize = config.Global.feature_normalize
    runner = prepared_engine(engine, flip=flip, normalize=normalize)
    parts: list[tuple[Stretch, list[np.ndarray], None]] = []
    for name, split in splits.items():
        dataset = RecDataset(split.dataset)
        part = share.range(len(dataset), split.sampler.batch_size)
        what = f"{name}, part {share.number} of {share.of}"
        rows, unreadable = extract_part(runner, split, dataset, part, reporter, what)
        skipped = {n: (dataset.location(n), why) for n, why in unreadable.items()}
        order = sha256_of(dataset.list_path)
        parts.append((Stretch(name, order, len(dataset), part.start, part.stop, skipped), [rows], None))
    settings = json.dumps({name: _settings(split, flip, normalize) for name, split in splits.items()})
    job = Job(KIND, share.of, engine.fingerprint, settings, engine.feature_size, engine.description)
    write_shard(file, share, job, parts)


def _settings(split: SplitConfig, flip: bool, normalize: bool) -> dict[str, Any]:
    """Return what decides the features of a list beside the model and the images."""
    operations = [str(operation) for operation in split.dataset.transform_ops]
    return {"batch_size": split.sampler.batch_size, "flip": flip, "unit length": normalize, "transforms": operations}


def _parsed(settings: str) -> dict[str, Any]:
    value = parse_json(settings, "the options of the shards")
    return value if isinstance(value, dict) else {}


class JoinedLists:
    """Gives the features of lists from shards, instead of computing them."""

    def __init__(self, sources: Sequence[str]) -> None:
        """Read the headers of the shards. Raises DataError unless they are complete, UsageError if there are none."""
        self._shards: list[Shard] = check_shards(find_shards(sources), KIND)

    def extract(
        self,
        engine: Engine,
        split: SplitConfig,
        reporter: Reporter,
        what: str,
        *,
        normalize: bool = True,
        flip: bool = False,
        **computing: object,
    ) -> ListFeatures:
        """Return the features of the list `what` (query or gallery), as `extract_list` would.

        Raises DataError if the shards are not of this model, list and options.
        """
        dataset, job = RecDataset(split.dataset), self._shards[0].job
        part = next((part for part in self._shards[0].parts if part.name == what), None)
        problems = []
        if job.model != engine.fingerprint:
            problems.append("model: the shards were computed with another model")
        elif any(shard.job.engine != engine.description for shard in self._shards):
            engines = sorted({shard.job.engine for shard in self._shards} | {engine.description})
            reporter.warn(f"{what}: {computed_differently(engines)}")
        if part is None or (part.order, part.total) != (sha256_of(dataset.list_path), len(dataset)):
            problems.append(f"list: the shards were not computed from {dataset.list_path}")
        if _parsed(job.settings).get(what) != _settings(split, flip, normalize):
            problems.append(f"options: the shards were computed with other options ({job.settings[:200]})")
        if problems:
            raise DataError(
                f"the shards do not belong to this evaluation of the {what} list",
                details=problems,
                hint="give the same config, model and options as for the shards, or compute them again",
            )
        features, skipped = joined(self._shards, what)
        reporter.info(f"{what}: features of {len(dataset):,} images from {counted(len(self._shards), 'shard')}")
        return ListFeatures(dataset, features, skipped)
