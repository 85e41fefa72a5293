"""Files that come, files that go, and files that must stay."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from worker.cache import Cache, remove_expired, remove_orphans
from worker.cache.folder import write_durably
from worker.errors import DiskFull
from worker.jobs import Fence, JobRecord, JobState, JobStore, new_task_id

if TYPE_CHECKING:
    from pathlib import Path

    import redis


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


@pytest.fixture
def store(client: redis.Redis) -> JobStore:
    return JobStore(client, group="celery", expiry_s=100)


def stored(cache: Cache) -> str:
    task_id = new_task_id()
    folder = cache.folder(task_id)
    folder.create()
    folder.input.write_bytes(b"RIFF")
    return task_id


def accepted(cache: Cache, store: JobStore) -> str:
    task_id = stored(cache)
    store.accept(JobRecord(id=task_id, state=JobState.WAITING, created_at=time.time()), max_waiting=10)
    return task_id


def make_old(cache: Cache, task_id: str, age_s: float) -> None:
    folder = cache.folder(task_id).path
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (time.time() - age_s, time.time() - age_s))


@pytest.mark.parametrize("name", ["../../etc", "..", "", "a" * 36, "A" * 8])
def test_only_a_task_id_names_a_folder(cache: Cache, name: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        cache.folder(name)


def test_a_durable_write_leaves_one_whole_file(tmp_path: Path) -> None:
    write_durably(tmp_path / "result.1-0.json", b"one")
    write_durably(tmp_path / "result.1-0.json", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["result.1-0.json"]
    assert (tmp_path / "result.1-0.json").read_bytes() == b"two"


def test_attempts_never_share_a_result_file(cache: Cache) -> None:
    folder = cache.folder(new_task_id())
    assert folder.result("1-0@q:{transcribe}:main") != folder.result("1-1@q:{transcribe}:front")


def test_keeping_the_result_removes_input_and_losers(cache: Cache) -> None:
    folder = cache.folder(stored(cache))
    for name in ("result.1-0.json", "result.2-0.json", "recording.wav"):
        (folder.path / name).write_text("x")
    (folder.path / "engine.d").mkdir()
    (folder.path / "engine.d" / "cache").write_text("x")
    folder.keep_only("result.2-0.json")
    assert [path.name for path in folder.path.iterdir()] == ["result.2-0.json"]


def test_a_disk_without_the_reserve_is_full(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        Cache(tmp_path, min_free_bytes=2**62).require_space()
    with pytest.raises(DiskFull):
        Cache(tmp_path).require_space(2**62)
    Cache(tmp_path).require_space(1)


def test_what_a_full_disk_lacks_is_told_by_its_setting(tmp_path: Path) -> None:
    assert Cache(tmp_path).shortage() is None
    assert "MIN_FREE_BYTES" in (Cache(tmp_path, min_free_bytes=2**62).shortage() or "")


def test_expired_jobs_go_with_record_result_and_files_and_no_others(cache: Cache, store: JobStore) -> None:
    waiting, ended = accepted(cache, store), accepted(cache, store)
    store.fail(ended, code="x", message="x", step="", now=time.time() - 200, fence=Fence.NONE)
    forgotten: list[str] = []
    assert remove_expired(cache, store, time.time(), forgotten.append) == [ended]
    assert forgotten == [ended]
    assert not cache.folder(ended).path.exists()
    assert cache.folder(waiting).input.exists()
    assert store.get(waiting) is not None


def test_only_old_folders_without_a_record_are_orphans(cache: Cache, store: JobStore) -> None:
    uploading, crashed, waiting = stored(cache), stored(cache), accepted(cache, store)
    make_old(cache, crashed, 50)
    make_old(cache, waiting, 50)
    (cache.jobs / "not-ours").mkdir()
    assert remove_orphans(cache, store, grace_s=10) == [crashed]
    assert {name for name, _ in cache.folders()} == {uploading, waiting, "not-ours"}


def test_an_upload_that_goes_on_for_long_is_no_orphan(cache: Cache, store: JobStore) -> None:
    uploading = stored(cache)
    make_old(cache, uploading, 50)
    cache.folder(uploading).input.write_bytes(b"RIFF and more")
    assert remove_orphans(cache, store, grace_s=10) == []
