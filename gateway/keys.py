"""API keys: who a caller is, told by the SHA-256 of what was sent. Knows neither HTTP nor Redis.

Keys are random and long (``python -m ops key``), so a plain hash is enough to keep them from whoever reads
the settings: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from worker.jobs import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.settings import Settings

PREFIX = "tk_"  # lets scanners of repositories and logs find a key that leaked
SECRET_BYTES = 32
# A name is a part of Redis keys and of paths in a bucket.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENTRY = re.compile(rf"({_NAME.pattern}):([0-9A-Fa-f]{{64}})(:operator)?")


class BadKeys(ValueError):
    """API_KEYS or API_KEYS_FILE can't be meant as it is. The message names the place, never what is there."""


class Role(StrEnum):
    CLIENT = "client"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Caller:
    """Who sends a request. ``name`` owns the jobs that it makes."""

    name: str
    role: Role


@dataclass(frozen=True)
class ApiKey:
    caller: Caller
    digest: bytes


class KeyRing:
    """The keys that are known. Without any the service is open, and everyone is its operator."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    @property
    def is_open(self) -> bool:
        return not self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def caller_of(self, secret: str) -> Caller | None:
        """Whose key this is. Takes the same time for any secret, wrong or right, and whosever it is."""
        digest = hashlib.sha256(secret.encode()).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key.caller
        return found


EVERYONE = Caller(ANONYMOUS, Role.OPERATOR)


def load_keys(settings: Settings) -> KeyRing:
    """The keys of API_KEYS and API_KEYS_FILE together.

    Raises:
        BadKeys: also where a setting is there but has no key in it: that must not open the service.
    """
    inline, path = settings.api_keys.get_secret_value(), settings.api_keys_file
    keys = [*_listed("API_KEYS", inline.split(","))] if inline else []
    if path:
        keys += _listed("API_KEYS_FILE", _lines(Path(path)))
    if len({key.digest for key in keys}) < len(keys):
        raise BadKeys("API_KEYS: the same key is there twice")
    return KeyRing(keys)


def new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def line_of(name: str, secret: str, role: Role) -> str:
    """What goes into API_KEYS or its file for this secret. Raises BadKeys for a name that can't be one."""
    if not _NAME.fullmatch(name):
        raise BadKeys("NAME: use up to 64 letters, digits, '.', '_' and '-', a letter or digit first")
    line = f"{name}:{hashlib.sha256(secret.encode()).hexdigest()}"
    line += f":{role}" if role is Role.OPERATOR else ""
    _parsed(line, "NAME")
    return line


def _listed(setting: str, lines: Iterable[str]) -> Iterator[ApiKey]:
    entries = [(number, text) for number, line in enumerate(lines, 1) if (text := line.strip())]
    if not entries:
        raise BadKeys(f"{setting}: there is no key in it")
    for number, text in entries:
        yield _parsed(text, f"{setting}: entry {number}")


def _lines(path: Path) -> list[str]:
    try:
        return [line.partition("#")[0] for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise BadKeys(f"API_KEYS_FILE: can't be read: {type(exc).__name__}") from exc


def _parsed(text: str, where: str) -> ApiKey:
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise BadKeys(
            f"{where} is not name:sha256 or name:sha256:operator (`python -m ops key NAME` makes one)"
        )
    name, digest, is_operator = match.groups()
    if name == ANONYMOUS:
        raise BadKeys(f"{where}: the name {ANONYMOUS!r} is taken by jobs that were made without keys")
    return ApiKey(Caller(name, Role.OPERATOR if is_operator else Role.CLIENT), bytes.fromhex(digest))
