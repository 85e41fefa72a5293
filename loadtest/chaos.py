"""Everything dies at random under load; afterwards every accepted job must have its one end.

    python -m loadtest.chaos                                              about a minute
    python -m loadtest.chaos --jobs 1000 --faults 200 --seconds 480       the long form
    python -m loadtest.chaos --seed 7                                     the same faults again

Starts the service as real processes with the simulated engine. Producers post recordings over HTTP and
remember what was accepted; meanwhile faults strike at seeded times, and what died is started again. Then all
is healed, and judged: over HTTP, in the cache and in Redis. docs/chaos.md says what is checked.

Prints seed, folder of the logs and a table; exits with 1, and a line for each violation, where one is found.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import redis

from loadtest.recordings import silence
from tests.support.service import ROOT, Service
from worker import streams
from worker.app import TRANSCRIBE_QUEUE
from worker.delivery.document import Document

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.service import Process

LEASE_S = 3.0
ORPHAN_GRACE_S = 20  # above what the gateway takes to give up a frozen Redis, folder in hand
SETTINGS = {
    "ENGINE": "simulated",
    "SIMULATED_SCRIPT": '{"speed": 30}',
    "LEASE_S": str(LEASE_S),
    "SWEEP_S": "0.5",
    "REPAIR_S": "2",
    "ORPHAN_GRACE_S": str(ORPHAN_GRACE_S),
    "MAX_ATTEMPTS": "50",  # so that no job ends for having been struck too often
}
RECORDING_S = (2, 60)
POLL_S = 0.05
AGAIN_S = 0.5  # until a fault whose target was away is tried again
PATIENCE_S = 60.0  # without one more job ended
FIRST_CHILD_DIED = "Could not start worker processes"  # Celery's word as it ends such a worker
KEY_TABLES = ("docs/architecture.md", "docs/streams.md")
KOMBUS_KEYS = r"_kombu\.binding\w*(\..*)?"  # docs/streams.md names them in its text
ENDS = {"completed", "failed"}


@dataclass(frozen=True)
class Fault:
    """``aim``, from 0 to 1, picks one of several targets; ``lasts_s`` is for those that end by themselves."""

    at_s: float
    kind: str
    aim: float
    lasts_s: float


def plan_faults(seed: int, count: int, seconds: float) -> list[Fault]:
    """All of chance is here: the same seed gives the same faults."""
    chance = random.Random(seed)  # noqa: S311  reproducible, not secret
    kinds = [chance.choice(list(STRIKES)) for _ in range(count)]
    times = sorted(chance.uniform(2, seconds) for _ in range(count))
    return [
        Fault(at_s, kind, chance.random(), chance.uniform(0.5, 2.5 * LEASE_S))
        for at_s, kind in zip(times, kinds, strict=True)
    ]


class TargetAway(Exception):
    """The fault can't strike now: its target is struck already."""


@dataclass
class Slot:
    """A process of the service, started again whenever it died.

    We ``killed`` it, or ``orphaned`` it: killed its child.
    """

    name: str
    argv: tuple[str, ...]
    process: Process | None = None
    killed: bool = False
    orphaned: bool = False
    starts: int = 0

    def may_be_dead(self) -> bool:
        """A worker whose first child dies before its first entry ends itself: that is Celery's way."""
        return self.killed or (
            self.orphaned and self.process is not None and self.process.said(FIRST_CHILD_DIED)
        )


@dataclass
class Stage:
    """The service, and the hands that strike at it. For one thread."""

    service: Service
    slots: list[Slot]
    say: Callable[[str], None]
    healings: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    redis_struck: bool = False
    violations: list[str] = field(default_factory=list)

    def keep_alive(self) -> None:
        """Start what is dead; a death that no fault explains is a violation."""
        for slot in self.slots:
            status = slot.process.popen.poll() if slot.process else None
            if slot.process and status is None:
                continue
            if slot.process and not slot.may_be_dead():
                self.violations.append(f"{slot.name} ended by itself with status {status}")
            slot.process = self.service.start(slot.name, *slot.argv)
            slot.killed = slot.orphaned = False
            slot.starts += 1

    def strike(self, fault: Fault) -> None:
        """Raises TargetAway."""
        STRIKES[fault.kind](self, fault)

    def heal_due(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        due = [one for one in self.healings if all_of_them or one[0] <= now]
        self.healings = [one for one in self.healings if one not in due]
        for _, heal in due:
            heal()

    def one_of(self, kind: str, aim: float) -> Slot:
        """A living process of this kind. Raises TargetAway."""
        living = [
            s for s in self.slots if s.name.startswith(kind) and s.process and s.process.popen.poll() is None
        ]
        if not living:
            raise TargetAway
        return living[int(aim * len(living))]

    def later(self, after_s: float, heal: Callable[[], None]) -> None:
        self.healings.append((time.monotonic() + after_s, heal))


def kill_worker(stage: Stage, fault: Fault) -> None:
    kill(stage.one_of("worker", fault.aim))


def kill_gateway(stage: Stage, fault: Fault) -> None:
    kill(stage.one_of("gateway", fault.aim))


def kill_sweeper(stage: Stage, fault: Fault) -> None:
    kill(stage.one_of("sweeper", fault.aim))


def kill(slot: Slot) -> None:
    """SIGKILL to the process alone: a worker's child must notice by itself."""
    assert slot.process is not None
    slot.killed = True
    slot.process.kill()


def kill_child(stage: Stage, fault: Fault) -> None:
    slot = stage.one_of("worker", fault.aim)
    _, *children = tree(slot)
    if not children:
        raise TargetAway
    slot.orphaned = True
    each(children[:1], psutil.Process.kill)


def freeze_worker(stage: Stage, fault: Fault) -> None:
    """Parent and child stop for longer than the lease."""
    processes = tree(stage.one_of("worker", fault.aim))
    each(processes, psutil.Process.suspend)
    stage.later(LEASE_S + fault.lasts_s, lambda: each(processes, psutil.Process.resume))


def restart_redis(stage: Stage, fault: Fault) -> None:
    begin_outage(stage)
    stage.service.redis.kill()
    stage.later(fault.lasts_s, lambda: end_outage(stage, stage.service.redis.start))


def freeze_redis(stage: Stage, fault: Fault) -> None:
    begin_outage(stage)
    stage.service.redis.freeze()
    stage.later(fault.lasts_s, lambda: end_outage(stage, stage.service.redis.thaw))


def cut_connections(stage: Stage, fault: Fault) -> None:  # noqa: ARG001  every connection
    if stage.redis_struck:
        raise TargetAway
    with stage.service.redis.client() as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def begin_outage(stage: Stage) -> None:
    if stage.redis_struck:
        raise TargetAway
    stage.redis_struck = True


def end_outage(stage: Stage, end: Callable[[], object]) -> None:
    end()
    stage.redis_struck = False


def tree(slot: Slot) -> list[psutil.Process]:
    assert slot.process is not None
    return [psutil.Process(slot.process.pid), *slot.process.children()]


def each(processes: list[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    """To those that are still there; by more than the pid, so not to a successor."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            do(process)


STRIKES: dict[str, Callable[[Stage, Fault], None]] = {
    "SIGKILL worker": kill_worker,
    "SIGKILL child": kill_child,
    "freeze worker": freeze_worker,
    "SIGKILL gateway": kill_gateway,
    "SIGKILL sweeper": kill_sweeper,
    "restart Redis": restart_redis,
    "freeze Redis": freeze_redis,
    "cut connections": cut_connections,
}


class Clients:
    """Producers that post until each recording is accepted, and a watcher of what they are told."""

    def __init__(self, url: str, seed: int, jobs: int, seconds: float, threads: int = 4) -> None:
        self.accepted: list[str] = []
        self.first_ends: dict[str, str] = {}
        self.refusals: collections.Counter[str] = collections.Counter()
        self.done = threading.Event()
        self._url = url
        self._lock = threading.Lock()
        self._chance = random.Random(seed + 1)  # noqa: S311  reproducible, not secret
        times = sorted(self._chance.uniform(0, 0.8 * seconds) for _ in range(jobs))
        lengths = [self._chance.uniform(*RECORDING_S) for _ in range(jobs)]
        self._orders = collections.deque(zip(times, lengths, strict=True))
        self._began = time.monotonic()
        self._producers = [threading.Thread(target=self._produce, daemon=True) for _ in range(threads)]
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in (*self._producers, self._watcher):
            thread.start()

    def have_posted_all(self) -> bool:
        return not any(thread.is_alive() for thread in self._producers)

    def stop(self) -> None:
        self.done.set()
        self._watcher.join()

    def _produce(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            while (order := self._next_order()) and not self.done.is_set():
                at_s, length_s = order
                self.done.wait(max(0.0, at_s - (time.monotonic() - self._began)))
                self._post_until_accepted(http, silence(length_s))

    def _next_order(self) -> tuple[float, float] | None:
        with self._lock:
            return self._orders.popleft() if self._orders else None

    def _post_until_accepted(self, http: httpx.Client, recording: bytes) -> None:
        while not self.done.is_set():
            try:
                answer = http.post("/transcribe", files={"file": ("silence.wav", recording, "audio/wav")})
            except httpx.TransportError as exc:
                self._refused(type(exc).__name__)
                continue
            if answer.status_code == httpx.codes.ACCEPTED:
                with self._lock:
                    self.accepted.append(answer.json()["task_id"])
                return
            self._refused(str(answer.status_code))

    def _refused(self, why: str) -> None:
        with self._lock:
            self.refusals[why] += 1
        self.done.wait(AGAIN_S)

    def _watch(self) -> None:
        """Ask for jobs that have not ended yet, and keep the first end that is told: it must be the last."""
        with httpx.Client(base_url=self._url, timeout=30) as http:
            while not self.done.wait(POLL_S):
                with self._lock:
                    open_ones = [one for one in self.accepted if one not in self.first_ends]
                if open_ones:
                    self._look_at(http, self._chance.choice(open_ones[:20]))

    def _look_at(self, http: httpx.Client, task_id: str) -> None:
        with contextlib.suppress(httpx.TransportError):
            answer = http.get(f"/status/{task_id}")
            if answer.status_code == httpx.codes.OK and answer.json()["status"] in ENDS:
                self.first_ends[task_id] = answer.json()["status"]
            elif answer.status_code == httpx.codes.NOT_FOUND:
                self.first_ends[task_id] = "404"


class Judge:
    """Looks at what is left when all is quiet. Every finding names what it is about."""

    def __init__(self, service: Service, clients: Clients) -> None:
        self._service = service
        self._clients = clients
        self._redis = service.redis.client()
        self.findings: list[str] = []
        self.ends: collections.Counter[str] = collections.Counter()
        self.attempts: list[int] = []

    def is_quiet(self) -> bool:
        """No entry, no unfinished job, no folder without a job, and one file in each."""
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            open_jobs = self._redis.zcard("jobs:waiting") + self._redis.zcard("jobs:running")
            unasked = self._folders() - self.recorded()
            return not (open_jobs or self._entries() or unasked or self._strays())
        return False

    def ended(self) -> int:
        """How many jobs have ended; -2 where Redis does not answer yet."""
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            return int(self._redis.zcard("jobs:ended"))
        return -2

    def recorded(self) -> set[str]:
        return {key.removeprefix("job:") for key in self._redis.scan_iter("job:*", count=1000)}

    def judge(self) -> None:
        recorded = self.recorded()
        self._find(set(self._clients.accepted) - recorded, "accepted, but lost")
        # A producer that got no answer may have left a job that nobody asks for: it must end, too.
        for task_id in sorted(recorded):
            self._judge_job(task_id)
        self._find(self._folders() - recorded, "a folder without a job")
        self._judge_streams()
        self._judge_keys()

    def _judge_job(self, task_id: str) -> None:
        status = self._service.status(task_id)
        self.ends[status["status"]] += 1
        self.attempts.append(status["attempt"])
        first = self._clients.first_ends.get(task_id, status["status"])
        if first != status["status"]:
            self._find([task_id], f"was told {first}, now {status['status']}")
        if status["status"] == "completed":
            self._judge_result(task_id)
        else:
            self._find([task_id], f"has not completed: {status['status']} {json.dumps(status['error'])}")

    def _judge_result(self, task_id: str) -> None:
        record: dict[str, str] = self._redis.hgetall(f"job:{task_id}")  # type: ignore[assignment]
        folder = self._service.cache / "jobs" / task_id
        files = sorted(path.name for path in folder.glob("*"))
        if files != [record["result"]]:
            self._find([task_id], f"the record names {record['result']}, the folder holds {files}")
            return
        document = self._service.http.get(f"/download/{task_id}")
        if document.status_code != httpx.codes.OK or document.content != (folder / files[0]).read_bytes():
            self._find([task_id], f"its download is not its result: {document.status_code}")
            return
        Document.model_validate_json(document.content)
        celery_state = json.loads(self._redis.get(f"celery-task-meta-{task_id}") or "{}").get("status")  # type: ignore[arg-type]
        if celery_state != "SUCCESS":
            self._find([task_id], f"completed, but Celery says {celery_state}")

    def _judge_streams(self) -> None:
        numbers = streams.stats(self._redis, TRANSCRIBE_QUEUE)
        if (numbers.waiting, numbers.in_flight, numbers.dead) != (0, 0, 0):
            self._find([TRANSCRIBE_QUEUE], f"is not empty: {numbers}")
        self._find(self._redis.zrange("jobs:waiting", 0, -1), "still waits")  # type: ignore[arg-type]
        self._find(self._redis.zrange("jobs:running", 0, -1), "still runs")  # type: ignore[arg-type]

    def _judge_keys(self) -> None:
        named = documented_keys()
        lasting = [key for key in self._redis.scan_iter("*", count=1000) if self._redis.ttl(key) == -1]
        self._find(
            [key for key in lasting if not named.fullmatch(key)], "a key without TTL that no table names"
        )

    def _find(self, subjects: Any, what: str) -> None:
        self.findings += [f"{subject}: {what}" for subject in sorted(subjects)]

    def _entries(self) -> int:
        return streams.entry_count(self._redis, TRANSCRIBE_QUEUE)

    def _strays(self) -> int:
        """Files beyond one a job; the sweeper removes what a late attempt left."""
        return len(list((self._service.cache / "jobs").glob("*/*"))) - len(self._folders())

    def _folders(self) -> set[str]:
        return {path.name for path in (self._service.cache / "jobs").glob("*")}


def documented_keys() -> re.Pattern[str]:
    """The keys in the first columns of the key tables; <...> stands for any text."""
    pages = "".join((ROOT / page).read_text() for page in KEY_TABLES)
    named = re.findall(r"^\| `([^`]+)` \| (?:hash|zset|string|stream)", pages, re.MULTILINE)
    patterns = [re.sub(r"<[^>]+>", "[^:]+", re.escape(name).replace(r"\ ", " ")) for name in named]
    return re.compile("|".join([*patterns, KOMBUS_KEYS]))


def slots(workers: int) -> list[Slot]:
    named = [Slot(f"worker-{n}", ("worker", "--name", f"worker-{n}@chaos")) for n in range(1, workers + 1)]
    return [Slot("gateway", ("gateway",)), Slot("sweeper", ("ops", "sweeper")), *named]


def wreak_havoc(stage: Stage, clients: Clients, faults: list[Fault]) -> None:
    """Strike as planned until all faults have struck and all jobs are posted."""
    began = time.monotonic()
    due = [(fault.at_s, fault) for fault in faults]
    while due or not clients.have_posted_all():
        stage.heal_due()
        stage.keep_alive()
        now_s = time.monotonic() - began
        if due and due[0][0] <= now_s:
            _, fault = due.pop(0)
            try:
                stage.strike(fault)
                stage.say(f"{now_s:7.1f} s  {fault.kind}")
            except TargetAway:
                due = sorted([*due, (now_s + AGAIN_S, fault)], key=lambda one: one[0])
        time.sleep(POLL_S)


def settle(stage: Stage, judge: Judge) -> None:
    """Heal everything and keep it alive until it is quiet; what is not, the judge will find."""
    stage.heal_due(all_of_them=True)
    ended, moved_at = -1, time.monotonic()
    while not judge.is_quiet() and time.monotonic() - moved_at < PATIENCE_S:
        stage.keep_alive()
        if judge.ended() != ended:
            ended, moved_at = judge.ended(), time.monotonic()
        time.sleep(AGAIN_S)


def run(arguments: argparse.Namespace, folder: Path) -> int:
    log = (folder / "chaos.log").open("w", buffering=1)
    began = time.monotonic()
    service = Service(folder, dict(SETTINGS))
    stage = Stage(service, slots(arguments.workers), lambda line: print(line, file=log))
    clients = Clients(str(service.http.base_url), arguments.seed, arguments.jobs, arguments.seconds)
    judge = Judge(service, clients)
    try:
        stage.keep_alive()
        clients.start()
        wreak_havoc(stage, clients, plan_faults(arguments.seed, arguments.faults, arguments.seconds))
        settle(stage, judge)
        clients.stop()
        judge.judge()
    finally:
        clients.done.set()
        service.end()
        log.close()
    report(arguments, stage, clients, judge, time.monotonic() - began)
    return 1 if judge.findings or stage.violations else 0


def report(
    arguments: argparse.Namespace, stage: Stage, clients: Clients, judge: Judge, wall_s: float
) -> None:
    kinds = collections.Counter(
        fault.kind for fault in plan_faults(arguments.seed, arguments.faults, arguments.seconds)
    )
    rows = {
        "jobs accepted": len(clients.accepted),
        "jobs that nobody was told of": sum(judge.ends.values()) - len(clients.accepted),
        **{f"ended {end}": count for end, count in judge.ends.items()},
        "attempts, most of one job": max(judge.attempts, default=0),
        "attempts, all jobs": sum(judge.attempts),
        "posts refused or broken": dict(clients.refusals),
        "faults": arguments.faults,
        **{f"  {kind}": count for kind, count in sorted(kinds.items())},
        "processes started": sum(slot.starts for slot in stage.slots),
        "seconds": round(wall_s),
        "violations": len(judge.findings) + len(stage.violations),
    }
    for name, value in rows.items():
        print(f"{name:<30} {value}")
    for finding in (*stage.violations, *judge.findings):
        print(f"VIOLATION {finding}")


def main() -> int:
    arguments = parse_arguments()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {arguments.seed}, logs in {folder}", flush=True)
    return run(arguments, folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=80, help="recordings to post (default %(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="default %(default)s")
    parser.add_argument("--faults", type=int, default=16, help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=40, help="in which faults strike (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: any"
    )
    parser.add_argument("--folder", type=Path, default=None, help="for logs and data (default: a new one)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
