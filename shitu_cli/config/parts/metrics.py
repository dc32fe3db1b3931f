"""Metrics of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from shitu_cli.config.kinds import Count
from shitu_cli.config.parts.base import Part

_FILE = "shitu_cli.evaluation.metrics:Ranking"  # which holds all of them
TopK = Annotated[Count | tuple[Count, ...], "how many of the nearest are looked at"]


@dataclass(frozen=True)
class Metric(Part):
    """A figure of how well queries find their class in the gallery."""

    descending: Annotated[Literal[True, None], "similarities are cosines, the largest first"] = field(
        default=True, kw_only=True
    )

    @property
    def figure(self) -> str:
        """The name of its value; of several, the first."""
        return self.name


@dataclass(frozen=True)
class Recallk(Metric, built_by=_FILE):
    """Share of queries with an image of their class among the k nearest."""

    topk: TopK = ()

    @property
    def figure(self) -> str:
        return f"recall@{_first(self.topk)}"


@dataclass(frozen=True)
class Precisionk(Metric, built_by=_FILE):
    """Share of the k nearest that are of the query's class."""

    topk: TopK = ()

    @property
    def figure(self) -> str:
        return f"precision@{_first(self.topk)}"


@dataclass(frozen=True)
class mAP(Metric, built_by=_FILE):
    """Mean over the queries of the average precision."""


@dataclass(frozen=True)
class mINP(Metric, built_by=_FILE):
    """Mean over the queries of the precision at the last image of the class."""


@dataclass(frozen=True)
class TopkAcc(Metric, built_by=_FILE):
    """Accuracy of the classifier on one list; with a query and a gallery list, read as Recallk."""

    topk: TopK = ()

    @property
    def figure(self) -> str:
        return f"recall@{_first(self.topk)}"


def _first(topk: int | tuple[int, ...]) -> int:
    return topk if isinstance(topk, int) else (*topk, 1)[0]
