"""A real S3 server (moto's) as a process on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from ops.stack import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def s3_server(log_path: Path) -> Iterator[str]:
    """Its endpoint's URL."""
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log_path.open("ab") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(port), 30, "the S3 server to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


BUCKET = "results"


@dataclass
class S3Server:
    """One with a bucket, and what a service needs to deliver to it."""

    folder: Path

    def start(self) -> S3Server:
        self._running = s3_server(self.folder / "s3.log")
        self.url = self._running.__enter__()
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",  # noqa: S106  of a test's server
        )
        self.client.create_bucket(Bucket=BUCKET)
        return self

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs to deliver here."""
        return {
            "S3_STORAGE_BUCKET": BUCKET,
            "S3_ENDPOINT_URL": self.url,
            "S3_PREFIX": "team",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t-s3cr3t",
        }

    def keys(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return sorted(str(one["Key"]) for one in found)

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def stop(self) -> None:
        self.client.close()
        self._running.__exit__(None, None, None)
