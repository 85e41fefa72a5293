"""``python -m ops metrics``: the service's figures for Prometheus, read from Redis at each scrape.

One exporter for the whole service: whoever restarts, the counts go on.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from ops.families import PREFIX, cumulative, gauge, labelled_counter, labelled_gauge
from ops.service_metrics import gateway_metrics, keeping_metrics, queue_metrics, sweep_metrics
from worker.gpu.report import read_reports
from worker.gpu.verdict import Colour, judge_all
from worker.logs import configure_logging, get_logger
from worker.measures import BOUNDS, SUM, Sample, read_samples
from worker.patience import AWAY
from worker.resources import create_client, create_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis
    from prometheus_client.core import Metric

    from worker.gpu.report import DeviceReport
    from worker.gpu.verdict import Fleet
    from worker.jobs import JobStore
    from worker.settings import Settings

log = get_logger(__name__)

LEVELS = {Colour.GREEN: 0, Colour.AMBER: 1, Colour.RED: 2}
DEVICE_GAUGES: dict[str, tuple[str, Callable[[DeviceReport], float | None]]] = {
    "gpu_memory_total_bytes": ("The device's memory.", lambda device: device.total_bytes),
    "gpu_memory_used_bytes": ("Of it, in use by anyone.", lambda device: device.used_bytes),
    "gpu_memory_ours_bytes": ("Of it, in use by the worker's process.", lambda device: device.ours_bytes),
    "gpu_utilisation_ratio": ("Use, from 0 to 1.", lambda device: _ratio(device.utilisation_percent)),
    "gpu_temperature_celsius": ("Temperature.", lambda device: device.temperature_c),
    "gpu_power_watts": ("Power drawn.", lambda device: device.power_w),
    "gpu_uncorrected_ecc_errors": (
        "Uncorrectable memory errors since the driver was loaded.",
        lambda device: device.uncorrected_ecc,
    ),
}
HISTOGRAMS = {
    "wait": ("job_wait_seconds", "From a completed job's acceptance to the start of its last attempt."),
    "run": ("job_run_seconds", "From there to its end."),
    "speed": ("job_speed_ratio", "Seconds of the recording for each second of its run."),
}


class Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, client: redis.Redis, store: JobStore) -> None:
        self._client = client
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Nothing but ``up`` = 0 where Redis does not answer: a figure of before would be a lie."""
        try:
            metrics = self._metrics()
        except AWAY as exc:
            log.warning("metrics_unavailable", error=type(exc).__name__)
            metrics = []
        yield gauge("up", "Whether Redis answers.", int(bool(metrics)))
        yield from metrics

    def _metrics(self) -> list[Metric]:
        now = time.time()
        fleet = judge_all(read_reports(self._client, now), now)
        return [
            *self._queue(now),
            *fleet_metrics(fleet),
            *device_metrics(fleet),
            *job_metrics(read_samples(self._client)),
            *queue_metrics(self._client),
            *sweep_metrics(self._client),
            *keeping_metrics(self._client, self._store.expiry(), now),
            *gateway_metrics(self._client, now),
        ]

    def _queue(self, now: float) -> Iterator[Metric]:
        counts = self._store.counts()
        waiting = labelled_gauge("jobs_waiting", "Jobs that wait, by priority.", ["priority"])
        for priority, count in counts.waiting_by_priority.items():
            waiting.add_metric([priority], count)
        yield waiting
        yield gauge("jobs_running", "Jobs that run.", counts.running)
        oldest_s = max(0.0, now - counts.oldest_waiting) if counts.oldest_waiting else 0.0
        yield gauge("jobs_oldest_waiting_seconds", "Age of the job that has waited longest.", oldest_s)


def fleet_metrics(fleet: Fleet) -> Iterator[Metric]:
    yield gauge("verdict", "All workers: 0 green, 1 amber, 2 red.", LEVELS[fleet.verdict.colour])
    verdicts = labelled_gauge("worker_verdict", "0 green, 1 amber, 2 red.", ["worker"])
    admitted = labelled_gauge("worker_admitted", "Whether it would take a job, were it idle.", ["worker"])
    busy = labelled_gauge("worker_busy", "Whether it works on a job.", ["worker"])
    loaded = labelled_gauge("worker_model_loaded", "Whether its model is in memory.", ["worker"])
    failed = labelled_counter("worker_attempts_failed", "Attempts that failed, since it started.", ["worker"])
    for one in fleet.workers:
        labels = [one.report.worker]
        failed.add_metric(labels, one.report.attempts_failed)
        verdicts.add_metric(labels, LEVELS[one.verdict.colour])
        admitted.add_metric(labels, one.report.admitted)
        busy.add_metric(labels, one.report.job is not None)
        loaded.add_metric(labels, one.report.model_loaded)
    yield from (verdicts, admitted, busy, loaded, failed)


def device_metrics(fleet: Fleet) -> Iterator[Metric]:
    labels = ["worker", "uuid", "device"]
    throttled = labelled_gauge("gpu_throttled", "Why its clocks are lowered.", [*labels, "reason"])
    devices = [(one.report.worker, one.report.device) for one in fleet.workers if one.report.device]
    for name, (meaning, read) in DEVICE_GAUGES.items():
        metric = labelled_gauge(name, meaning, labels)
        for worker, device in devices:
            value = read(device)
            if value is not None:
                metric.add_metric([worker, device.uuid, device.name], value)
        yield metric
    for worker, device in devices:
        for reason in device.throttle_reasons:
            throttled.add_metric([worker, device.uuid, device.name, reason], 1)
    yield throttled


def job_metrics(samples: Sequence[Sample]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        f"{PREFIX}_jobs_ended", "Jobs that ended, by outcome.", labels=["engine", "device", "outcome"]
    )
    for one in samples:
        if one.measure == "ended":
            ended.add_metric([one.engine, one.device, one.bound], one.value)
    yield ended
    for measure, (name, meaning) in HISTOGRAMS.items():
        yield histogram(measure, name, meaning, samples)


def histogram(measure: str, name: str, meaning: str, samples: Sequence[Sample]) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(f"{PREFIX}_{name}", meaning, labels=["engine", "device"])
    series: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for one in samples:
        if one.measure == measure:
            series[one.engine, one.device][one.bound] = one.value
    for labels, counts in series.items():
        metric.add_metric(labels, cumulative(BOUNDS[measure], counts), sum_value=counts.get(SUM, 0.0))
    return metric


def run_exporter(settings: Settings) -> int:
    """Serve until the process is ended."""
    configure_logging(settings, "metrics")
    client = create_client(settings, timeout_s=2.0)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(client, create_store(settings, client)))
    server, _thread = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    log.info("metrics_listening", host=settings.metrics_host, port=server.server_port)
    threading.Event().wait()
    return 0


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100
