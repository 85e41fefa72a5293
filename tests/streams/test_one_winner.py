"""Property: whatever two workers and a sweeper do, in whatever order, a job ends once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import booleans, sampled_from

from tests.streams.test_scripts import OPTIONS, ack, expire, must_read, publish, read, requeue, trust
from worker import streams

if TYPE_CHECKING:
    import pytest
    import redis

    from worker.streams.message import Entry

WORKERS = sampled_from(["one", "two"])


class TwoWorkers(RuleBasedStateMachine):
    """One job. A worker remembers every lease it was ever given, and may use any of them at any time."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        publish(self.client, "job")
        self.given: dict[str, list[Entry]] = {"one": [], "two": []}
        self.ended = 0

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        entry = read(self.client, worker)
        if entry is not None:
            self.given[worker].append(entry)

    @rule(worker=WORKERS, late=booleans())
    def renew(self, worker: str, late: bool) -> None:
        for entry in self._choice(worker, late):
            renewed = self.client.xclaim(
                entry.stream, streams.GROUP, worker, 0, [entry.entry_id], justid=True
            )
            assert bool(renewed) == (entry == self._owned())

    @rule(worker=WORKERS, late=booleans())
    def acknowledge(self, worker: str, late: bool) -> None:
        for entry in self._choice(worker, late):
            held = streams.lease_held(self.client, entry.lease_id)
            won = ack(self.client, entry.lease_id)
            assert won == held
            self.ended += won

    @rule(worker=WORKERS, counted=booleans())
    def give_back(self, worker: str, counted: bool) -> None:
        for entry in self._choice(worker, late=False):
            requeue(self.client, entry, counted=counted)

    @precondition(lambda self: self._owned() is not None)
    @rule()
    def fall_silent(self) -> None:
        entry = self._owned()
        assert entry is not None
        expire(self.client, entry)

    @rule()
    def sweep(self) -> None:
        trust(self.client)
        lost = streams.sweep(self.client, ["q"], OPTIONS)
        assert len(lost) <= 1

    @rule()
    def replay(self) -> None:
        for dead in streams.list_dead(self.client, "q"):
            streams.replay_dead(self.client, "q", dead.entry_id)

    @invariant()
    def the_job_is_in_one_place(self) -> None:
        numbers = streams.stats(self.client, "q")
        assert numbers.waiting + numbers.in_flight + numbers.dead + self.ended == 1

    @invariant()
    def at_most_one_lease_is_held(self) -> None:
        held = [entry for entry in self._all() if streams.lease_held(self.client, entry.lease_id)]
        assert len(held) <= 1

    def _choice(self, worker: str, late: bool) -> list[Entry]:
        """The worker's latest lease; ``late``: its first, which it may have lost long ago."""
        return self.given[worker][:1] if late else self.given[worker][-1:]

    def _owned(self) -> Entry | None:
        held = [entry for entry in self._all() if streams.lease_held(self.client, entry.lease_id)]
        return held[0] if held else None

    def _all(self) -> list[Entry]:
        return self.given["one"] + self.given["two"]


def test_any_interleaving_of_two_workers_has_one_winner(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TwoWorkers, "client", client, raising=False)
    run_state_machine_as_test(
        TwoWorkers,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_the_machine_can_end_a_job(client: redis.Redis) -> None:
    """The property above is not true for want of ends."""
    publish(client, "job")
    assert ack(client, must_read(client).lease_id) == 1
