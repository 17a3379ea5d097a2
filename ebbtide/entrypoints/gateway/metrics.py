"""Prometheus metrics of one replica, by release."""

from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class OfRelease:
    """One release's series, looked up once."""

    requests: Any
    seconds: Any
    cache: Any
    """By outcome: `hit`, `ahead`, `miss`, `off`."""


class Metrics:
    """A registry of its own, so that several replicas fit in one process."""

    def __init__(self, system: str, replica: str) -> None:
        self._registry = CollectorRegistry()
        self._common = {"system": system, "replica": replica}
        self._releases: dict[str, OfRelease] = {}
        self._requests = self._counter("requests", "Requests for predictions.", "release")
        self._errors = self._counter(
            "errors",
            "Requests answered by an error, by whose fault it was.",
            "release",
            "kind",
        )
        self._cache = self._counter("cache_requests", "Requests by cache.", "release", "outcome")
        self._seconds = Histogram(
            "ebbtide_request_seconds",
            "From a request's last byte to its answer.",
            (*self._common, "release"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._cache_failures = self._counter("cache_failures", "Times that the cache was away.")
        self._rows = self._counter("log_rows", "Rows for the predictions log.", "outcome")
        self._epoch = self._gauge("epoch", "The epoch that is served; 0: none.")
        self._warm = self._gauge("warm_releases", "Releases held in memory.")
        self._refusals = self._gauge("refused_releases", "Releases that could not be loaded.")

    def of(self, release: str) -> OfRelease:
        found = self._releases.get(release)
        if found is None:
            found = OfRelease(
                self._requests.labels(**self._common, release=release),
                self._seconds.labels(**self._common, release=release),
                {
                    outcome: self._cache.labels(**self._common, release=release, outcome=outcome)
                    for outcome in ("hit", "ahead", "miss", "off")
                },
            )
            self._releases[release] = found
        return found

    def error(self, release: str, kind: str) -> None:
        """`kind`: request, prediction, answer, timeout, overload or unavailable."""
        self._errors.labels(**self._common, release=release, kind=kind).inc()

    def cache_failed(self) -> None:
        self._cache_failures.labels(**self._common).inc()

    def log_rows(self, outcome: str, n: int) -> None:
        """`outcome`: written, dropped (the queue was full) or failed (to be tried again)."""
        self._rows.labels(**self._common, outcome=outcome).inc(n)

    def serving(self, epoch: int, warm: int, refused: int) -> None:
        self._epoch.labels(**self._common).set(epoch)
        self._warm.labels(**self._common).set(warm)
        self._refusals.labels(**self._common).set(refused)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _counter(self, name: str, says: str, *labels: str) -> Any:
        return Counter(f"ebbtide_{name}", says, (*self._common, *labels), registry=self._registry)

    def _gauge(self, name: str, says: str) -> Any:
        return Gauge(f"ebbtide_{name}", says, tuple(self._common), registry=self._registry)
