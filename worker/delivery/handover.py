"""A settled result on its way to the bucket that its client named: what an attempt and an operator share.

Loads boto3: for the worker's child and for ``python -m ops deliver``.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from worker.delivery.bucket import object_keys
from worker.delivery.document import Document
from worker.delivery.s3 import create_client, deliver
from worker.errors import DeliveryFailed
from worker.jobs import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.delivery.bucket import Bucket
    from worker.jobs import JobRecord


def hand_over(
    record: JobRecord, stored: Path, bucket: Bucket | None, wait: Callable[[float], None] = time.sleep
) -> list[str]:
    """Put the stored result into the bucket; the s3:// URLs of its two objects. Safe to repeat.

    Raises:
        DeliveryFailed, DeliveryInterrupted: see ``deliver``.
    """
    if bucket is None:
        raise DeliveryFailed("this worker has no bucket: its S3 variables are not set")
    document = Document.model_validate_json(stored.read_bytes())
    locations = object_keys(bucket, owner_of(record), record.s3_path)
    with closing(create_client(bucket)) as client:
        return deliver(document, locations, client, wait=wait)
