"""The small parts that the exporter's figures are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from worker.measures import INF

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "transcription"


def gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", meaning, value=value)


def labelled_gauge(name: str, meaning: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)


def counter(name: str, meaning: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", meaning, value=value)


def labelled_counter(name: str, meaning: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)


def cumulative(bounds: Sequence[float], counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Prometheus' buckets, each with all that is below its bound."""
    total = 0.0
    buckets = []
    for bound in [*(f"{bound:g}" for bound in bounds), INF]:
        total += counts.get(bound, 0.0)
        buckets.append((bound, total))
    return buckets
