"""Which pictures make the batches of an epoch: seeded by epoch, the same on every machine and number of workers.

A sampler has no state: its batches follow from (seed, epoch), so that resuming needs nothing but those numbers.
Many processes share one sequence of global batches; each takes its slice, so that N processes with batch B see what
one process with batch N x B sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shitu_cli.config.schema import SamplerConfig
from shitu_cli.errors import Command, ConfigError, DataError


class Sampler:
    """Yields lists of indices; `batch_size` counts per process."""

    def __init__(self, count: int, config: SamplerConfig, seed: int, rank: int, world: int) -> None:
        self.count, self.batch_size, self.drop_last = count, config.batch_size, config.drop_last
        self.shuffle, self.seed, self.rank, self.world = config.shuffle, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (counted from 0) that iterating yields."""
        self.epoch = epoch

    @property
    def samples(self) -> int:
        """Pictures of an epoch over all processes."""
        return self.count

    def __len__(self) -> int:
        """Batches of an epoch; the same for every process."""
        per_step = self.batch_size * self.world
        full, rest = divmod(self.samples, per_step)
        # A last batch that leaves some process without a picture would leave the others waiting.
        return full + int(not self.drop_last and rest >= self.world)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """All indices of an epoch in their order."""
        return rng.permutation(self.count) if self.shuffle else np.arange(self.count)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(np.random.default_rng((self.seed, self.epoch, 0x5A)))
        per_step = self.batch_size * self.world
        for step in range(len(self)):
            chosen = order[step * per_step : (step + 1) * per_step]
            bounds = np.linspace(0, len(chosen), self.world + 1).astype(int)
            yield chosen[bounds[self.rank] : bounds[self.rank + 1]].tolist()


class DistributedBatchSampler(Sampler):
    """Every picture once per epoch, in the list's order or shuffled."""


class ClassBalancedSampler(Sampler):
    """As many pictures as the list has, drawn with chance count(class)^-power: power 1 makes classes equally likely."""

    def __init__(
        self,
        labels: np.ndarray,
        config: SamplerConfig,
        seed: int,
        rank: int,
        world: int,
        power: float = 1.0,
    ) -> None:
        super().__init__(len(labels), config, seed, rank, world)
        _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        weights = counts[inverse] ** -float(power)
        self.chances = weights / weights.sum()

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.count, self.count, p=self.chances)


class PKSampler(Sampler):
    """Batches of P classes with K pictures each (Hermans et al. 2017, arXiv:1703.07737).

    A class with fewer than K pictures repeats some. `sample_method` "id_avg_prob" draws classes evenly,
    "sample_avg_prob" by their number of pictures; `ratio` multiplies the chances of the classes id_list[0] to
    id_list[1] by ratio[0], and so on. An epoch has as many batches as the pictures fill.
    """

    def __init__(
        self,
        labels: np.ndarray,
        config: SamplerConfig,
        seed: int,
        rank: int,
        world: int,
        sample_per_id: int,
        sample_method: str = "sample_avg_prob",
        id_list: Sequence[int] | None = None,
        ratio: Sequence[float] | None = None,
    ) -> None:
        super().__init__(len(labels), config, seed, rank, world)
        self.per_class = int(sample_per_id)
        if config.batch_size % self.per_class:
            below = config.batch_size // self.per_class * self.per_class
            raise ConfigError(
                f"sampler: batch_size {config.batch_size} is not a multiple of sample_per_id {self.per_class}",
                hint=Command("train", "--batch-size", below or self.per_class),
            )
        if sample_method not in ("sample_avg_prob", "id_avg_prob"):
            raise ConfigError(f"sampler.sample_method: got {sample_method!r}, expected sample_avg_prob or id_avg_prob")
        self.classes, self.class_counts = np.unique(labels, return_counts=True)
        self.by_class = np.argsort(labels, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(self.class_counts)])
        self.chances = _chances(self.classes, self.class_counts, sample_method, id_list or (), ratio or ())
        needed = config.batch_size // self.per_class * world
        possible = len(self.classes) if self.chances is None else int(np.count_nonzero(self.chances))
        if possible == 0:
            raise ConfigError("sampler.ratio: leaves no class of the list a chance: 0 excludes the classes of id_list")
        if possible < needed:
            fits = possible // world * self.per_class
            more = -(-config.batch_size * world // possible)
            ways: list[str | Command] = [Command("train", "--batch-size", fits), " or "] if fits else []
            ways.append(Command("train", "-o", f"DataLoader.Train.sampler.sample_per_id={more}"))
            raise DataError(
                f"a batch of {config.batch_size} with {self.per_class} pictures per class needs {needed} classes"
                + (f" on {world} processes" if world > 1 else "")
                + f", the list has {possible}"
                + (" to which sampler.ratio leaves a chance" if possible < len(self.classes) else ""),
                hint=ways,
            )

    def __len__(self) -> int:
        return max(1, self.count // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch, 0x9E))
        wanted = self.batch_size // self.per_class * self.world
        queue: list[int] = []
        for _ in range(len(self)):
            if self.chances is None:
                # Every class comes once before any comes again.
                while len(queue) < wanted:
                    taken = set(queue)
                    fresh = rng.permutation(len(self.classes))
                    queue += [int(c) for c in fresh if c not in taken] if len(self.classes) > wanted else list(fresh)
                chosen, queue = queue[:wanted], queue[wanted:]
            else:
                chosen = rng.choice(len(self.classes), wanted, replace=False, p=self.chances).tolist()
            batch = [self._draw(rng, number) for number in chosen]
            size = wanted // self.world
            own = batch[self.rank * size : (self.rank + 1) * size]
            yield [index for group in own for index in group]

    def _draw(self, rng: np.random.Generator, number: int) -> list[int]:
        """K pictures of a class, none twice when it has K."""
        pool = self.by_class[self.starts[number] : self.starts[number + 1]]
        rounds = -(-self.per_class // len(pool))
        drawn = np.concatenate([rng.permutation(pool) for _ in range(rounds)])
        return drawn[: self.per_class].tolist()


def _chances(
    classes: np.ndarray, counts: np.ndarray, method: str, id_list: Sequence[int], ratio: Sequence[float]
) -> np.ndarray | None:
    """The chance of each class; None where all are alike."""
    if len(id_list) != 2 * len(ratio) and ratio:
        raise ConfigError(
            f"sampler.id_list has {len(id_list)} numbers, ratio {len(ratio)}: it needs two for each ratio"
        )
    if method == "id_avg_prob" and not ratio:
        return None
    chances = counts.astype(np.float64) if method == "sample_avg_prob" else np.ones(len(classes))
    for n, factor in enumerate(ratio):
        chances[(classes >= id_list[2 * n]) & (classes <= id_list[2 * n + 1])] *= factor
    return chances / chances.sum() if chances.any() else chances


def build_sampler(
    config: SamplerConfig,
    labels: np.ndarray,
    *,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    ids: np.ndarray | None = None,
) -> Sampler:
    """The sampler of a config for pictures with these labels (int64 [N]); `ids` serve PKSampler's `by_id`.

    Raises ConfigError or DataError when the data cannot feed it, with numbers that would.
    """
    args: Mapping[str, Any] = dict(config.args)
    if config.name in ("DistributedBatchSampler", "BatchSampler"):
        return DistributedBatchSampler(len(labels), config, seed, rank, world)
    if config.name == "ClassBalancedSampler":
        return ClassBalancedSampler(labels, config, seed, rank, world, **args)
    if config.name in ("PKSampler", "DistributedRandomIdentitySampler"):
        groups = labels
        if args.get("by_id"):
            if ids is None:
                raise DataError("sampler.by_id: the training list has no third column with ids")
            groups = ids
        used = {
            key: value for key, value in args.items() if key in ("sample_per_id", "sample_method", "id_list", "ratio")
        }
        return PKSampler(groups, config, seed, rank, world, **used)
    raise ConfigError(f"sampler.name: {config.name} is not known")
