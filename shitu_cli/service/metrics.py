"""What the server counts, in the format that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server; nothing in them grows with what clients send."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "shitu_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "shitu_request_seconds",
            "Time from the first byte of a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._images = Counter("shitu_images", "Images that went through the network.", registry=registry)
        self._batches = Histogram(
            "shitu_batch_images", "Images that went through the network together.", buckets=SIZES, registry=registry
        )
        self._network = Counter("shitu_network_seconds", "Time that the network took.", registry=registry)
        self._searches = Counter("shitu_searches", "Features that were searched for.", registry=registry)
        self._searching = Counter("shitu_search_seconds", "Time that searches took.", registry=registry)
        self._changes = Counter("shitu_index_changes", "Items added and removed.", ("kind",), registry=registry)
        self._refusals = Counter("shitu_refusals", "Requests refused for a limit.", ("limit",), registry=registry)
        self._answers = Counter("shitu_answers", "Answers by verdict.", ("verdict",), registry=registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a number that is looked up whenever Prometheus asks."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def computed(self, images: int, seconds: float) -> None:
        self._images.inc(images)
        self._batches.observe(images)
        self._network.inc(seconds)

    def searched(self, features: int, seconds: float) -> None:
        self._searches.inc(features)
        self._searching.inc(seconds)

    def judged(self, recognised: int, unknown: int) -> None:
        self._answers.labels("known").inc(recognised)
        self._answers.labels("unknown").inc(unknown)

    def changed(self, kind: str, items: int) -> None:
        self._changes.labels(kind).inc(items)

    def refused(self, limit: str) -> None:
        self._refusals.labels(limit).inc()

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
