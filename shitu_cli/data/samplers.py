"""Choose the images of each batch of an epoch: seeded by epoch, the same on every machine and number of workers.

A sampler has no state: its batches follow from (seed, epoch), so that resuming needs only those numbers.
Many processes share one sequence of global batches; each takes its slice, so that N processes with batch B see what
one process with batch N x B sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from shitu_cli.config.parts import samplers as parts
from shitu_cli.errors import Command, ConfigError, DataError


class Feed(NamedTuple):
    """The input of a sampler and the process that it serves: labels int64 [N], ids int64 [N] or None."""

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
        """The number of images of an epoch over all processes."""
        return self.count

    def __len__(self) -> int:
        """Return the number of batches of an epoch; the same for every process."""
        per_step = self.batch_size * self.world
        full, rest = divmod(self.samples, per_step)
        # If a process had no image in the last batch, the others would wait for it for ever.
        return full + int(not self.drop_last and rest >= self.world)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Return all indices of an epoch in order."""
        return rng.permutation(self.count) if self.shuffle else np.arange(self.count)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(np.random.default_rng((self.seed, self.epoch, 0x5A)))
        per_step = self.batch_size * self.world
        for step in range(len(self)):
            indices = order[step * per_step : (step + 1) * per_step]
            bounds = np.linspace(0, len(indices), self.world + 1).astype(int)
            yield indices[bounds[self.rank] : bounds[self.rank + 1]].tolist()


class Repeated:
    """Passes of a sampler one after the other, until an epoch has `steps` batches; each epoch begins a new pass."""

    def __init__(self, sampler: Sampler, steps: int) -> None:
        self.sampler, self.steps, self.epoch = sampler, steps, 0
        self.passes = -(-steps // len(sampler))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (counted from 0) that iterating yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.passes):
            self.sampler.set_epoch(self.epoch * self.passes + number)
            yield from islice(self.sampler, self.steps - number * len(self.sampler))


class DistributedBatchSampler(Sampler):
    """Yields every image once per epoch, in the order of the list or shuffled."""


class ClassBalancedSampler(Sampler):
    """Draws as many images as the list has, with weights count(class)^-power: power 1 makes classes equally likely."""

    def __init__(self, part: parts.ClassBalancedSampler, feed: Feed) -> None:
        super().__init__(part, feed)
        _, inverse, counts = np.unique(feed.labels, return_inverse=True, return_counts=True)
        weights = counts[inverse] ** -part.power
        self.chances = weights / weights.sum()

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.count, self.count, p=self.chances)


class IdentityBatches(Sampler):
    """Batches of P classes with K images each (Hermans et al. 2017, arXiv:1703.07737); checks that this is possible."""

    def __init__(self, part: parts.IdentityBatches, feed: Feed, labels: np.ndarray) -> None:
        super().__init__(part, feed)
        self.per_class = part.sample_per_id
        if part.batch_size % self.per_class:
            below = part.batch_size // self.per_class * self.per_class
            raise ConfigError(
                f"sampler: batch_size {part.batch_size} is not a multiple of sample_per_id {self.per_class}",
                hint=Command("train", "--batch-size", below or self.per_class),
            )
        self.classes, self.class_counts = np.unique(labels, return_counts=True)
        self.by_class = np.argsort(labels, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(self.class_counts)])
        self.per_step = part.batch_size // self.per_class * feed.world  # classes of a step over all processes

    def require_classes(self, possible: int) -> None:
        """Raise DataError with numbers that work if a step needs more than the `possible` classes."""
        if possible >= self.per_step:
            return
        fits = possible // self.world * self.per_class
        more = -(-self.batch_size * self.world // possible)
        ways: list[str | Command] = [Command("train", "--batch-size", fits), " or "] if fits else []
        ways.append(Command("train", "-o", f"DataLoader.Train.sampler.sample_per_id={more}"))
        raise DataError(
            f"a batch of {self.batch_size} with {self.per_class} images per class needs {self.per_step} classes"
            + (f" on {self.world} processes" if self.world > 1 else "")
            + f", the list has {possible}"
            + (" that sampler.ratio does not exclude" if possible < len(self.classes) else ""),
            hint=ways,
        )

    def batches_of(self, images: int) -> int:
        """Return how many batches each process makes of `images` in total; drop_last decides about a partial one."""
        own = -(-images // self.world)
        return max(1, own // self.batch_size if self.drop_last else -(-own // self.batch_size))

    def own_groups(self, groups: list[list[int]]) -> list[int]:
        """Return the images of this process of a step's groups, one group per class."""
        size = self.per_step // self.world
        return [index for group in groups[self.rank * size : (self.rank + 1) * size] for index in group]


class DistributedRandomIdentitySampler(IdentityBatches):
    """Cuts the shuffled images of each class into groups of K, and fills batches with groups of different classes.

    What is left of a class after its whole groups waits for another epoch; a class with fewer than K images repeats
    some. As soon as too few classes have a group left, another pass over all images begins.
    """

    def __init__(self, part: parts.DistributedRandomIdentitySampler, feed: Feed) -> None:
        super().__init__(part, feed, feed.labels)
        self.require_classes(len(self.classes))
        self.group_counts = np.maximum(1, self.class_counts // self.per_class)
        self.max_iters = part.max_iters

    def __len__(self) -> int:
        return self.max_iters or self.batches_of(int(self.group_counts.sum()) * self.per_class)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch, 0xD1))
        passes = iter(self._pass(rng))
        for _ in range(len(self)):
            step = next(passes, None)
            if step is None:
                passes = iter(self._pass(rng))
                step = next(passes)
            yield self.own_groups(step)

    def _pass(self, rng: np.random.Generator) -> Iterator[list[list[int]]]:
        """Yield the groups of each step until too few classes are left."""
        # Shuffled within the classes: a random key orders the images of each.
        order = self.by_class[
            np.lexsort((rng.random(self.count), np.repeat(np.arange(len(self.classes)), self.class_counts)))
        ]
        left, alive = self.group_counts.copy(), np.arange(len(self.classes))
        while len(alive) >= self.per_step:
            chances = None if self.max_iters is None else left[alive] / left[alive].sum()
            places = rng.choice(len(alive), self.per_step, replace=False, p=chances)
            chosen = alive[places]
            left[chosen] -= 1
            yield [self._group(order, number, int(left[number]), rng) for number in chosen.tolist()]
            if (left[chosen] == 0).any():
                alive = np.delete(alive, places[left[chosen] == 0])

    def _group(self, order: np.ndarray, number: int, left: int, rng: np.random.Generator) -> list[int]:
        """Return group `left` of a class, counted from 0."""
        start, count = int(self.starts[number]), int(self.class_counts[number])
        if count < self.per_class:
            return rng.choice(order[start : start + count], self.per_class).tolist()
        first = start + left * self.per_class
        return order[first : first + self.per_class].tolist()


class PKSampler(IdentityBatches):
    """Draws new classes and images for each batch.

    A class with fewer than K images repeats some. `sample_method` "id_avg_prob" draws classes evenly,
    "sample_avg_prob" by their number of images; `ratio` multiplies the probabilities of the classes id_list[0] to
    id_list[1] by ratio[0], and so on. An epoch has as many batches as the images can fill.
    """

    def __init__(self, part: parts.PKSampler, feed: Feed) -> None:
        labels = feed.ids if part.by_id else feed.labels
        if labels is None:
            raise DataError(
                "sampler.by_id: the training list has no third column with ids",
                hint="add an id to each line, or leave by_id out",
            )
        super().__init__(part, feed, labels)
        self.chances = _chances(self.classes, self.class_counts, part)
        possible = len(self.classes) if self.chances is None else int(np.count_nonzero(self.chances))
        if possible == 0:
            raise ConfigError(
                "sampler.ratio excludes every class of the list: a ratio of 0 excludes the classes in id_list"
            )
        self.require_classes(possible)

    def __len__(self) -> int:
        return self.batches_of(self.count)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch, 0x9E))
        count = self.per_step
        queue: list[int] = []
        for _ in range(len(self)):
            if self.chances is None:
                # Every class comes once before any comes again.
                while len(queue) < count:
                    queued = set(queue)
                    fresh = rng.permutation(len(self.classes))
                    queue += [int(c) for c in fresh if c not in queued] if len(self.classes) > count else list(fresh)
                classes, queue = queue[:count], queue[count:]
            else:
                classes = rng.choice(len(self.classes), count, replace=False, p=self.chances).tolist()
            yield self.own_groups([self._draw(rng, number) for number in classes])

    def _draw(self, rng: np.random.Generator, number: int) -> list[int]:
        """Return K images of a class, without repeats if it has that many."""
        pool = self.by_class[self.starts[number] : self.starts[number + 1]]
        rounds = -(-self.per_class // len(pool))
        indices = np.concatenate([rng.permutation(pool) for _ in range(rounds)])
        return indices[: self.per_class].tolist()


def _chances(classes: np.ndarray, counts: np.ndarray, part: parts.PKSampler) -> np.ndarray | None:
    """Return the probability of each class; None if all are equal."""
    ids, ratio = part.id_list or (), part.ratio or ()
    if part.sample_method == "id_avg_prob" and not ratio:
        return None
    chances = counts.astype(np.float64) if part.sample_method == "sample_avg_prob" else np.ones(len(classes))
    for n, factor in enumerate(ratio):
        chances[(classes >= ids[2 * n]) & (classes <= ids[2 * n + 1])] *= factor
    return chances / chances.sum() if chances.any() else chances


def build_sampler(part: parts.Sampler, feed: Feed) -> Sampler:
    """Return the sampler of a config; ConfigError or DataError with numbers that work if the data do not suffice."""
    sampler: Sampler = part.build(feed)
    return sampler
