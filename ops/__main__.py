"""``python -m ops``: run (the local stack), demo, sweeper, dead, deliver, gpus, metrics, key."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from worker.patience import AWAY
from worker.settings import Settings, load_settings

if TYPE_CHECKING:
    from ops.stack import Stack


def run_stack(settings: Settings) -> int:
    """Keep the local stack up until Ctrl-C or SIGTERM."""
    from ops.stack import Stack  # noqa: PLC0415  each command loads only what it needs

    stopped = Event()
    stack = Stack(settings, say)
    try:
        stack.start()
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        for line in addresses(stack, settings):
            say(line)
        stack.supervise(stopped.is_set)
    finally:
        say("stopping")
        stack.stop()
    return 0


def addresses(stack: Stack, settings: Settings) -> list[str]:
    return [
        f"API       {stack.api_url}",
        f"API docs  {stack.api_url}/docs",
        f"Flower    {stack.flower_url}",
        f"Redis     {stack.redis_address}",
        f"Logs      {settings.data_dir.absolute() / 'log'}",
        "Ctrl-C stops it all.",
    ]


def manage_dead(settings: Settings, action: str, task_id: str | None) -> int:
    from ops.dead import NoSuchDeadLetter, run_dead  # noqa: PLC0415

    try:
        for line in run_dead(settings, action, task_id):
            say(line)
    except NoSuchDeadLetter as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except AWAY:
        sys.stderr.write("error: Redis does not answer: see REDIS_URL\n")
        return 1
    return 0


def make_key(name: str, *, is_operator: bool) -> int:
    from gateway.keys import BadKeys, Role, line_of, new_secret  # noqa: PLC0415

    secret = new_secret()
    try:
        line = line_of(name, secret, Role.OPERATOR if is_operator else Role.CLIENT)
    except BadKeys as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    say(f"key, for {name} alone, shown this once:\n  {secret}")
    say(f"entry of API_KEYS, or line of API_KEYS_FILE:\n  {line}")
    return 0


def deliver(settings: Settings, task_id: str) -> int:
    from ops.deliver import NothingToDeliver, run_deliver  # noqa: PLC0415
    from worker.errors import JobError  # noqa: PLC0415
    from worker.logs import configure_logging  # noqa: PLC0415

    configure_logging(settings, "ops-deliver")
    try:
        for url in run_deliver(settings, task_id):
            say(url)
    except (NothingToDeliver, JobError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except AWAY:
        sys.stderr.write("error: Redis does not answer: see REDIS_URL\n")
        return 1
    return 0


def manage_gpus(settings: Settings, *, once: bool, forget: str | None) -> int:
    from ops.gpus import forget_worker, show_gpus  # noqa: PLC0415

    try:
        if forget is None:
            return show_gpus(settings, once=once)
        known = forget_worker(settings, forget)
    except AWAY:
        sys.stderr.write("error: Redis does not answer: see REDIS_URL\n")
        return 1
    say(f"{forget}: {'forgotten' if known else 'not known'}")
    return int(not known)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    arguments = parse_arguments()
    if arguments.command == "key":
        return make_key(arguments.name, is_operator=arguments.operator)
    return run_command(arguments, load_settings())


def run_command(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.command == "sweeper":
        from ops.sweeper import check_sweeper, run_sweeper  # noqa: PLC0415

        return check_sweeper(settings) if arguments.check else run_sweeper(settings)
    if arguments.command == "dead":
        return manage_dead(settings, arguments.action, arguments.task_id)
    if arguments.command == "deliver":
        return deliver(settings, arguments.task_id)
    if arguments.command == "gpus":
        return manage_gpus(settings, once=arguments.once, forget=arguments.forget)
    if arguments.command == "metrics":
        from ops.metrics import run_exporter  # noqa: PLC0415

        return run_exporter(settings)
    return with_stack(settings, arguments)


def with_stack(settings: Settings, arguments: argparse.Namespace) -> int:
    from ops.stack import StackError  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the children, like Ctrl-C
    try:
        if arguments.command == "run":
            return run_stack(settings)
        from ops.demo import run_demo  # noqa: PLC0415

        return run_demo(settings, arguments.recording)
    except KeyboardInterrupt:
        return 130
    except StackError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="the whole service on this machine, on embedded parts")
    demo = commands.add_parser("demo", help="start all, transcribe one recording, stop all")
    demo.add_argument("recording", type=Path, help="a WAV file")
    sweeper = commands.add_parser("sweeper", help="the sweeper: Celery beat and its small worker")
    sweeper.add_argument("--check", action="store_true", help="only say whether one has swept lately")
    dead = commands.add_parser("dead", help="jobs whose every attempt died")
    dead.add_argument("action", choices=["list", "show", "retry", "drop"])
    dead.add_argument("task_id", nargs="?")
    key = commands.add_parser("key", help="make an API key and print it, once")
    key.add_argument("name", help="whose it is: letters, digits, '.', '_' and '-'")
    key.add_argument("--operator", action="store_true", help="may see /usage and what else is the operator's")
    again = commands.add_parser("deliver", help="deliver a result that could not be brought to its bucket")
    again.add_argument("task_id")
    gpus = commands.add_parser("gpus", help="every worker and its device, renewed until Ctrl-C")
    gpus.add_argument("--once", action="store_true", help="print once; exit status 1 where it is red")
    gpus.add_argument("--forget", metavar="WORKER", help="drop the report of a worker that is gone for good")
    commands.add_parser("metrics", help="the exporter for Prometheus")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
