"""A recording on its way: a multipart body read from the disk block by block, as often as it is sent.

Blocking reads: the client for asyncio takes the blocks in a thread.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import httpcore

from gateway.client.errors import SourceChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    Report = Callable[[int, int | None], object]

BLOCK_BYTES = 256 * 1024
NAMELESS = "recording"


class Upload:
    """The body of one submit, from a path or an open binary file from where it stands.

    ``size_bytes`` of the recording is None where it can't be told (a pipe); then it can be read only once.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        fields: Mapping[str, str],
        progress: Report | None,
    ) -> None:
        self._place = Path(source) if isinstance(source, str | os.PathLike) else source
        self.size_bytes, self._start = measured(self._place)
        self._progress = progress
        self._given_bytes, self._was_read = 0, False
        boundary = secrets.token_hex(16)
        self._head = multipart_head(name_of(self._place), fields, boundary)
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if self.size_bytes is not None:
            self.headers["Content-Length"] = str(len(self._head) + self.size_bytes + len(self._tail))

    @property
    def can_be_read(self) -> bool:
        return self.size_bytes is not None or not self._was_read

    def blocks(self) -> Generator[bytes, None, None]:
        """The whole body, anew; of known size exactly as many bytes as were announced.

        Raises:
            SourceChanged, OSError
        """
        self._given_bytes, self._was_read = 0, True
        yield self._head
        with self._opened() as file:
            while block := file.read(min(BLOCK_BYTES, self._left())):
                self._given_bytes += len(block)
                yield block
        if self.size_bytes is not None and self._left():
            raise SourceChanged(f"the recording became {self._left()} bytes shorter while it was sent")
        yield self._tail

    def report(self) -> None:
        """Tell the caller how much was given away; in the caller's own thread."""
        if self._progress is not None:
            self._progress(self._given_bytes, self.size_bytes)

    def _left(self) -> int:
        return BLOCK_BYTES if self.size_bytes is None else self.size_bytes - self._given_bytes

    def _opened(self) -> AbstractContextManager[IO[bytes]]:
        if isinstance(self._place, Path):
            return self._place.open("rb")
        if self.size_bytes is not None:
            self._place.seek(self._start)
        return nullcontext(self._place)


class Line:
    """The connection of one upload, watched for an answer that comes before the upload's end.

    A service refuses early (413, 415, 401 ...), reads on for a moment and closes. httpx looks for an answer
    only when all is sent; on asyncio the closing then loses the answer, and the caller would hear of a broken
    connection instead of the reason. So the body stops as soon as there is something to read.

    Give ``trace`` (or ``atrace``) to httpx as the extension "trace", on a client that keeps no connections
    alive: only a new one shows its stream.
    """

    def __init__(self) -> None:
        self._stream: Any = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.complete":
            self._stream = None  # readable means little: TLS has messages of its own (session tickets)

    async def atrace(self, event: str, info: dict[str, Any]) -> None:
        self.trace(event, info)

    def require_silence(self) -> None:
        """Called between blocks. Raises httpcore's WriteError, after which httpcore reads the answer."""
        if self._stream is not None and self._stream.get_extra_info("is_readable"):
            raise httpcore.WriteError("the service answered before the upload's end")


def multipart_head(file_name: str, fields: Mapping[str, str], boundary: str) -> bytes:
    """All of the body that comes before the recording: the fields first, so that they are judged first."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{escaped(file_name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(errors="replace")


def escaped(name: str) -> str:
    """A file name inside quotes, as browsers write it (WHATWG HTML, multipart/form-data)."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").replace("\\", "_")


def measured(place: Path | IO[bytes]) -> tuple[int | None, int]:
    """Bytes to send, None where that can't be told, and where they begin. Raises OSError, TypeError."""
    if isinstance(place, Path):
        found = place.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{place} is a folder: name one recording")
        return (found.st_size if stat.S_ISREG(found.st_mode) else None), 0
    if isinstance(place, io.TextIOBase) or not hasattr(place, "read"):
        raise TypeError("the source is a path, a URL or a file opened in binary mode")
    if not place.seekable():
        return None, 0
    start = place.tell()
    return place.seek(0, os.SEEK_END) - start, start


def name_of(place: Path | IO[bytes]) -> str:
    name = place.name if isinstance(place, Path) else getattr(place, "name", None)
    return Path(name).name if isinstance(name, str) else NAMELESS
