"""Status, download, release and queue, for jobs in every state."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.jobs import Jobs, document
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import httpx

    from tests.support.service import Service

UNKNOWN = "5f0c41a2-3d1e-4a7b-9c66-0d9a2be14f33"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_the_status_of_a_waiting_job(served: Service, jobs: Jobs) -> None:
    jobs.wait(created_at=1000.5)
    task_id = jobs.wait(created_at=2000.0)
    assert served.http.get(f"/status/{task_id}").json() == {
        "task_id": task_id,
        "status": "pending",
        "progress": None,
        "position": 2,
        "eta_s": None,
        "created_at": "1970-01-01T00:33:20Z",
        "started_at": None,
        "ended_at": None,
        "expires_at": None,
        "attempt": 0,
        "partial": False,
        "warnings": [],
        "error": None,
        "s3_urls": [],
        "webhooks": [],
        "links": {
            "status": f"/status/{task_id}",
            "download": f"/download/{task_id}",
            "release": f"/release/{task_id}",
        },
    }


def test_the_status_of_a_running_job(served: Service, jobs: Jobs) -> None:
    task_id = jobs.run()
    progress = {"step": "transcribe", "step_number": 2, "step_of": 2, "fraction": 0.25, "eta_s": 12.5}
    assert jobs.store.report(task_id, jobs.lease(task_id), progress)
    status = served.http.get(f"/status/{task_id}").json()
    assert (status["status"], status["attempt"], status["position"]) == ("processing", 1, None)
    assert status["progress"] == {
        "step": "transcribe",
        "number": 2,
        "of": 2,
        "fraction": 0.25,
        "eta_s": 12.5,
    }


def test_the_status_of_ended_jobs(served: Service, jobs: Jobs) -> None:
    completed = served.http.get(f"/status/{jobs.complete()}").json()
    assert (completed["status"], completed["error"]) == ("completed", None)
    ended, expires = (datetime.fromisoformat(completed[name]) for name in ("ended_at", "expires_at"))
    assert abs((datetime.now(UTC) - ended).total_seconds()) < 60
    assert (expires - ended).total_seconds() == 3600
    failed = served.http.get(f"/status/{jobs.fail()}").json()
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "not_audio", "message": "no audio in it", "step": "convert"}


@pytest.mark.parametrize("path", ["/status/{}", "/download/{}", "/release/{}"])
@pytest.mark.parametrize(
    "task_id", [UNKNOWN, UNKNOWN.upper(), "x", "..", "%2e%2e%2fetc%2fpasswd", f"{UNKNOWN}%00", "*"]
)
def test_unknown_ids_are_not_found(served: Service, path: str, task_id: str) -> None:
    method = "DELETE" if "release" in path else "GET"
    assert code(served.http.request(method, path.format(task_id))) == (404, "not_found")


def test_released_and_expired_jobs_are_gone(served: Service, jobs: Jobs) -> None:
    released = jobs.complete()
    assert served.http.delete(f"/release/{released}").status_code == 204
    expired = jobs.complete()
    assert jobs.store.expire(expired, time.time() + 7200)
    for task_id in (released, expired):
        assert code(served.http.get(f"/status/{task_id}")) == (410, "gone")
        assert code(served.http.get(f"/download/{task_id}")) == (410, "gone")
        assert code(served.http.delete(f"/release/{task_id}")) == (410, "gone")


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/json"),
        ("", "text/markdown", "text/markdown; charset=utf-8"),
        ("", "text/markdown;q=0.5, application/json", "application/json"),
        ("", "application/json;q=0.2, text/markdown;q=0.7", "text/markdown; charset=utf-8"),
        ("", "text/markdown;q=0", "application/json"),
        ("", "text/markdown;q=x, image/png", "application/json"),
        ("?fmt=json", "text/markdown", "application/json"),
        ("?fmt=md", "application/json", "text/markdown; charset=utf-8"),
        ("?fmt=srt", "*/*", "application/x-subrip; charset=utf-8"),
        ("?fmt=vtt", "*/*", "text/vtt; charset=utf-8"),
        ("?fmt=txt", "text/markdown", "text/plain; charset=utf-8"),
    ],
)
def test_which_format_is_sent(served: Service, jobs: Jobs, query: str, accept: str, media_type: str) -> None:
    answer = served.http.get(f"/download/{jobs.complete()}{query}", headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["cache-control"] == "private, no-cache"


def test_the_document_is_sent_as_it_is_stored(served: Service, jobs: Jobs) -> None:
    stored = document(UNKNOWN, language="日本語")
    answer = served.http.get(f"/download/{jobs.complete(stored)}?fmt=json")
    assert answer.json() == stored


def test_markdown_is_rendered(served: Service, jobs: Jobs) -> None:
    text = served.http.get(f"/download/{jobs.complete()}?fmt=md").text
    assert text.startswith("# Transcribed recording\n")
    assert "- Good morning." in text


def test_captions_and_text_are_rendered(served: Service, jobs: Jobs) -> None:
    task_id = jobs.complete()
    srt, vtt, txt = (served.http.get(f"/download/{task_id}?fmt={fmt}").text for fmt in ("srt", "vtt", "txt"))
    assert srt.startswith("1\n00:00:00,000 --> 00:00:01,500\nAnn: Good morning.\n")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n<v Ann>Good morning.\n")
    assert txt.startswith("Ann: Good morning.")


@pytest.mark.parametrize(
    ("file_name", "disposition"),
    [
        ("standup.wav", "attachment; filename=\"standup.json\"; filename*=UTF-8''standup.json"),
        (
            "会議.wav",
            "attachment; filename=\"__.json\"; filename*=UTF-8''%E4%BC%9A%E8%AD%B0.json",
        ),
        ('a";b.wav', "attachment; filename=\"a__b.json\"; filename*=UTF-8''a%22%3Bb.json"),
    ],
)
def test_what_the_download_is_called(served: Service, jobs: Jobs, file_name: str, disposition: str) -> None:
    answer = served.http.get(f"/download/{jobs.complete(file_name=file_name)}")
    assert answer.headers["content-disposition"] == disposition


def test_without_a_name_the_download_is_called_by_its_id(served: Service, jobs: Jobs) -> None:
    task_id = jobs.complete()
    answer = served.http.get(f"/download/{task_id}?fmt=md")
    assert f'filename="{task_id}.md"' in answer.headers["content-disposition"]


def test_downloads_that_are_refused(served: Service, jobs: Jobs) -> None:
    for task_id in (jobs.wait(), jobs.run()):
        answer = served.http.get(f"/download/{task_id}")
        assert code(answer) == (409, "not_finished")
        assert int(answer.headers["retry-after"]) >= 1
    failed = served.http.get(f"/download/{jobs.fail()}")
    assert code(failed) == (409, "job_failed")
    assert "not_audio: no audio in it" in failed.json()["detail"]


def test_an_unknown_format_is_named(served: Service, jobs: Jobs) -> None:
    answer = served.http.get(f"/download/{jobs.complete()}?fmt=docx")
    assert code(answer) == (422, "invalid_request")
    (error,) = answer.json()["errors"]
    assert error["loc"] == ["query", "fmt"]
    assert "'json', 'md', 'srt', 'vtt' or 'txt'" in error["msg"]


@pytest.mark.parametrize("fmt", ["json", "md", "srt"])
def test_a_result_that_is_missing(served: Service, jobs: Jobs, fmt: str) -> None:
    task_id = jobs.complete()
    jobs.folder(task_id).remove()
    assert code(served.http.get(f"/download/{task_id}?fmt={fmt}")) == (500, "result_missing")


def traces(jobs: Jobs, task_id: str) -> list[str]:
    """Keys and values of Redis that name the job, the queue's own messages apart."""
    found = []
    for key in jobs.client.scan_iter():
        kind = jobs.client.type(key)
        readers: dict[str, Any] = {
            "hash": jobs.client.hgetall,
            "string": jobs.client.get,
            "zset": lambda name: jobs.client.zrange(name, 0, -1),
        }
        if task_id in f"{key} {readers[kind](key) if kind in readers else ''}":
            found.append(key)
    return found


def test_release_leaves_nothing(served: Service, jobs: Jobs) -> None:
    for task_id in (jobs.wait(), jobs.complete(), jobs.fail()):
        jobs.client.set(f"celery-task-meta-{task_id}", '{"status": "SUCCESS", "result": null}')
        answer = served.http.delete(f"/release/{task_id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert not jobs.folder(task_id).path.exists()
        assert not traces(jobs, task_id)


def test_release_right_after_the_end_leaves_nothing_either(served: Service, jobs: Jobs) -> None:
    task_id = jobs.commit()
    lease = jobs.lease(task_id)

    def worker() -> None:
        wait_until(lambda: jobs.store.is_gone(task_id), 5, "the release")
        jobs.client.set(f"celery-task-meta-{task_id}", '{"status": "SUCCESS", "result": null}')
        jobs.let_go(lease)

    thread = threading.Thread(target=worker)
    thread.start()
    assert served.http.delete(f"/release/{task_id}").status_code == 204
    thread.join()
    assert not traces(jobs, task_id)


def test_release_of_a_running_job_waits_for_its_worker(served: Service, jobs: Jobs) -> None:
    task_id = jobs.run()
    lease = jobs.lease(task_id)

    def worker() -> None:
        wait_until(lambda: jobs.store.is_gone(task_id), 5, "the release")
        jobs.let_go(lease)

    thread = threading.Thread(target=worker)
    thread.start()
    assert served.http.delete(f"/release/{task_id}").status_code == 204
    thread.join()
    assert not jobs.folder(task_id).path.exists()


def test_release_of_a_running_job_whose_worker_does_not_confirm(served: Service, jobs: Jobs) -> None:
    task_id = jobs.run()
    answer = served.http.delete(f"/release/{task_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "stopping")
    assert not jobs.folder(task_id).path.exists()
    assert code(served.http.delete(f"/release/{task_id}")) == (410, "gone")


def test_a_repeated_release_finishes_one_that_was_cut_short(served: Service, jobs: Jobs) -> None:
    task_id = jobs.complete()
    jobs.store.release(task_id)
    assert jobs.folder(task_id).path.exists()
    assert code(served.http.delete(f"/release/{task_id}")) == (410, "gone")
    assert not jobs.folder(task_id).path.exists()


def test_the_queue(served: Service, jobs: Jobs) -> None:
    none = {"high": 0, "normal": 0, "low": 0}
    empty = {"waiting": 0, "waiting_by_priority": none, "processing": 0, "oldest_waiting_age_s": None}
    assert served.http.get("/queue").json() == empty
    jobs.wait(created_at=time.time() - 100)
    jobs.wait()
    jobs.run()
    queue = served.http.get("/queue").json()
    assert (queue["waiting"], queue["processing"]) == (2, 1)
    assert 100 <= queue["oldest_waiting_age_s"] < 160
