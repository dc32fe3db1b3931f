"""Which pictures make the batches of an epoch: seeded by epoch, the same on every machine and number of workers.

A sampler has no state: its batches follow from (seed, epoch), so that resuming needs nothing but those numbers.
Many processes share one sequence of global batches; each takes its slice, so that N processes with batch B see what
one process with batch N x B sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shitu_cli.config.parts import samplers as parts
from shitu_cli.errors import Command, ConfigError, DataError


class Feed(NamedTuple):
    """What a sampler draws from, and for whom: labels int64 [N], ids int64 [N] or None."""

    labels: np.ndarray
    ids: np.ndarray | None = None
    seed: int = 0
    rank: int = 0
    world: int = 1


class Sampler:
    """Yields lists of indices; `batch_size` counts per process."""

    def __init__(self, part: parts.Sampler, feed: Feed) -> None:
        self.count, self.batch_size, self.drop_last = len(feed.labels), part.batch_size, part.drop_last
        self.shuffle, self.seed, self.rank, self.world = part.shuffle, feed.seed, feed.rank, feed.world
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

    def __init__(self, part: parts.ClassBalancedSampler, feed: Feed) -> None:
        super().__init__(part, feed)
        _, inverse, counts = np.unique(feed.labels, return_inverse=True, return_counts=True)
        weights = counts[inverse] ** -part.power
        self.chances = weights / weights.sum()

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.count, self.count, p=self.chances)


class PKSampler(Sampler):
    """Batches of P classes with K pictures each (Hermans et al. 2017, arXiv:1703.07737).

    A class with fewer than K pictures repeats some. `sample_method` "id_avg_prob" draws classes evenly,
    "sample_avg_prob" by their number of pictures; `ratio` multiplies the chances of the classes id_list[0] to
    id_list[1] by ratio[0], and so on. An epoch has as many batches as the pictures fill.
    """

    def __init__(self, part: parts.PKSampler, feed: Feed) -> None:
        super().__init__(part, feed)
        self.per_class, world = part.sample_per_id, feed.world
        labels = feed.ids if part.by_id else feed.labels
        if labels is None:
            raise DataError("sampler.by_id: the training list has no third column with ids")
        if part.batch_size % self.per_class:
            below = part.batch_size // self.per_class * self.per_class
            raise ConfigError(
                f"sampler: batch_size {part.batch_size} is not a multiple of sample_per_id {self.per_class}",
                hint=Command("train", "--batch-size", below or self.per_class),
            )
        self.classes, self.class_counts = np.unique(labels, return_counts=True)
        self.by_class = np.argsort(labels, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(self.class_counts)])
        self.chances = _chances(self.classes, self.class_counts, part)
        needed = part.batch_size // self.per_class * world
        possible = len(self.classes) if self.chances is None else int(np.count_nonzero(self.chances))
        if possible == 0:
            raise ConfigError("sampler.ratio: leaves no class of the list a chance: 0 excludes the classes of id_list")
        if possible < needed:
            fits = possible // world * self.per_class
            more = -(-part.batch_size * world // possible)
            ways: list[str | Command] = [Command("train", "--batch-size", fits), " or "] if fits else []
            ways.append(Command("train", "-o", f"DataLoader.Train.sampler.sample_per_id={more}"))
            raise DataError(
                f"a batch of {part.batch_size} with {self.per_class} pictures per class needs {needed} classes"
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


def _chances(classes: np.ndarray, counts: np.ndarray, part: parts.PKSampler) -> np.ndarray | None:
    """The chance of each class; None where all are alike."""
    ids, ratio = part.id_list or (), part.ratio or ()
    if part.sample_method == "id_avg_prob" and not ratio:
        return None
    chances = counts.astype(np.float64) if part.sample_method == "sample_avg_prob" else np.ones(len(classes))
    for n, factor in enumerate(ratio):
        chances[(classes >= ids[2 * n]) & (classes <= ids[2 * n + 1])] *= factor
    return chances / chances.sum() if chances.any() else chances


def build_sampler(part: parts.Sampler, feed: Feed) -> Sampler:
    """The sampler of a config; ConfigError or DataError when the data cannot feed it, with numbers that would."""
    sampler: Sampler = part.build(feed)
    return sampler
