"""What an attempt leaves for the next one: results of finished steps, as files in the job's folder.

    <folder>/<digest of the identity>/<name>.json    a line with a digest of identity, name and JSON; the JSON

A file is trusted only where its digest fits: one that is torn, empty, altered, or another's under a wrong
name counts as none.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from worker.cache.folder import write_durably
from worker.logs import get_logger

if TYPE_CHECKING:
    from pathlib import Path

log = get_logger(__name__)

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class FolderCheckpoints:
    """Implements worker.engines.protocol.Checkpoints. Several attempts may write at once.

    Names are of letters, digits, "-", "_" and "."; any other raises ValueError.

    Args:
        folder: Made when the first result is kept, in the job's folder, which must exist.
        identity: What results depend on; ``recording_id`` of the recording above all.
    """

    folder: Path
    identity: dict[str, object] = field(default_factory=dict)

    def keyed(self, **identity: object) -> FolderCheckpoints:
        return replace(self, identity={**self.identity, **identity})

    def load(self, name: str) -> Any | None:
        path = self._path(name)
        try:
            digest, _, content = path.read_bytes().partition(b"\n")
            if digest != self._digest(name, content):
                log.warning("checkpoint_ignored", name=name)
                return None
            return json.loads(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            log.warning("checkpoint_ignored", name=name, error=type(exc).__name__)
            return None

    def save(self, name: str, value: Any) -> None:
        content = json.dumps(value).encode()  # as ASCII: half a surrogate pair can't be encoded otherwise
        path = self._path(name)
        try:
            # Not the job's folder itself: a released job's must not come back.
            for folder in (self.folder, path.parent):
                folder.mkdir(exist_ok=True)
            write_durably(path, self._digest(name, content) + b"\n" + content)
        except OSError as exc:  # a full disk, or a job released meanwhile: nothing that ends the work
            log.warning("checkpoint_not_kept", name=name, error=type(exc).__name__)

    def _path(self, name: str) -> Path:
        if not _PLAIN.fullmatch(name):
            raise ValueError(f"no plain name: {name!r}")
        return self.folder / hashlib.sha256(self._key()).hexdigest()[:32] / f"{name}.json"

    def _key(self) -> bytes:
        return json.dumps(self.identity, sort_keys=True, default=str).encode()

    def _digest(self, name: str, content: bytes) -> bytes:
        parts = b"\n".join((self._key(), name.encode(), content))
        return hashlib.sha256(parts).hexdigest().encode()


class _NoCheckpoints:
    def keyed(self, **identity: object) -> _NoCheckpoints:  # noqa: ARG002  the protocol's
        return self

    def load(self, name: str) -> Any | None:  # noqa: ARG002  the protocol's
        return None

    def save(self, name: str, value: Any) -> None:
        """Keep nothing."""


NO_CHECKPOINTS = _NoCheckpoints()


def recording_id(recording: Path) -> str:
    """A digest of the recording's content."""
    with recording.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
