"""Measure for a few seconds what a command would do for hours, and return its cost; nothing of it is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config, SplitConfig
from shitu_cli.errors import Command
from shitu_cli.reporting import Reporter, SilentReporter, counted
from shitu_cli.runtime.memory import peak_memory_bytes
from shitu_cli.steps.costs import Cost, Need, disk_need, memory_need, spread, total_size
from shitu_cli.steps.settings import with_lists

if TYPE_CHECKING:
    from shitu_cli.features.engine import Engine
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.preparation.choices import Choices
    from shitu_cli.preparation.sources import ImageFiles

SECONDS = 8.0  # of each measurement
_NAME_BYTES = 400  # of memory for the path and the label of an image, as Python holds them
_VALUE_BYTES = {".npy": 4.0, ".npz": 4.0, ".jsonl": 22.0, ".parquet": 4.1}  # of a value in a file of features
_SAVES = 6  # of a checkpoint on the disk while one is written (training/checkpoint.py)


def cost_of_train(config: Config, *, keep: int | None = None, reporter: Reporter | None = None) -> Cost:
    """Return what `train` would cost: steps of the real network on the real images, and one of its evaluations.

    Raises what `train` raises before its first step.
    """
    from shitu_cli.runtime.setup import setup_paddle

    config = with_lists(config, ("train", "query", "gallery"))
    name, _, _ = setup_paddle(config.Global.device).partition(":")
    from shitu_cli.processes.collectives import Ranks
    from shitu_cli.runtime.arithmetic import current_threads
    from shitu_cli.training.build import build_training
    from shitu_cli.training.log import RunLog
    from shitu_cli.training.online import OnlineEvaluation
    from shitu_cli.training.trainer import Trainer

    quiet = reporter or SilentReporter()
    training = build_training(config, device=name, ranks=Ranks(), threads=current_threads(), reporter=quiet)
    dataset, options = training.dataset, config.Global
    trainer = Trainer(training, RunLog(Path(os.devnull), None), quiet)
    times = trainer.rehearse(SECONDS)
    step, steps = float(np.mean(times)), training.steps_per_epoch
    weights = sum(_bytes_of(tensor) for tensor in training.model.state_dict().values())
    save = weights + sum(_bytes_of(tensor) for tensor in training.optimizer.tensors().values())
    save += weights if training.ema is not None else 0
    seconds = {"an epoch": step * steps}
    count, evaluated, features = 0, 0, 0
    if options.eval_during_train and config.DataLoader.query and config.DataLoader.gallery:
        engine = OnlineEvaluation(config, name, dataset.labels, int(dataset.class_num), SilentReporter()).engine(
            training.model
        )
        evaluation, evaluated, features = _evaluation_of(config, engine)
        count = _evaluations(options.epochs, options.eval_interval, options.start_eval_epoch)
        seconds["an evaluation"] = evaluation
    size = total_size(len(dataset), dataset.location)
    peak = peak_memory_bytes() or 0
    smaller = max(1, training.batch_size // 2)
    return Cost(
        images=len(dataset),
        bytes_to_read=size,
        seconds=seconds,
        total=seconds["an epoch"] * options.epochs + seconds.get("an evaluation", 0.0) * count,
        basis=f"{counted(len(times), 'step')} of {training.batch_size} images on {name}",
        needs=(
            memory_need(peak + features, held=peak, fit=Command("train", "--batch-size", smaller)),
            disk_need(
                training.output,
                save * (_SAVES + (keep or 1) - 1),
                what="disk for checkpoints",
                fit=[
                    "free some space, or choose another disk: ",
                    Command("train", "-o", "Global.output_dir=DIRECTORY"),
                ],
            ),
        ),
        remarks=[
            f"{counted(options.epochs, 'epoch')} of {counted(steps, 'step')}, {counted(count, 'evaluation')} of "
            f"{counted(evaluated, 'image')}; from the second epoch on, images that stay in memory make it faster"
        ],
    )


def _bytes_of(tensor: object) -> int:
    return int(tensor.size) * int(tensor.element_size())  # type: ignore[attr-defined]


def _evaluations(epochs: int, interval: int, first: int) -> int:
    """Return how often a run evaluates: as training/trainer.py decides, and once after the last epoch."""
    return sum(epoch == epochs or (epoch % max(1, interval) == 0 and epoch >= first) for epoch in range(1, epochs + 1))


def cost_of_evaluate(
    config: Config,
    *,
    model: Path | None = None,
    precision: str | None = None,
    cache: bool = True,
    reporter: Reporter | None = None,
) -> Cost:
    """Return what `evaluate` would cost: the features of both lists, and the ranking; `cache`: they are kept."""
    from shitu_cli.runtime.setup import setup_paddle

    config = with_lists(config, ("query", "gallery"))
    places = Places.of(config)
    setup_paddle(config.Global.device)
    from shitu_cli.features.selection import load_engine
    from shitu_cli.steps.models import readable

    output = reporter or SilentReporter()
    engine = load_engine(readable(model or places.best, output), config, precision=precision)
    seconds, images, features = _evaluation_of(config, engine)
    peak = peak_memory_bytes() or 0
    return Cost(
        images=images,
        bytes_to_read=sum(_size_of(split) or 0 for split in _splits(config)),
        seconds={},
        total=seconds,
        basis=f"features of a few batches, and a ranking of random ones, by {engine.summary()}",
        needs=(
            memory_need(peak + features, held=peak, fit="fewer gallery images, or a machine with more memory"),
            *([_kept_features(places, features)] if cache else []),
        ),
    )


def _kept_features(places: Places, size: int) -> Need:
    return disk_need(places.cache, size, what="disk for kept features", fit=Command("evaluate", "--no-cache"))


def _splits(config: Config) -> list[SplitConfig]:
    """Return the splits to compute: one where query and gallery are the same images."""
    from shitu_cli.evaluation.evaluate import same_images, splits_of

    query, gallery = splits_of(config)
    return [query] if same_images(query.dataset, gallery.dataset) else [query, gallery]


def _size_of(split: SplitConfig) -> int | None:
    from shitu_cli.data.dataset import RecDataset

    dataset = RecDataset(split.dataset)
    return total_size(len(dataset), dataset.location)


def _evaluation_of(config: Config, engine: Engine) -> tuple[float, int, int]:
    """Return seconds, images and bytes of features of one evaluation."""
    from shitu_cli.data.dataset import RecDataset
    from shitu_cli.evaluation.evaluate import splits_of
    from shitu_cli.features.list_features import extract_dataset

    seconds, images = 0.0, 0
    for split in _splits(config):
        dataset, batch_size = RecDataset(split.dataset), split.sampler.batch_size
        count = len(dataset)

        def run(stop: int, dataset: RecDataset = dataset, split: SplitConfig = split) -> None:
            extract_dataset(
                engine,
                dataset,
                SilentReporter(),
                "",
                batch_size=split.sampler.batch_size,
                num_workers=split.loader.num_workers,
                stop=stop,
            )

        seconds += _per_image(run, count, batch_size) * count
        images += count
    query, gallery = (len(RecDataset(split.dataset)) for split in splits_of(config))
    return seconds + _ranking_seconds(query, gallery, engine.feature_size), images, images * engine.feature_size * 4


def _per_image(run: Callable[[int], None], count: int, batch_size: int) -> float:
    """Return the seconds for an image from two runs over the first ones: what both spend to begin does not count."""
    if not count:
        return 0.0
    few = min(count, 2 * batch_size)
    run(min(count, batch_size))  # what is prepared once
    started = time.perf_counter()
    run(few)
    first = time.perf_counter() - started
    many = min(count, max(few, int(few * SECONDS / 2 / max(first, 1e-6))))
    if many < 2 * few:
        return first / max(1, few)
    started = time.perf_counter()
    run(many)
    return max(0.0, time.perf_counter() - started - first) / (many - few)


def _ranking_seconds(queries: int, gallery: int, size: int) -> float:
    """Return the seconds to rank a gallery, from a small one of random features: time grows with their product."""
    from shitu_cli.evaluation.metrics import FeatureSet, rank
    from shitu_cli.features.unit_length import normalized

    random = np.random.default_rng(0)
    counts = min(queries, 200), min(gallery, 20_000)
    sets = [
        FeatureSet(
            normalized(random.standard_normal((count, size), np.float32)),
            np.arange(count) % 50,
            None,
            np.arange(count) + start,
        )
        for count, start in zip(counts, (0, counts[0]), strict=True)
    ]
    rank(*sets)  # compiles what it needs
    started = time.perf_counter()
    rank(*sets)
    return (time.perf_counter() - started) * (queries / counts[0]) * (gallery / counts[1])


def cost_of_extract(extractor: Extractor, images: ImageFiles, out: Path) -> Cost:
    """Return what `extract` to the file `out` would cost."""
    count, values = len(images), len(images) * extractor.feature_size
    names = sum(len(images.name(n)) + len(images.labels[n]) + 2 for n in spread(count, 1000))
    file = int(values * _VALUE_BYTES.get(out.suffix, 4.0)) + names * count // max(1, min(count, 1000))
    peak = peak_memory_bytes() or 0
    return _cost_of_features(
        extractor,
        images,
        needs=(
            memory_need(peak + count * _NAME_BYTES, held=peak, fit="--shard 1/4 computes a part of them"),
            disk_need(out.parent, values * 4 + file, fit="free some space, or --out on another disk"),
        ),
        remarks=["half of the disk space is only needed until the file is complete"] if out.suffix == ".npy" else [],
    )


def _cost_of_features(extractor: Extractor, images: ImageFiles, *, needs: tuple[Need, ...], remarks: list[str]) -> Cost:
    """Return the cost of computing the features of all images, with what is needed to keep them."""
    from shitu_cli.features.extractor import inputs_of

    chosen = inputs_of(images.take(spread(len(images), 4096)))

    def run(stop: int) -> None:
        for _ in extractor.batches(chosen, stop=stop):
            pass

    return Cost(
        images=len(images),
        bytes_to_read=total_size(len(images), lambda n: images.files[n]),
        seconds={},
        total=_per_image(run, len(chosen), extractor.batch_size) * len(images),
        basis=f"{extractor.engine.summary()} on images spread over all of them",
        needs=needs,
        remarks=remarks,
    )


def cost_of_index(extractor: Extractor, images: ImageFiles, place: Path, kind: str) -> Cost:
    """Return what `index build` of these images would cost."""
    count, vectors = len(images), len(images) * extractor.feature_size * 4
    stored = {"hnsw": vectors + count * 300, "ivf": vectors + count * 8, "binary": vectors // 32}.get(kind, vectors)
    peak = peak_memory_bytes() or 0
    remarks = [] if kind in ("flat", "binary") else [f"without the time to build and tune the {kind} index"]
    return _cost_of_features(
        extractor,
        images,
        needs=(
            memory_need(
                peak + 2 * vectors + stored + count * _NAME_BYTES,
                held=peak,
                fit="--store milvus:ADDRESS keeps the vectors elsewhere; --kind binary needs a 32nd of the memory",
            ),
            disk_need(place, 2 * (stored + count * 100), fit="free some space, or --index on another disk"),
        ),
        remarks=remarks,
    )


def cost_of_prepare(sources: Sequence[Path], workspace: Path, choices: Choices, pack: Path | None = None) -> Cost:
    """Return what `prepare` of these folders and lists would cost, with shards in `pack`.

    Raises what reading them raises.
    """
    from shitu_cli.preparation.audit import LookCache, look_at_all
    from shitu_cli.preparation.problems import Problems
    from shitu_cli.preparation.reading import read_sources

    started = time.perf_counter()
    rows, _ = read_sources(list(sources), choices, Problems())
    reading = time.perf_counter() - started
    paths = [rows.location(number) for number in range(len(rows))]

    def run(stop: int) -> None:
        some = [paths[n] for n in spread(len(paths), stop)]
        look_at_all(some, SilentReporter(), cache=LookCache(None), decode=not choices.quick)

    looking = _per_image(run, len(paths), 64) * len(paths)
    lines = sum(len(path) + 8 for path in rows.paths)
    peak, size = peak_memory_bytes() or 0, total_size(len(paths), lambda n: paths[n])
    shards = [] if pack is None or size is None else [disk_need(pack, size, what="disk for shards")]
    return Cost(
        images=len(paths),
        bytes_to_read=size,
        seconds={"reading names and labels": reading, "looking at the images": looking},
        total=2 * reading + looking,
        basis="headers of images spread over all of them" if choices.quick else "images spread over all of them",
        needs=(
            memory_need(peak + len(paths) * 2 * _NAME_BYTES, held=peak, fit="fewer images, or more memory"),
            disk_need(workspace, 2 * lines + len(paths) * 60, fit="free some space, or -w on another disk"),
            *shards,
        ),
    )
