"""Each call of the API from beginning to end, once for both clients and without I/O.

A flow is a generator. It yields a Send and is sent back what came of it: an answer, or why there was none.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import httpx

from gateway.client import answers, requests
from gateway.client.errors import ServerAway, WaitTimeout
from gateway.client.models import JobStatus
from gateway.client.retries import Outcome, Retry, RetryPolicy, pause_s, reason_of

if TYPE_CHECKING:
    from gateway.client.requests import Call

T = TypeVar("T")

LONG_POLL_S = 30
LONG_POLL_WATCHED_S = 2  # somebody looks at the progress, and wants news in between
BETWEEN_POLLS_S = 0.5  # from one question to the next, where the answer came sooner


@dataclass(frozen=True)
class Send:
    """Sleep for ``after_s``, then send ``call``."""

    call: Call
    after_s: float = 0.0


Flow = Generator[Send, Outcome, T]


@dataclass(frozen=True)
class Rules:
    """What all flows of one client keep to. ``deadline`` is on time.monotonic: nothing is tried after it."""

    policy: RetryPolicy
    timeout_s: float
    on_retry: Callable[[Retry], object] | None = None
    deadline: float = float("inf")

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()


def exchange(rules: Rules, call: Call, after_s: float = 0.0) -> Flow[tuple[httpx.Response, int]]:
    """Send, and again while that may help; the answer, and how many tries it took.

    Raises:
        ServerAway: There was no answer to the last try.
    """
    tries = 0
    while True:
        outcome = yield Send(call, after_s)
        tries += 1
        again_s = pause_s(rules.policy, call, outcome, tries=tries, chance=random.random())  # noqa: S311  no secret  # nosec B311
        if again_s is None or rules.left_s < again_s:
            break
        after_s = again_s
        if rules.on_retry is not None:
            rules.on_retry(Retry(reason_of(outcome), after_s, tries))
    if isinstance(outcome, httpx.TransportError):
        raise ServerAway(f"the service does not answer: {reason_of(outcome)}") from outcome
    return outcome, tries


def ask(rules: Rules, call: Call, read: Callable[[httpx.Response], T]) -> Flow[T]:
    answer, _ = yield from exchange(rules, call)
    return read(answers.accepted(answer))


def release(rules: Rules, task_id: str) -> Flow[bool]:
    """Whether the worker has let go. A repetition that finds nothing left has succeeded."""
    answer, tries = yield from exchange(rules, requests.release(task_id))
    if tries > 1 and answer.status_code == HTTPStatus.GONE:
        return True
    return answers.has_stopped(answers.accepted(answer))


def wait(
    rules: Rules, task_id: str, timeout_s: float | None, progress: Callable[[JobStatus], object] | None
) -> Flow[JobStatus]:
    """Ask until the job has ended. Patient with a service that is away for some minutes.

    Raises:
        WaitTimeout
    """
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    rules = replace(rules, policy=rules.policy.patient, deadline=deadline)
    after_s = 0.0
    while True:
        began = time.monotonic() + after_s
        answer, _ = yield from exchange(rules, poll(rules, task_id, watched=progress is not None), after_s)
        found = answers.read(JobStatus, answers.accepted(answer))
        if progress is not None:
            progress(found)
        if found.status.is_final:
            return found
        if rules.left_s <= 0:
            raise WaitTimeout(f"the job has not ended within {timeout_s:g} s: it is {found.status}", found)
        after_s = max(0.0, min(began + BETWEEN_POLLS_S - time.monotonic(), rules.left_s))


def poll(rules: Rules, task_id: str, *, watched: bool) -> Call:
    """A question that the service may keep for a while; one that hangs uses up the caller's time only."""
    wait_s = max(0.0, min(LONG_POLL_WATCHED_S if watched else LONG_POLL_S, rules.left_s))
    answer_s = max(1.0, min(rules.timeout_s, rules.left_s))
    return requests.status(task_id, wait_s=wait_s, read_s=wait_s + answer_s)
