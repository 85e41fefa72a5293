"""The exporter's figures of gateways, queue, sweepers and cache, from what they have left in Redis."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily

from gateway.traffic import SECONDS, SILENT_AFTER_S, TRAFFIC_KEY, read_gateways
from ops import keeping
from ops.families import PREFIX, counter, cumulative, gauge, labelled_counter, labelled_gauge
from ops.maintenance import GAUGES_KEY
from worker import streams
from worker.app import MAINTENANCE_QUEUE, TRANSCRIBE_QUEUE
from worker.measures import SUM, read_figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis
    from prometheus_client.core import Metric

    from worker.jobs.estimate import Expiry


def gateway_metrics(client: redis.Redis, now: float) -> Iterator[Metric]:
    """Counts of all gateways together, and what those have open that were heard of lately."""
    counts = read_figures(client, TRAFFIC_KEY)
    told = [count for count, at in read_gateways(client).values() if now - at <= SILENT_AFTER_S]
    yield gauge("gateways", "Gateways that were heard of lately.", len(told))
    yield gauge("gateway_requests_open", "Requests that they are at, seconds ago.", sum(told))
    yield counter(
        "gateway_body_bytes", "Bytes of requests' bodies, uploads above all.", counts.get("body_bytes", 0)
    )
    requests = labelled_counter(
        "gateway_requests", "Requests that ended, by class of status.", ["method", "route", "status"]
    )
    refused = labelled_counter("gateway_refused", "Requests that were refused or failed, by code.", ["code"])
    series: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for name, value in sorted(counts.items()):
        kind, *labels = name.split("|")
        if kind == "requests":
            requests.add_metric(labels, value)
        elif kind == "refused":
            refused.add_metric(labels, value)
        elif kind == "seconds":
            method, route, bound = labels
            series[method, route][bound] = value
    yield requests
    yield refused
    yield durations(series)


def durations(series: Mapping[tuple[str, str], Mapping[str, float]]) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(
        PREFIX + "_gateway_request_seconds",
        "From a request's headers to its answer's end: an upload's whole time, a poll's waiting included.",
        labels=["method", "route"],
    )
    for labels, counts in series.items():
        metric.add_metric(labels, cumulative(SECONDS, counts), sum_value=counts.get(SUM, 0.0))
    return metric


def queue_metrics(client: redis.Redis) -> Iterator[Metric]:
    entries = labelled_gauge("queue_entries", "Entries of the streams.", ["queue", "state"])
    losses = labelled_counter(
        "leases_lost",
        "Leases that were not renewed in time, by what came of the entry.",
        ["queue", "outcome"],
    )
    for queue in (TRANSCRIBE_QUEUE, MAINTENANCE_QUEUE):
        stats = streams.stats(client, queue)
        for state in ("waiting", "in_flight", "dead"):
            entries.add_metric([queue, state], getattr(stats, state))
        for outcome, count in streams.lease_losses(client, queue).items():
            losses.add_metric([queue, outcome], count)
    yield entries
    yield losses


def sweep_metrics(client: redis.Redis) -> Iterator[Metric]:
    """What the last sweep saw; nothing of it, where no sweeper runs."""
    swept = read_figures(client, GAUGES_KEY)
    if swept:
        yield gauge("dead_letters", "Jobs whose every attempt died.", swept["dead"])
        yield gauge("cache_free_bytes", "Free on the cache's disk.", swept["cache_free_bytes"])
        yield gauge("last_sweep_timestamp_seconds", "When a sweeper last swept.", swept["at"])
    if "cache_disk_bytes" in swept:  # a sweeper of before does not tell
        yield gauge("cache_disk_bytes", "Size of the cache's disk.", swept["cache_disk_bytes"])


def keeping_metrics(client: redis.Redis, expiry: Expiry, now: float) -> Iterator[Metric]:
    counts = read_figures(client, keeping.COUNTS_KEY)
    events = labelled_counter("sweeper_events", "What sweepers have done, by kind.", ["event"])
    for event in keeping.EVENTS:
        events.add_metric([event], counts.get(event, 0))
    yield events
    yield counter("jobs_expired", "Jobs removed with their files when their time was over.", expiry.expired)
    yield gauge("expiry_lag_seconds", "How long the oldest job is past its expiry.", expiry.lag_s(now))
    if keeping.LAST_REPAIR in counts:
        yield gauge(
            "last_repair_timestamp_seconds", "When a sweeper last repaired.", counts[keeping.LAST_REPAIR]
        )
        yield gauge("cache_stuck_folders", "Folders that could not be removed.", counts[keeping.STUCK])
    contents = read_figures(client, keeping.CONTENTS_KEY)
    if contents:
        yield gauge("cache_files", "Files in the cache, at the last look.", contents["files"])
        yield gauge("cache_bytes", "Bytes in them.", contents["size_bytes"])
        yield gauge("cache_look_timestamp_seconds", "When that was.", contents["at"])
