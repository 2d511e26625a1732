"""`GET /metrics`, for Prometheus: runs as they were recorded, and how the process and its assets stand."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from endpoints import freshness
from endpoints.usage import Alike
from serving.problems import HttpProblem

if TYPE_CHECKING:
    from serving.service import Service

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STATES = ("fresh", "stale", "missing", "breached", "failed")


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "endpoints_requests",
            "Authenticated runs.",
            ("endpoint", "version", "status", "source", "reason"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "endpoints_request_seconds",
            "Time until the last byte was handed over.",
            ("endpoint", "source"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("endpoints_rows", "Rows sent.", ("endpoint",), registry=self.registry)
        self._bytes = Counter("endpoints_bytes", "Bytes sent.", ("endpoint",), registry=self.registry)
        self._cached = Counter(
            "endpoints_cached", "Runs answered from a cache.", ("endpoint",), registry=self.registry
        )

    def observe(self, runs: Iterable[Alike]) -> None:
        """Count runs, those of one kind together: finding a counter costs more than counting."""
        for run, at, durations, rows, sizes in runs:
            count, version, source = len(at), str(run.version or ""), run.source or ""
            self._requests.labels(run.endpoint, version, str(run.status), source, run.reason or "").inc(count)
            self._rows.labels(run.endpoint).inc(sum(rows))
            self._bytes.labels(run.endpoint).inc(sum(sizes))
            self._cached.labels(run.endpoint).inc(run.cached * count)
            _observe(self._seconds.labels(run.endpoint, source), durations)


def _observe(histogram: Histogram, values: Sequence[float]) -> None:
    """What `histogram.observe` does for each, which takes a lock and a look at every bucket for every value.

    The library has no call for many; its buckets, each of which counts its own values, have.
    """
    where = Counts(bisect_left(SECONDS, value) for value in values)
    histogram._sum.inc(sum(values))
    for bucket, count in where.items():
        histogram._buckets[bucket].inc(count)


class Parts(Collector):
    """What the parts of the process count, and how they stand."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        counters = {
            "endpoints_unauthenticated_requests": ("Requests without a valid key.", service.refused),
            "endpoints_usage_dropped": ("Runs that could not be kept.", service.journal.dropped),
            "endpoints_single_flight_saved": ("Live runs that another one answered.", service.live.joined),
        }
        gauges = {
            "endpoints_result_cache_bytes": ("Answers kept.", service.results.held_bytes),
            "endpoints_asset_memory_bytes": ("Decoded rows of assets.", service.assets.held_bytes),
            "endpoints_breakers_open": ("Circuit breakers that are not closed.", service.live.breakers.open),
            "endpoints_live_running": ("Live queries that run or wait.", service.live.unfinished),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(name, text, value=value)
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=value)


class Standings(Collector):
    """How versions stand when they are asked for: the same in every process."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        labels = ("endpoint", "version")
        age = GaugeMetricFamily("endpoints_asset_age_seconds", "Age of the oldest open data.", labels=labels)
        ratio = GaugeMetricFamily(
            "endpoints_freshness_ratio", "Age as a share of the promise: stale above 1.", labels=labels
        )
        state = GaugeMetricFamily(
            "endpoints_asset_state", "1 for the state that a version is in.", labels=(*labels, "state")
        )
        now = datetime.now(UTC)
        for version in self._service.loaded.definitions.versions:
            if version.materialize is None:
                continue
            found = freshness.standing(version, self._service.assets.manifest(version), now)
            names = (version.endpoint, str(version.number))
            for word in _STATES:
                state.add_metric((*names, word), float(found.state.word == word))
            if found.last_refresh is not None:
                seconds = (now - found.last_refresh).total_seconds()
                age.add_metric(names, seconds)
                ratio.add_metric(names, seconds / version.freshness.total_seconds())
        yield from (age, ratio, state)


async def metrics(request: Request) -> Response:
    """`GET /metrics`: all endpoints, so for keys that may read all."""
    service: Service = request.app.state.service
    principal = await service.admit(request.scope)
    principal.require("read")
    if "*" not in principal.record.endpoints:
        raise HttpProblem("missing_scope", "Metrics are of every endpoint; this key sees some.")
    body = await asyncio.to_thread(_exposition, service)
    return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


def _exposition(service: Service) -> bytes:
    service.journal.drain()  # what was answered a moment ago counts
    registry = CollectorRegistry()
    registry.register(service.siblings)
    registry.register(Standings(service))
    return generate_latest(registry)
