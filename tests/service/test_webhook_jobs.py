"""The news of a job's end, from the service's own processes: whoever dies, it is told at least once."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook as Reference

from tests.delivery.receivers import Receiver, answer, hang
from tests.support.service import SAMPLE, START_S, Service
from tests.support.strikes import Gate, Moment
from worker.jobs.keys import WEBHOOKS_DUE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.delivery.receivers import Received

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture
def telling(service: Service) -> Service:
    service.settings |= {
        "ENGINE": "simulated",
        "WEBHOOK_SECRET": SECRET,
        "URL_ALLOW_PRIVATE": "true",
        "MAX_ATTEMPTS": "1",
    }
    service.start_gateway()
    service.start_sweeper()
    return service


def told(received: Received) -> tuple[str, str]:
    body = Reference(SECRET).verify(received.body, received.headers)
    return body["type"], body["data"]["task_id"]


def delivered(service: Service, task_id: str) -> dict[str, Any]:
    def state() -> dict[str, Any] | None:
        found = service.status(task_id)["webhooks"]
        return found[0] if found and found[0]["state"] == "delivered" else None

    webhook: dict[str, Any] = service.wait(state, 30, f"the webhook of {task_id} to be delivered")
    return webhook


def let_claims_run_out(service: Service) -> None:
    with service.redis.client() as client:
        for member in client.zrange(WEBHOOKS_DUE, 0, -1):
            client.zadd(WEBHOOKS_DUE, {member: 0})


def test_a_completed_job_is_told_and_its_status_logs_it(telling: Service) -> None:
    telling.start_worker()
    with Receiver([answer(503), answer(204)]) as receiver:
        task_id = telling.submit(webhook_url=f"{receiver.url}/in?key=hush-hush")
        webhook = delivered(telling, task_id)
    assert [told(one) for one in receiver.received] == 2 * [("job.completed", task_id)]
    assert receiver.received[0].path == "/in?key=hush-hush"
    assert (webhook["event"], webhook["tries"], webhook["next_at"]) == ("job.completed", 2, None)
    assert [one["status"] for one in webhook["log"]] == [503, 204]
    assert not any("hush-hush" in process.log for process in telling.processes)
    with telling.redis.client() as client:
        assert telling.http.delete(f"/release/{task_id}").status_code == 204
        assert client.keys(f"*{task_id}*") == []


def test_a_cancelled_and_a_lost_job_are_told_as_failed(telling: Service, tmp_path: Path) -> None:
    folder = tmp_path / "gate"
    folder.mkdir()
    gate = Gate(folder, Moment.RUNNING)
    with Receiver([answer(200)]) as receiver:
        cancelled = telling.submit(webhook_url=receiver.url)
        telling.http.post(f"/cancel/{cancelled}")
        delivered(telling, cancelled)
        worker = telling.start("worker-struck", "tests.support.strikes", Moment.RUNNING, str(folder))
        lost = telling.submit(webhook_url=receiver.url)
        telling.wait(gate.reached.exists, START_S, "the job to run")
        worker.kill()
        delivered(telling, lost)
    assert telling.status(lost)["error"]["code"] == "worker_lost"
    assert [told(one) for one in receiver.received] == [("job.failed", cancelled), ("job.failed", lost)]


def test_a_sweeper_killed_between_the_post_and_its_bookkeeping(telling: Service) -> None:
    telling.start_worker()
    with Receiver([hang, answer(200)]) as receiver:
        task_id = telling.submit(webhook_url=receiver.url)
        telling.wait(lambda: receiver.received, 30, "the webhook to be sent")
        next(p for p in telling.processes if p.name == "sweeper").kill()
        let_claims_run_out(telling)
        telling.start_sweeper()
        webhook = delivered(telling, task_id)
    assert webhook["tries"] == 2
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_a_worker_killed_right_behind_its_commit_leaves_the_news(telling: Service, tmp_path: Path) -> None:
    folder = tmp_path / "gate"
    folder.mkdir()
    gate = Gate(folder, Moment.COMMITTED)
    with Receiver([answer(200)]) as receiver:
        worker = telling.start("worker-struck", "tests.support.strikes", Moment.COMMITTED, str(folder))
        task_id = telling.submit(webhook_url=receiver.url)
        telling.wait(gate.reached.exists, START_S, "the commit")
        worker.kill()
        delivered(telling, task_id)
    assert {told(one) for one in receiver.received} == {("job.completed", task_id)}


def test_urls_that_are_refused(service: Service) -> None:
    service.settings |= {"ENGINE": "simulated", "WEBHOOK_SECRET": SECRET}
    service.start_gateway()
    for url in ("http://127.0.0.1/", "http://10.0.0.1/", "http://[::1]/", "ftp://example.org/", "nonsense"):
        with SAMPLE.open("rb") as file:
            refused = service.http.post("/transcribe", files={"file": file}, data={"webhook_url": url})
        assert refused.status_code == 422, url
        assert json.loads(refused.text)["errors"][0]["loc"] == ["body", "webhook_url"]
    assert service.files() == []
