"""The images hold no settings file, no private key and no token, neither in files nor in their settings."""

from __future__ import annotations

import json
import subprocess
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from tests.compose.stack import ComposeStack
from tests.support.secret_search import CONTENT, FILE_NAMES, SETTING_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = ("transcription-gateway", "transcription-worker:cpu")
# Where our Dockerfiles write. The rest is the base image's.
OURS = ("app/", "opt/", "home/", "root/", "tmp/", "cache/", "data/", "models/", "run/", "srv/")
LARGEST_BYTES = 20 * 2**20  # above are models and libraries
# Test keys and examples that packages bring along, by the part of the path that names the package.
OF_PACKAGES = ("/tornado/test/", "/botocore/data/", "/boto3/examples/", "/av.libs/libgnutls")


@pytest.fixture(scope="module", autouse=True)
def _built(tmp_path_factory: pytest.TempPathFactory) -> None:
    stack = ComposeStack(tmp_path_factory.mktemp("build"))
    stack.compose("build", "gateway", "worker")
    stack.http.close()


@contextmanager
def files_of(image: str) -> Iterator[tarfile.TarFile]:
    """Its file system, as a stream."""
    container = docker("create", image).strip()
    exporting = subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE)
    try:
        assert exporting.stdout is not None
        with exporting.stdout as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            yield archive
    finally:
        exporting.wait(60)
        docker("rm", container)


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def suspicious(archive: tarfile.TarFile) -> list[str]:
    found = []
    for member in archive:
        if FILE_NAMES.search(member.name):
            found.append(member.name)
        if member.isfile() and member.name.startswith(OURS) and member.size < LARGEST_BYTES:
            content: IO[bytes] | None = archive.extractfile(member)
            is_packages = any(part in f"/{member.name}" for part in OF_PACKAGES)
            if content and not is_packages and CONTENT.search(content.read()):
                found.append(member.name)
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_no_file_holds_a_secret(image: str) -> None:
    with files_of(image) as archive:
        assert suspicious(archive) == []


@pytest.mark.parametrize("image", IMAGES)
def test_neither_does_the_configuration(image: str) -> None:
    told = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert [name for name in told["Env"] if SETTING_NAMES.search(name.partition("=")[0])] == []
    assert not SETTING_NAMES.search(docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image))


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """A search that finds nothing would let everything pass."""
    secrets = {
        "app/.env": "",
        "app/key.pem": "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE" * 9,
        "opt/venv/x.py": f"KEY = 'tk_{'a' * 43}'",
        "root/.netrc": "",
    }
    path = tmp_path / "made.tar"
    with tarfile.open(path, "w") as archive:
        for name, text in {**secrets, "app/plain.py": "x = 1"}.items():
            (tmp_path / "file").write_text(text)
            archive.add(tmp_path / "file", name)
    with tarfile.open(path) as archive:
        assert suspicious(archive) == list(secrets)
