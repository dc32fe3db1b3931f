"""Show the views of training images to a teacher, and those of images without labels, which nobody has checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.parts.losses import TeacherLoss
from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.lists import MAX_SHOWN
from shitu_cli.data.views import Views, ops_for_another
from shitu_cli.errors import Command, DataError
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.list_features import ListFeatures, extract_list
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import Reporter, counted
from shitu_cli.training.checks import training_part


@dataclass(frozen=True)
class Viewer:
    """Shows views of images to the teacher."""

    loss: TeacherLoss
    extractor: Extractor
    config: Config
    ranks: Ranks
    reporter: Reporter

    def features(self, views: Views, what: str = "", **changes: Any) -> Iterator[ListFeatures | None]:
        """Yield the teacher's features [N, D] of each view in the first process, None in the others; all take part.

        `changes` are those of the settings of the list.
        """
        listed = views.dataset.config
        ops = ops_for_another(listed.transform_ops, self.extractor.transform_ops)
        dataset = dataclasses.replace(listed, transform_ops=ops, **changes)
        split = dataclasses.replace(training_part(self.config), dataset=dataset)
        cache = FeatureCache(Places.of(self.config).workspace.cache_dir / "features")
        name = f"the teacher {Path(self.loss.teacher).name}{what}"
        for view in range(views.count):
            yield extract_list(
                self.extractor.engine, split, self.reporter, f"{name}, view {view + 1} of {views.count}",
                cache=cache, processes=self.ranks, normalize=False, seed=views.seed_of(view),
            )  # fmt: skip

    def features_of_unlabelled(self, views: Views) -> Iterator[np.ndarray]:
        """Yield the features as `features` does, in the first process; only one view is in memory at a time.

        Nobody has checked these images: the DataError names all that cannot be read, in every process.
        """
        for view, part in enumerate(self.features(views, ", images without labels", on_error="skip")):
            if view == 0:
                place = views.dataset.images.place  # in a list of the cache, which nobody knows
                reasons = [why.removesuffix(f" ({place(n)})") for n, why in part.skipped.items()] if part else []
                count, reasons = self.ranks.gather([len(reasons), reasons[:MAX_SHOWN]])[0]
                self._report_unreadable(count, reasons, views.dataset)
            if part is not None:
                yield part.features

    def _report_unreadable(self, count: int, reasons: list[str], dataset: RecDataset) -> None:
        """Raise DataError for images without labels that cannot be read, or warn if they are left out."""
        if not count:
            return
        text = f"{counted(count, 'image')} of {len(dataset):,} without labels cannot be read"
        if dataset.config.on_error != "skip":
            raise DataError(
                text,
                details=[*reasons, *([f"and {count - len(reasons):,} more"] if count > len(reasons) else [])],
                hint=["leave them out: ", Command("train", "-o", "DataLoader.Train.dataset.on_error=skip")],
            )
        self.reporter.warn(f"{text} and are left out, such as {reasons[0]}")
