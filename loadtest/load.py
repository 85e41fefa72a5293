"""Users of every kind on a local stack that this starts itself, with the simulated engine.

    python -m loadtest.load                  100 users for a minute
    python -m loadtest.load --steps          more and more users, until the knee
    python -m loadtest.load --keep 2-cores   three rounds of the first, the steps, and one worker alone

Locust's HTML and CSV, its log and the stack's are left in a folder; --keep also writes
loadtest/results/load-NAME.md. Exits with 1, and a line for each, where a limit of loadtest.limits is broken
or a job has not exactly one end. docs/performance.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from loadtest import load_report, worker_alone
from loadtest.ends import Ends, judge, list_jobs, results_of, wait_for_quiet
from loadtest.knee import Step, find_knee
from loadtest.limits import P95_MS, Endpoint
from loadtest.machine import machine
from loadtest.processor_use import ProcessorUse
from loadtest.stand import running
from ops.stack import StackError
from worker.processes import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loadtest.stand import Stand

ROOT = Path(__file__).resolve().parent.parent
KEPT_ROUNDS = 3
STOP_S = 10  # in which users finish what they do


@dataclass(frozen=True)
class Round:
    """What one run of Locust gave, and whether it and the jobs' ends were as they must be."""

    outcome: Mapping[str, Any]
    cores: ProcessorUse
    ends: Ends
    broken: list[str]

    @property
    def endpoints(self) -> list[Endpoint]:
        return [Endpoint(**one) for one in self.outcome["endpoints"]]


def swarm(arguments: argparse.Namespace, folder: Path, locustfile: str) -> Round:
    """A new stack, Locust on it, and the judgement when all is quiet again. Raises StackError."""
    folder.mkdir(parents=True, exist_ok=True)
    with running(folder / "stack", arguments.workers, arguments.speed) as stand:
        argv = locust_argv(arguments, folder, locustfile, stand)
        keys = {"LOAD_CLIENT_KEY": stand.client_key, "LOAD_OPERATOR_KEY": stand.operator_key}
        with (folder / "locust.log").open("wb") as log:
            locust = subprocess.Popen(
                argv,
                cwd=ROOT,
                env={**os.environ, **keys},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509  two system calls
            )
            with ProcessorUse({**stand.pids(), "Locust": [locust.pid]}) as cores:
                status = locust.wait()
        outcome = outcome_of(folder)
        ends = look_up_ends(stand, outcome)
    broken = [*outcome["broken"], *outcome["contradictions"], *ends.findings]
    if status and not broken:
        broken = [f"Locust ended with status {status}: see {folder / 'locust.log'}"]
    if not broken:  # else they are evidence
        shutil.rmtree(folder / "stack/cache")
        shutil.rmtree(folder / "stack/redis")
    return Round(outcome, cores, ends, broken)


def locust_argv(arguments: argparse.Namespace, folder: Path, locustfile: str, stand: Stand) -> list[str]:
    limit = [] if arguments.p95_ms is None else [f"--p95-ms={arguments.p95_ms}"]
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(ROOT / "loadtest" / locustfile)),
        *("--headless", "--only-summary", "--host", stand.stack.api_url),
        *("--csv", str(folder / "load"), "--html", str(folder / "load.html")),
        *("--users", str(arguments.users), "--spawn-rate", str(max(1.0, arguments.users / 5))),
        *("--run-time", f"{arguments.seconds}s", "--stop-timeout", str(min(STOP_S, arguments.seconds))),
        *("--step-users", str(arguments.step_users), "--step-seconds", str(arguments.step_seconds)),
        *("--steps", str(arguments.most_steps)),
        *("--think", str(arguments.think), "--recording-url", stand.recording_url),
        *("--outcome", str(folder / "outcome.json"), *limit),
    ]


def outcome_of(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "outcome.json").read_text()))
    except FileNotFoundError:
        raise StackError(f"Locust left no outcome: see {folder / 'locust.log'}") from None


def look_up_ends(stand: Stand, outcome: Mapping[str, Any]) -> Ends:
    headers = {"Authorization": f"Bearer {stand.client_key}"}
    with httpx.Client(base_url=stand.stack.api_url, headers=headers, timeout=60) as http:
        wait_for_quiet(http)
        jobs = list_jobs(http)
        return judge(outcome["accepted"], outcome["ends"], jobs, results_of(http, stand.cache, jobs))


def run_mix(arguments: argparse.Namespace, folder: Path, rounds: int) -> tuple[list[str], list[str]]:
    """The report's lines, and the limits that were broken."""
    done = [swarm(arguments, folder / f"round-{number}", "locustfile.py") for number in range(1, rounds + 1)]
    endpoints = [one.endpoints for one in done]
    limits = P95_MS if arguments.p95_ms is None else dict.fromkeys(P95_MS, arguments.p95_ms)
    lines = [
        f"## {arguments.users} users of every kind, {arguments.seconds} s, {arguments.workers} workers",
        "",
        *load_report.endpoint_lines(endpoints, limits),
        "",
        load_report.total_line(endpoints, [one.cores.cores() for one in done]),
        load_report.ends_line([one.ends for one in done]),
        *(f"- failed: {line}" for one in done for line in one.outcome["failures"]),
        "",
    ]
    return lines, [line for one in done for line in one.broken]


def run_steps(arguments: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    done = swarm(arguments, folder / "steps", "stepfile.py")
    steps = [Step(**one) for one in done.outcome["steps"]]
    began_at, step_s = done.outcome["began_at"], arguments.step_seconds
    cores = [
        done.cores.cores(began_at + (number + 1) * step_s - step.seconds, began_at + (number + 1) * step_s)
        for number, step in enumerate(steps)
    ]
    lines = [
        f"## Steps of {arguments.step_users} users, {step_s:g} s each, {arguments.workers} workers",
        "",
        *load_report.step_lines(steps, cores, find_knee(steps)),
        load_report.ends_line([done.ends]),
        *(f"- failed: {line}" for line in done.outcome["failures"]),
        "",
    ]
    return lines, done.broken


def run_worker(folder: Path, rounds: int) -> list[str]:
    with running(folder / "worker" / "stack", workers=1, speed=worker_alone.SPEED) as stand:
        worker_alone.measure(stand)  # warm
        found = [worker_alone.measure(stand) for _ in range(rounds)]
    return ["## One worker", "", *load_report.alone_lines(found), ""]


def run(arguments: argparse.Namespace, folder: Path) -> int:
    lines: list[str] = []
    broken: list[str] = []
    rounds = arguments.rounds or (KEPT_ROUNDS if arguments.keep else 1)
    if not arguments.steps:
        lines, broken = run_mix(arguments, folder, rounds)
    if arguments.keep or arguments.steps:
        step_lines, step_broken = run_steps(arguments, folder)
        lines, broken = lines + step_lines, broken + step_broken
    if arguments.keep and not arguments.steps:
        lines += run_worker(folder, rounds)
    report(arguments, lines, broken)
    return 1 if broken else 0


def report(arguments: argparse.Namespace, lines: Sequence[str], broken: Sequence[str]) -> None:
    head = f"`python -m loadtest.load {' '.join(sys.argv[1:])}`".replace(" `", "`")
    text = "\n".join(["# Load on a local stack", "", f"{head} on {machine()}", "", *lines])
    print(text)
    if arguments.keep:
        (ROOT / f"loadtest/results/load-{arguments.keep}.md").write_text(text)
    for line in broken:
        print(f"LIMIT BROKEN {line}")


def main() -> int:
    arguments = parse_arguments()
    folder = arguments.folder or ROOT / "var/loadtest" / time.strftime("%Y%m%d-%H%M%S")
    print(f"HTML, CSV and logs: {folder}", flush=True)
    began = time.monotonic()
    try:
        status = run(arguments, folder.absolute())
    except StackError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    print(f"{time.monotonic() - began:.0f} s, {'a limit was broken' if status else 'all limits hold'}")
    return status


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.load", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--users", type=int, default=100, help="default %(default)s")
    add("--seconds", type=int, default=60, help="a round's (default %(default)s)")
    add("--rounds", type=int, default=0, help=f"default 1, with --keep {KEPT_ROUNDS}")
    add("--workers", type=int, default=3, help="default %(default)s")
    add("--speed", type=float, default=600, help="of the engine, times real time (default %(default)s)")
    add("--think", type=float, default=1.0, help="times the users' think times (default %(default)s)")
    add("--p95-ms", type=float, default=None, help="one limit for all endpoints")
    add("--steps", action="store_true", help="only the steps, to the knee")
    add("--step-users", type=int, default=100, help="that each step adds (default %(default)s)")
    add("--step-seconds", type=float, default=20, help="default %(default)s")
    add("--most-steps", type=int, default=20, help="default %(default)s")
    add("--keep", default="", metavar="NAME", help="measure all, and write loadtest/results/load-NAME.md")
    add("--folder", type=Path, default=None, help="for HTML, CSV and logs (default: a new one in var)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
