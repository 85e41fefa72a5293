"""GET /jobs and GET /usage."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.callers import ALICE, BOB, CLIENT_KEYS, OPERATOR_KEY, OPS, key
from tests.gateway.jobs import Jobs, started, wav
from worker.heartbeat import WORKERS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service import Service

MANY = 7
UUID = "00000000-0000-4000-8000-000000000000"


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def shared_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = started(tmp_path_factory.mktemp("listing"), API_KEYS=f"{CLIENT_KEYS},{OPERATOR_KEY}")
    yield service
    service.end()


def page(service: Service, secret: str = ALICE, **params: Any) -> dict[str, Any]:
    answer = service.http.get("/jobs", params=params, headers=key(secret))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(found: dict[str, Any]) -> list[str]:
    return [job["task_id"] for job in found["jobs"]]


def every_page(service: Service, **params: Any) -> Iterator[list[str]]:
    cursor: dict[str, str] = {}
    while True:
        found = page(service, **params, **cursor)
        yield ids(found)
        if found["next_cursor"] is None:
            return
        cursor = {"cursor": found["next_cursor"]}


def test_a_caller_without_jobs(guarded: Service, theirs: Jobs) -> None:
    theirs.wait(owner="bob")
    assert page(guarded) == {"jobs": [], "next_cursor": None}


def test_the_callers_jobs_newest_first_in_pages(guarded: Service, theirs: Jobs) -> None:
    made = [theirs.wait(owner="alice", created_at=1000.0 + number) for number in range(MANY)]
    theirs.wait(owner="bob", created_at=1003.5)
    pages = list(every_page(guarded, limit=3))
    assert [len(found) for found in pages] == [3, 3, 1]
    assert [task_id for found in pages for task_id in found] == made[::-1]
    assert list(every_page(guarded, limit=MANY)) == [made[::-1]]


def test_jobs_of_one_moment_are_told_apart(guarded: Service, theirs: Jobs) -> None:
    made = {theirs.wait(owner="alice", created_at=1000.25) for _ in range(MANY)}
    found = [task_id for ids in every_page(guarded, limit=2) for task_id in ids]
    assert len(found) == MANY
    assert set(found) == made


def test_jobs_that_come_move_and_go_meanwhile_change_no_other(guarded: Service, theirs: Jobs) -> None:
    made = [theirs.complete(owner="alice", created_at=1000.0 + number) for number in range(MANY)]
    found: list[str] = []
    for number, ids_of_page in enumerate(every_page(guarded, limit=2)):
        found += ids_of_page
        theirs.wait(owner="alice", created_at=2000.0 + number)
        if number == 0:
            assert theirs.store.release(made[0], "alice")
            assert theirs.store.release(ids_of_page[-1], "alice")  # the one that the cursor names
    assert found == made[:0:-1]


def test_only_jobs_of_one_status(guarded: Service, theirs: Jobs) -> None:
    made = {
        "pending": theirs.wait(owner="alice"),
        "processing": theirs.run(owner="alice"),
        "completed": theirs.complete(owner="alice"),
    }
    failed = theirs.wait(owner="alice")
    assert guarded.http.post(f"/cancel/{failed}", headers=key(ALICE)).status_code == 200
    made["failed"] = failed
    for status, task_id in made.items():
        found = page(guarded, state=status)
        assert (ids(found), found["jobs"][0]["status"]) == ([task_id], status)


def test_a_job_in_the_list_is_as_its_status_tells(guarded: Service, theirs: Jobs) -> None:
    theirs.store.note_speed(1000, 10)
    theirs.client.zadd(WORKERS_KEY, {"w@test": time.time()})
    theirs.wait(owner="alice", size_bytes=500)
    theirs.run(owner="alice")
    theirs.complete(owner="alice")
    for listed in page(guarded)["jobs"]:
        told = guarded.http.get(f"/status/{listed['task_id']}", headers=key(ALICE)).json()
        assert listed == told
    (waiting,) = page(guarded, state="pending")["jobs"]
    assert (waiting["position"], waiting["eta_s"]) == (1, 7.5)


@pytest.mark.parametrize(
    "params",
    [
        {"cursor": "x"},
        {"cursor": "%%%"},
        {"cursor": encoded(f"nan {UUID}")},
        {"cursor": encoded("1.0 x")},
        {"cursor": encoded(UUID)},
        {"limit": 0},
        {"limit": 201},
        {"state": "done"},
        {"cursor": "x" * 200},
    ],
)
def test_what_can_not_be_listed(guarded: Service, params: dict[str, Any]) -> None:
    answer = guarded.http.get("/jobs", params=params, headers=key(ALICE))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["loc"] == ["query", *params]


def test_without_keys_everything_is_listed(served: Service, jobs: Jobs) -> None:
    task_id = jobs.wait()
    assert [job["task_id"] for job in served.http.get("/jobs").json()["jobs"]] == [task_id]
    (usage,) = served.http.get("/usage").json()["owners"]
    assert usage["owner"] == "anonymous"


def test_the_usage_of_each_owner(guarded: Service, theirs: Jobs) -> None:
    assert guarded.http.get("/usage", headers=key(OPS)).json() == {"owners": []}
    theirs.wait(owner="alice", size_bytes=100)
    theirs.run(owner="alice", size_bytes=20)
    theirs.wait(owner="bob", size_bytes=3)
    task_id = theirs.run(owner="bob", size_bytes=400)
    fields = {"result": "result.1.json", "stored_bytes": 40, "duration_s": 12.5}
    theirs.store.complete(task_id, theirs.lease(task_id), now=time.time(), fields=fields)
    none = {"pending": 0, "processing": 0, "completed": 0, "failed": 0}
    alice = {
        "owner": "alice",
        "jobs": {**none, "pending": 1, "processing": 1},
        "stored_bytes": 120,
        "audio_s": 0,
    }
    bob = {
        "owner": "bob",
        "jobs": {**none, "pending": 1, "completed": 1},
        "stored_bytes": 43,
        "audio_s": 12.5,
    }
    assert guarded.http.get("/usage", headers=key(OPS)).json() == {"owners": [alice, bob]}
    assert guarded.http.delete(f"/release/{task_id}", headers=key(BOB)).status_code in {202, 204}
    gone = {**bob, "jobs": {**none, "pending": 1}, "stored_bytes": 3}
    assert guarded.http.get("/usage", headers=key(OPS)).json() == {"owners": [alice, gone]}


def test_the_usage_is_the_operators(guarded: Service) -> None:
    answer = guarded.http.get("/usage", headers=key(ALICE))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_cancelled_job_holds_no_bytes(guarded: Service) -> None:
    answer = guarded.http.post("/transcribe", files={"file": wav(1000)}, headers=key(ALICE))
    (usage,) = guarded.http.get("/usage", headers=key(OPS)).json()["owners"]
    assert usage["stored_bytes"] == 1000
    guarded.http.post(f"/cancel/{answer.json()['task_id']}", headers=key(ALICE))
    (usage,) = guarded.http.get("/usage", headers=key(OPS)).json()["owners"]
    assert (usage["stored_bytes"], usage["jobs"]["failed"]) == (0, 1)
