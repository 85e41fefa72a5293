"""One worker, in this process: a Celery worker with one child, on one device, until it is told to stop."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from celery.signals import setup_logging, worker_process_shutdown

from worker import streams
from worker.app import TRANSCRIBE_QUEUE, create_app
from worker.cache import require_own_cache
from worker.drain import limit_drain
from worker.engines.choice import choose
from worker.engines.needs import need_bytes
from worker.errors import EngineUnavailable
from worker.gpu.admission import Limits
from worker.gpu.renewal import Renewal
from worker.gpu.report import WorkerReport, describe, drop_report, publish_report, used_by
from worker.gpu.sight import Sight
from worker.gpu.turn import Turn
from worker.gpu.watch import View, Watch
from worker.guard import Guard
from worker.heartbeat import Heart
from worker.hindrance import HindranceWatch, first_problem
from worker.llm_watch import required_watch
from worker.logs import configure_logging
from worker.measures import count_end
from worker.patience import AWAY, patiently
from worker.problems import report_problem
from worker.processes import DEVICE_FAULT_EXIT, REFUSED_EXIT
from worker.readiness import Child, prepare_children
from worker.reporting import job_at_work
from worker.resources import create_cache, create_client, create_store
from worker.tasks import tools_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from worker.jobs import JobStore
    from worker.settings import Settings


LOOK_AT_DISK_EVERY_S = 2.0


@dataclass(frozen=True)
class Post:
    """Who a worker is and where it computes. ``gpu`` is a device's UUID, None for the CPU."""

    name: str
    gpu: str | None = None
    degraded: str = ""  # see WorkerReport


def run_worker(settings: Settings, post: Post) -> int:
    """Run until told to stop; the process's exit status, DEVICE_FAULT_EXIT where the device failed.

    One child, because the engine batches inside: jobs side by side on one device gain less than that
    (docs/adr/0003-process-model.md). Prefork, because only there a kill costs the child alone.
    """
    configure_logging(settings, post.name)
    setup_logging.connect(lambda **_: None, weak=False)  # keeps Celery's hands off the root logger
    app = create_app(settings)
    client = create_client(settings, timeout_s=2.0)
    patiently(lambda: require_own_cache(client, create_cache(settings)))
    store = create_store(settings, client)
    child = Child()
    tools = tools_of(app)
    tools.child = child
    worker_process_shutdown.connect(lambda **_: tools.tracing.close(), weak=False)  # the child's last spans
    prepare_children(child, tools.preload, may_wait=post.gpu is not None)
    try:
        hindrances = hindrances_of(settings)
        hindrance = partial(first_problem, hindrances)
        watch = _watch(settings, post, child, client, store, hindrance)
    except EngineUnavailable as exc:
        return refuse(client, post.name, exc.message)
    watch.install()
    for one in hindrances:
        one.start()
    streams.set_gate(watch.may_read)
    guard = Guard(
        store, settings.stall_s, lambda task_id: count_end(client, store, task_id, choose(settings).name)
    )
    Heart(client, post.name, child.is_up, guard.look, hindrance).install()
    limit_drain(settings.drain_s)
    worker = app.Worker(
        hostname=post.name, pool="prefork", concurrency=1, queues=[TRANSCRIBE_QUEUE], quiet=True
    )
    worker.start()
    watch.end()
    return _exit_status(client, post, child, watch, int(worker.exitcode or 0))


def refuse(client: Redis, name: str, reason: str) -> int:
    """Tell the operator, in the log and in /health/ready, why this worker ends without having worked."""
    with contextlib.suppress(*AWAY):
        report_problem(client, name, reason, time.time())
    sys.stderr.write(f"error: {reason}\n")
    return REFUSED_EXIT


def hindrances_of(settings: Settings) -> list[HindranceWatch]:
    """What is looked at besides the device. Raises EngineUnavailable, as required_watch does."""
    llm = required_watch(settings)
    disk = HindranceWatch("the cache's disk", create_cache(settings).shortage, LOOK_AT_DISK_EVERY_S)
    return [disk] if llm is None else [disk, llm]


def _watch(
    settings: Settings,
    post: Post,
    child: Child,
    client: Redis,
    store: JobStore,
    hindrance: Callable[[], str | None],
) -> Watch:
    engine = choose(settings).name
    sight = Sight(post.gpu) if post.gpu else None

    def publish(view: View) -> None:
        publish_report(client, _report(post, child, view, engine, sight, store))

    return Watch(
        sight=sight,
        need_bytes=need_bytes(engine, settings) if sight else 0,
        limits=Limits.of(settings),
        child=child,
        renewal=Renewal(settings.idle_unload_s),
        publish=publish,
        turn=Turn(post.gpu) if post.gpu else None,
        hindrance=hindrance,
    )


def _report(
    post: Post, child: Child, view: View, engine: str, sight: Sight | None, store: JobStore
) -> WorkerReport:
    device = None
    if sight is not None and view.reading is not None:
        ours = used_by(view.reading, child.pid, loaded=child.is_loaded())
        device = describe(view.reading, sight.versions, ours)
    return WorkerReport(
        worker=post.name,
        at=time.time(),
        state=view.state,
        reason=view.reason,
        admitted=view.admission.admitted,
        degraded=post.degraded,
        device=device,
        engine=engine,
        model_loaded=child.is_loaded(),
        job=job_at_work(store, time.time()),
        jobs_done=child.jobs_done,
        attempts_failed=child.attempts_failed,
    )


def _exit_status(client: Redis, post: Post, child: Child, watch: Watch, status: int) -> int:
    """Say how it ended. The last report of a faulty device stays, until whoever supervises takes it over."""
    if watch.fault is not None:
        return DEVICE_FAULT_EXIT
    with contextlib.suppress(*AWAY):
        drop_report(client, post.name)
    if child.failure is not None:
        return refuse(client, post.name, child.failure)
    return status
