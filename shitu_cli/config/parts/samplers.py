"""Samplers: which images make the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from shitu_cli.config.kinds import Count, Natural, Range
from shitu_cli.config.parts.base import Part

_FILE = "shitu_cli.data.samplers"


@dataclass(frozen=True, kw_only=True)
class Sampler(Part):
    """The order of the images, in batches."""

    batch_size: Annotated[Count, "images per batch and process"] = 64
    shuffle: Annotated[bool, "whether to shuffle the images in each epoch"] = False
    drop_last: Annotated[bool, "whether to leave out a last, smaller batch"] = False


@dataclass(frozen=True)
class DistributedBatchSampler(Sampler, built_by=_FILE, variants={"DistributedBatchSampler": {}, "BatchSampler": {}}):
    """Every image once per epoch."""


@dataclass(frozen=True)
class ClassBalancedSampler(Sampler, built_by=_FILE):
    """As many images as the list has, those of small classes more often."""

    power: Annotated[float, Range(0, 10), "0: as in the list, 1: all classes equally often"] = 1.0


@dataclass(frozen=True)
class IdentityBatches(Sampler):
    """Batches of some classes with several images each, as losses on pairs need them."""

    renamed: ClassVar[dict[str, str]] = {"num_instances": "sample_per_id"}
    sample_per_id: Annotated[Count, "images of each class in a batch"]


@dataclass(frozen=True)
class DistributedRandomIdentitySampler(IdentityBatches, built_by=_FILE):
    """Groups of images of one class, nearly every image once per epoch."""

    ignored: ClassVar[tuple[str, ...]] = ("sample_method", "id_list", "ratio", "by_id")  # of runs of before

    max_iters: Annotated[Count | None, "batches of an epoch, large classes more often; null: one pass"] = None


@dataclass(frozen=True)
class PKSampler(IdentityBatches, built_by=_FILE):
    """Classes and their images drawn at random, with some images more often than others."""

    drop_last: Annotated[bool, "whether an epoch has no more batches than images fill"] = field(
        default=True, kw_only=True
    )
    sample_method: Annotated[
        Literal["sample_avg_prob", "id_avg_prob"], "whether classes are drawn by their number of images, or all equally"
    ] = "sample_avg_prob"
    id_list: Annotated[tuple[Natural, ...] | None, "first and last class of each range that ratio applies to"] = None
    ratio: Annotated[tuple[float, ...] | None, Range(0, 1e6), "factors on the probabilities of those classes"] = None
    by_id: Annotated[bool, "whether to group the images by the list's third column instead of the label"] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        ids, ratios = self.id_list or (), self.ratio or ()
        if ratios and len(ids) != 2 * len(ratios):
            yield "id_list", f"got {len(ids)} numbers, expected two for each of the {len(ratios)} of ratio"
        elif any(low > high for low, high in zip(ids[::2], ids[1::2], strict=False)):
            yield "id_list", f"got {list(ids)}, expected the smaller class of each range first"
