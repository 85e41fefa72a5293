"""What follows from each try."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.delivery.webhook_rules import (
    MAX_RETRY_AFTER_S,
    MOST_TRIES,
    WAITS_S,
    DeliveryState,
    Event,
    Outcome,
    Step,
    backoff_s,
    next_step,
    retry_after_s,
    webhook_body,
    webhook_id,
)

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert next_step(Outcome(status), 1, NOW, 0) == Step(DeliveryState.DELIVERED)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422, 499])
def test_a_refusal_ends_it(status: int) -> None:
    assert next_step(Outcome(status), 1, NOW, 0) == Step(DeliveryState.FAILED)


@pytest.mark.parametrize("status", [100, 301, 302, 307, 304, 408, 429, 500, 503, 599])
def test_everything_else_is_tried_again(status: int) -> None:
    assert next_step(Outcome(status), 1, NOW, 0) == Step(DeliveryState.PENDING, 5)


def test_an_error_is_tried_again_unless_it_lasts() -> None:
    assert next_step(Outcome(error="timeout"), 2, NOW, 0) == Step(DeliveryState.PENDING, 30)
    assert (
        next_step(Outcome(error="address_forbidden", lasting=True), 2, NOW, 0).state is DeliveryState.FAILED
    )


def test_the_waits_grow_from_seconds_to_hours_and_the_tenth_try_is_the_last() -> None:
    steps = [next_step(Outcome(500), tries, NOW, 0) for tries in range(1, MOST_TRIES + 2)]
    assert [step.wait_s for step in steps[:9]] == [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800]
    assert [step.state for step in steps[8:]] == [DeliveryState.PENDING] + 2 * [DeliveryState.FAILED]
    assert next_step(Outcome(200), MOST_TRIES, NOW, 0).state is DeliveryState.DELIVERED


@given(st.integers(1, len(WAITS_S)), st.floats(0, 1))
def test_chance_spreads_the_waits_by_a_fifth(tries: int, chance: float) -> None:
    assert WAITS_S[tries - 1] <= backoff_s(tries, chance) <= WAITS_S[tries - 1] * 1.2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("²", 0),
        ("Fri, 15 Jan 99999 08:02:00 GMT", 0),
        ("9" * 5000, MAX_RETRY_AFTER_S),
    ],
)
def test_retry_after_in_all_its_forms(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_it(header: str) -> None:
    assert 0 <= retry_after_s(header, NOW) <= MAX_RETRY_AFTER_S


def test_retry_after_makes_a_wait_longer_and_never_shorter() -> None:
    assert next_step(Outcome(429, retry_after="90"), 1, NOW, 0).wait_s == 90
    assert next_step(Outcome(429, retry_after="90"), 4, NOW, 0).wait_s == 600


def test_the_body_names_event_time_task_and_status() -> None:
    assert json.loads(webhook_body("t-1", Event.FAILED, NOW + 0.25)) == {
        "type": "job.failed",
        "timestamp": "2027-01-15T08:00:00.250Z",
        "data": {"task_id": "t-1", "status": "failed"},
    }
    assert json.loads(webhook_body("t-1", Event.COMPLETED, NOW))["data"]["status"] == "completed"


def test_the_id_is_the_same_for_the_same_event_of_a_job_only() -> None:
    ids = [webhook_id("a"), webhook_id("b"), webhook_id("c")]
    assert len(set(ids)) == 3
    assert webhook_id("a") == ids[0]
    assert all(one.startswith("msg_") and "." not in one for one in ids)
