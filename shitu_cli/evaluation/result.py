"""The result of an evaluation: its metrics, and what a report shows of classes and of single queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shitu_cli.evaluation.metrics import FeatureSet, Ranking, bootstrap_interval, nearest
from shitu_cli.evaluation.similarity import Block
from shitu_cli.features.list_features import ListFeatures


@dataclass(frozen=True)
class EvalResult:
    """The metrics are means over the answerable queries; `ranking` has the figures of each query.

    `sets` are the features of query and gallery as they were ranked; `plain` says whether similarities are the cosines
    that search gives; `block` is what ordered the gallery where plain similarities did not.
    """

    metrics: dict[str, float]
    queries: int
    gallery: int
    unanswerable: int
    skipped: list[str]
    ranking: Ranking = field(repr=False)
    query: ListFeatures = field(repr=False)
    gallery_features: ListFeatures = field(repr=False)
    names: dict[int, str] = field(repr=False)
    sets: tuple[FeatureSet, FeatureSet] = field(repr=False)
    plain: bool
    block: Block | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return all figures as plain values, in a fixed order."""
        answerable = self.ranking.answerable
        per_class = self.per_class()
        intervals = {}
        for name, values in (("recall@1", self.ranking.hits[:, 0]), ("mAP", self.ranking.ap)):
            low, high = bootstrap_interval(values[answerable].astype(np.float64))
            intervals[name] = [round(low, 6), round(high, 6)]
        return {
            "metrics": self.metrics,
            "queries": self.queries,
            "right_first": self.right_first,
            "gallery": self.gallery,
            "unanswerable": self.unanswerable,
            "skipped": self.skipped,
            "decided_by_rounding": self.ranking.undecided,
            "intervals_95": intervals,
            "macro": {name: float(np.mean([row[name] for row in per_class])) for name in ("recall@1", "mAP")},
            "per_class": per_class,
            "confusions": self.confusions(),
        }

    @property
    def lists(self) -> list[ListFeatures]:
        """Query and gallery; one list if they are the same images."""
        return [self.query] if self.query is self.gallery_features else [self.query, self.gallery_features]

    @property
    def answerable(self) -> int:
        """The number of queries with an image of their class in the gallery."""
        return int(self.ranking.answerable.sum())

    @property
    def right_first(self) -> int:
        """The number of answerable queries that find an image of their class first."""
        return int(self.ranking.hits[self.ranking.answerable, 0].sum())

    @property
    def collapsed(self) -> bool:
        """Whether images of different classes have nearly the same features: half of such pairs are above 0.99."""
        above = self.ranking.others[1990:].sum()
        return bool(self.ranking.others.sum() and above > self.ranking.others.sum() / 2)

    def neighbours(self, number: int, count: int) -> list[tuple[int, float]]:
        """Return the first `count` gallery images of query `number` in the ranking's order, with their products.

        Re-ranking orders by its own distances; the number shown with an image is always its plain similarity.
        """
        query, gallery = self.sets
        places = nearest(query, gallery, number, count, block=self.block)
        if self.block is None:
            return places
        return [(place, float(gallery.features[place] @ query.features[number])) for place, _ in places]

    def name(self, label: int) -> str:
        """Return the name of a class, its number without one."""
        return self.names.get(label, str(label)) if label >= 0 else "no class"

    def per_class(self) -> list[dict[str, Any]]:
        """Return queries, recall@1 and mAP of every class with answerable queries, by label."""
        answerable = self.ranking.answerable
        labels = self.query.dataset.labels[answerable]
        order = np.argsort(labels, kind="stable")
        classes, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        hits = self.ranking.hits[answerable, 0][order].astype(np.float64)
        ap = self.ranking.ap[answerable][order]
        return [
            {
                "label": int(label),
                "name": self.name(int(label)),
                "queries": int(n),
                "recall@1": float(hits[at : at + n].mean()),
                "mAP": float(ap[at : at + n].mean()),
            }
            for label, at, n in zip(classes, starts, counts, strict=True)
        ]

    def confusions(self, count: int = 20) -> list[dict[str, Any]]:
        """Return the class pairs whose queries most often find the other class first."""
        wrong = (~self.ranking.hits[:, 0]) & self.ranking.answerable & (self.ranking.top1 >= 0)
        true = self.query.dataset.labels[wrong]
        other = self.gallery_features.dataset.labels[self.ranking.top1[wrong]]
        pairs = Counter(zip(true.tolist(), other.tolist(), strict=True))
        ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:count]
        return [
            {"label": t, "name": self.name(t), "found": f, "found_name": self.name(f), "n": n} for (t, f), n in ordered
        ]
