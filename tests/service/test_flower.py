"""What Flower shows, and for how long: workers, progress, our streams' lengths, and nothing secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ops.flower_progress import progress_text
from ops.stack import free_port
from tests.service.test_spine import silence
from worker.jobs import JobRecord, JobState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service import Process, Service

PASSWORD = "redis-pass-word"  # noqa: S105  of a test's own server
SECRETS = ("private.wav", PASSWORD, "url-token")
SLOW = {"ENGINE": "simulated", "SIMULATED_SCRIPT": json.dumps({"speed": 4})}
LEVELS = ("front", "high", "normal", "low", "dead letters")


class Flower:
    """Flower as compose runs it, but that its state is saved twice a second."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._port = free_port()
        self._db = service.folder / "flower-state"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=20)

    def start(self) -> Process:
        process = self._service.start(
            "flower",
            *("celery", "-A", "worker", "flower", "--address=127.0.0.1", f"--port={self._port}"),
            *("--conf=ops/flowerconfig.py", "--persistent=True", f"--db={self._db}"),
            "--state_save_interval=500",
            FLOWER_UNAUTHENTICATED_API="true",
        )
        self._service.wait(self._is_up, 30, "Flower")
        return process

    def get(self, path: str, **query: str) -> str:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, (path, answer.status_code)
        return answer.text

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {str(task_id): task for task_id, task in json.loads(self.get("/api/tasks")).items()}

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of the page of tasks, as its script asks for them."""
        query = {"draw": "1", "start": "0", "length": "50", "order[0][column]": "0", "order[0][dir]": "asc"}
        found = json.loads(self.get("/tasks/datatable", **query, **{"columns[0][data]": "uuid"}))
        return {row["uuid"]: row for row in found["data"]}

    def lengths(self) -> dict[str, int]:
        queues = json.loads(self.get("/api/queues/length"))["active_queues"]
        return {queue["name"]: queue["messages"] for queue in queues}

    def saved_at(self) -> int:
        """When its state was last saved, in ns; 0: never."""
        files = self._db.parent.glob(f"{self._db.name}*")
        return max((path.stat().st_mtime_ns for path in files if ".tmp" not in path.name), default=0)

    def wait_until_saved(self) -> None:
        """For the second save from now: the first may have begun before."""
        saves = {self.saved_at()}
        self._service.wait(lambda: saves.add(self.saved_at()) or len(saves) > 2, 10, "the state to be saved")

    def _is_up(self) -> bool:
        try:
            return self.http.get("/healthcheck").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def flower(service: Service) -> Iterator[Flower]:
    made = Flower(service)
    yield made
    made.http.close()


def submit(service: Service, seconds: int, **fields: str) -> str:
    return service.submit(silence(service.folder / "private.wav", seconds), **fields)


def test_it_shows_workers_progress_and_queues_and_nothing_that_is_secret(
    service: Service, flower: Flower
) -> None:
    with service.redis.client() as client:
        client.config_set("requirepass", PASSWORD)
    url = service.redis.url.replace("redis://", f"redis://:{PASSWORD}@")
    service.settings |= SLOW | {
        "REDIS_URL": url,
        "URL_ALLOW_PRIVATE": "true",
        "MAX_ATTEMPTS": "1",
        "URL_TRIES": "1",
        "DRAIN_S": "0",
    }
    service.start_gateway()
    flower.start()
    source = {"url": f"http://127.0.0.1:{free_port()}/private.wav?key=url-token"}
    waiting = [submit(service, 1, priority="high"), submit(service, 1), submit(service, 1, priority="low")]
    # No worker has been here yet: the queue is there all the same.
    counted = {"transcribe": 3, "maintenance": 0, **{f"transcribe: {level}": 0 for level in LEVELS}}
    counted |= {f"transcribe: {level}": 1 for level in ("high", "normal", "low")}
    assert flower.lengths() == counted

    service.start_sweeper()
    service.start_worker("one")
    for task_id in waiting:
        service.wait_for(task_id, "completed")
    failing = service.http.post("/transcribe", json=source).raise_for_status().json()["task_id"]
    service.wait_for(failing, "failed")
    running, behind = submit(service, 120), submit(service, 120)
    progress = "simulate (2 of 2), "
    service.wait(
        lambda: progress in str(flower.rows().get(running, {}).get("result")),
        30,
        f"progress instead of {flower.rows().get(running)}",
    )
    first = percent(flower, running)
    service.wait(lambda: percent(flower, running) > first, 20, "progress to go on")
    assert flower.rows()[running]["state"] == "STARTED"
    assert progress in flower.get(f"/task/{running}")
    assert flower.lengths() == {**dict.fromkeys(counted, 0), "transcribe": 1, "transcribe: normal": 1}
    page = flower.get("/broker")
    for name in counted:
        assert name in page
    service.wait(lambda: "one@test" in flower.get("/api/workers", refresh="1"), 20, "the worker")
    workers = flower.get("/workers")
    assert "one@test" in workers
    assert "sweeper-" in workers

    tasks = flower.tasks()
    assert {*waiting, failing, running, behind} <= set(tasks)
    assert {(task["name"], task["args"], task["kwargs"]) for task in tasks.values()} == {
        ("transcribe", "()", "{}")  # no sweep among them
    }
    paths = [
        "/tasks",
        "/workers",
        "/broker",
        "/metrics",
        "/worker/one@test",
        "/api/tasks",
        "/api/queues/length",
    ]
    paths += [
        f"{page}/{task_id}" for task_id in tasks for page in ("/task", "/api/task/info", "/api/task/result")
    ]
    told = [flower.get(path) for path in paths]
    told += [flower.get("/api/workers", refresh="1"), json.dumps(flower.rows())]
    assert [secret for secret in SECRETS for text in told if secret in text] == []


def percent(flower: Flower, task_id: str) -> float:
    text = str(flower.rows()[task_id]["result"])
    return float(text.partition(", ")[2].partition("%")[0])


def test_it_remembers_its_tasks_and_hears_of_new_ones_whatever_is_restarted(
    service: Service, flower: Flower
) -> None:
    service.settings |= SLOW
    service.start_gateway()
    service.start_worker("one")
    process = flower.start()

    def has_succeeded(task_id: str) -> bool:
        return flower.tasks().get(task_id, {}).get("state") == "SUCCESS"

    first = submit(service, 1)
    service.wait(lambda: has_succeeded(first), 30, "the first job in Flower")
    flower.wait_until_saved()
    process.kill()
    process = flower.start()
    assert has_succeeded(first)
    second = submit(service, 1)
    service.wait(lambda: has_succeeded(second), 30, "a job after the restart")

    service.redis.stop()
    service.redis.start()
    third = submit(service, 1)
    service.wait(lambda: has_succeeded(third), 60, "a job after the restart of Redis")
    assert {first, second} <= set(flower.tasks())


def test_progress_in_words() -> None:
    record = JobRecord(id="a", state=JobState.RUNNING, created_at=0, attempt=1)
    assert progress_text(record) == "begins"
    place = {"step": "transcribe", "step_number": 2, "step_of": 3, "fraction": 0.456, "attempt": 2}
    assert progress_text(record.model_copy(update=place)) == "transcribe (2 of 3), 46%, attempt 2"
