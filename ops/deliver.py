"""``python -m ops deliver``: bring a result that was kept here to its client's bucket after all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cache.folder import is_task_id
from worker.delivery.bucket import bucket_of, without_that
from worker.delivery.handover import hand_over
from worker.jobs import JobState
from worker.resources import create_cache, create_client, create_store

if TYPE_CHECKING:
    from worker.jobs import JobRecord, JobStore
    from worker.settings import Settings


class NothingToDeliver(Exception):
    """The job has no result here that belongs into a bucket."""


def run_deliver(settings: Settings, task_id: str) -> list[str]:
    """The s3:// URLs of the job's objects. Safe to repeat, and beside a release: what is gone stays gone.

    Raises:
        NothingToDeliver, DeliveryFailed, DeliveryInterrupted
    """
    store = create_store(settings, create_client(settings))
    record = deliverable(store.get(task_id) if is_task_id(task_id) else None)
    if record.s3_urls:
        return record.s3_urls
    folder = create_cache(settings).folder(task_id)
    try:
        urls = hand_over(record, folder.path / record.result, bucket_of(settings))
    except FileNotFoundError as exc:
        raise NothingToDeliver("its result is no longer in the cache") from exc
    _note(store, record, urls)
    folder.remove()
    return urls


def deliverable(record: JobRecord | None) -> JobRecord:
    if record is None:
        raise NothingToDeliver("there is no job with this task id")
    if not record.s3_path:
        raise NothingToDeliver("the job was submitted without s3_path")
    if record.state is not JobState.COMPLETED:
        raise NothingToDeliver(f"the job is {record.state}: only completed jobs are delivered")
    return record


def _note(store: JobStore, record: JobRecord, urls: list[str]) -> None:
    fields = {"s3_urls": urls, "warnings": without_that(record.warnings)}
    noted = store.note_delivered(record.id, record.result, fields)
    now = store.get(record.id)
    if not noted and not (now and now.s3_urls):
        raise NothingToDeliver("the job was released or has expired meanwhile; its objects are in the bucket")
