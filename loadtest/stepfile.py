"""Everybody, in steps of more and more users, until the service is no longer as good as before.

It writes each step's figures (loadtest.knee); past the knee no limit can hold, so none is judged.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started from anywhere

from locust import LoadTestShape, events

from loadtest.knee import Step, is_past_it
from loadtest.limits import WAIT_S
from loadtest.options import add_options, keep_outcome
from loadtest.roles import (
    BOARD,
    Downloader,
    LongUploader,
    Operator,
    Poller,
    ShortUploader,
    UrlSubmitter,
    Watcher,
)

if TYPE_CHECKING:
    from locust.env import Environment

__all__ = [
    "Downloader",
    "LongUploader",
    "Operator",
    "Poller",
    "ShortUploader",
    "UrlSubmitter",
    "Watcher",
]

SETTLING = 0.4  # of a step, in which its users start and the first answers come: not measured
# Their users wait for workers, or send for long, however good the gateway is: they are load, but not counted.
SLOW_BY_NATURE = {"/events", f"/status?wait_s={WAIT_S}", "/transcribe (long file)"}


class Steps(LoadTestShape):
    """One more step each --step-seconds; two bad ones in a row end it."""

    def __init__(self) -> None:
        super().__init__()
        self.began_at = time.time()
        self.finished: list[Step] = []
        self._found: dict[int, list[tuple[float, bool]]] = defaultdict(list)

    def reset_time(self) -> None:
        super().reset_time()
        self.began_at = time.time()

    def tick(self) -> tuple[int, float] | None:
        number = int(self.get_run_time() / self.options.step_seconds)
        while len(self.finished) < number:
            self.finished.append(self._step(len(self.finished)))
        if number >= self.options.steps or is_past_it(self.finished):
            return None
        starting_s = 0.5 * SETTLING * self.options.step_seconds
        return (number + 1) * self.options.step_users, self.options.step_users / starting_s

    @property
    def options(self) -> Any:
        assert self.runner is not None
        return self.runner.environment.parsed_options

    def note(self, name: str, start_time: float, response_time: float, exception: Any, **_: Any) -> None:
        number, part = divmod((start_time - self.began_at) / self.options.step_seconds, 1)
        if part >= SETTLING and name not in SLOW_BY_NATURE:
            self._found[int(number)].append((response_time, exception is not None))

    def _step(self, number: int) -> Step:
        found = self._found.pop(number, [])
        cuts = statistics.quantiles([taken for taken, _ in found], n=100) if len(found) > 1 else [0.0] * 99
        measured_s = self.options.step_seconds * (1 - SETTLING)
        failures = sum(failed for _, failed in found)
        users = (number + 1) * self.options.step_users
        return Step(users, measured_s, len(found), failures, cuts[49], cuts[94])


events.init_command_line_parser.add_listener(add_options)


@events.init.add_listener
def watch(environment: Environment, **_: Any) -> None:
    environment.events.request.add_listener(shape_of(environment).note)


@events.quitting.add_listener
def keep(environment: Environment, **_: Any) -> None:
    shape = shape_of(environment)
    steps = [asdict(step) for step in shape.finished]
    keep_outcome(environment, BOARD, steps=steps, began_at=shape.began_at, broken=[])
    environment.process_exit_code = 0


def shape_of(environment: Environment) -> Steps:
    assert isinstance(environment.shape_class, Steps)
    return environment.shape_class
