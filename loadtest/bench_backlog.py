"""What a long queue costs: latency of /status and /queue, and Redis' memory, with many jobs waiting.

    python loadtest/bench_backlog.py               100,000 waiting jobs, against an empty queue
    python loadtest/bench_backlog.py --jobs 10000
    python loadtest/bench_backlog.py --keep NAME   also writes loadtest/results/backlog-NAME.md

A real gateway on a real server, one client on one connection. The jobs are accepted and published by the
gateway's own code, without uploads. Rounds with the queue empty and full can't be interleaved, so each is
measured twice, before and after the other half: empty, full, full again, and empty at the end.

The last line gives the figures. Exits with 1 where p99 is above 10 ms or a job takes more than 2 KB.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script, run from anywhere

from tests.support.service import Service  # noqa: E402  after the path
from worker import streams  # noqa: E402
from worker.app import TRANSCRIBE_QUEUE, create_app  # noqa: E402
from worker.jobs import JobRecord, JobState, JobStore, new_task_id  # noqa: E402
from worker.settings import Settings  # noqa: E402
from worker.tasks import TRANSCRIBE_TASK  # noqa: E402

REQUESTS = 2000
MOST_P99_MS = 10.0
MOST_BYTES = 2048
USUAL_SIZE_BYTES = 30_000_000


def fill(service: Service, count: int) -> list[str]:
    """Accept and publish ``count`` jobs; their ids in order."""
    app = create_app(Settings.model_validate({"redis_url": service.redis.url}))
    with service.redis.client() as client, app.connection_for_write() as connection:
        store = JobStore(client, group=streams.GROUP, expiry_s=3600)
        producer = app.amqp.Producer(connection)
        ids = [new_task_id() for _ in range(count)]
        for task_id in ids:
            record = JobRecord(
                id=task_id,
                state=JobState.WAITING,
                source="upload",
                file_name="weekly meeting.wav",
                size_bytes=USUAL_SIZE_BYTES,
                created_at=time.time(),
            )
            store.accept(record, max_waiting=count)
            app.send_task(
                TRANSCRIBE_TASK,
                task_id=task_id,
                queue=TRANSCRIBE_QUEUE,
                producer=producer,
                ignore_result=True,
            )
    return ids


def latencies_ms(service: Service, paths: list[str]) -> list[float]:
    taken = []
    for number in range(REQUESTS):
        started = time.perf_counter()
        service.http.get(paths[number % len(paths)])
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def row(what: str, taken: list[float]) -> tuple[str, float]:
    cuts = statistics.quantiles(taken, n=100)
    return f"| {what} | {cuts[49]:.2f} | {cuts[98]:.2f} | {max(taken):.2f} |", cuts[98]


def used_bytes(service: Service) -> int:
    with service.redis.client() as client:
        return int(client.info("memory")["used_memory"])


def measure(jobs: int, folder: Path) -> tuple[list[str], float, float]:
    """The table's rows, the worst p99 in ms with the queue full, and bytes a job."""
    service = Service(folder, {"MAX_WAITING_JOBS": str(jobs + 1), "LOG_LEVEL": "error"})
    try:
        service.start_gateway()
        latencies_ms(service, ["/queue"])  # warm
        rows = [row("`/queue`, empty", latencies_ms(service, ["/queue"]))[0]]
        before = used_bytes(service)
        ids = fill(service, jobs)
        per_job = (used_bytes(service) - before) / jobs
        some = [f"/status/{task_id}" for task_id in ids[:: max(1, jobs // 500)]]
        full = [
            row(f"{what}, {jobs:,} waiting", latencies_ms(service, paths))
            for _ in range(2)
            for what, paths in (("`/status`", some), ("`/queue`", ["/queue"]))
        ]
        rows += [text for text, _ in full]
        with service.redis.client() as client:
            client.flushall()
        rows.append(row("`/queue`, empty again", latencies_ms(service, ["/queue"]))[0])
        return rows, max(p99 for _, p99 in full), per_job
    finally:
        service.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--keep", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, p99_ms, per_job = measure(arguments.jobs, Path(folder))
    table = ["| what | p50 ms | p99 ms | worst ms |", "|---|---|---|---|", *rows]
    last = f"p99 {p99_ms:.2f} ms with {arguments.jobs:,} jobs waiting; {per_job:.0f} bytes of Redis a job"
    command = " ".join(["python", "loadtest/bench_backlog.py", *sys.argv[1:]])
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    lines = [f"`{command}`", "", machine, "", *table, "", last]
    print("\n".join(lines))
    if arguments.keep:
        (ROOT / f"loadtest/results/backlog-{arguments.keep}.md").write_text("\n".join(lines) + "\n")
    return int(p99_ms > MOST_P99_MS or per_job > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
