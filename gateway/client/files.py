"""A result on its way to the disk: whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.client.requests import FORMATS

if TYPE_CHECKING:
    from gateway.client.requests import Format


def format_of(path: str | os.PathLike[str]) -> Format | None:
    """The format that a file name ends in; None for any other ending."""
    suffix = Path(path).suffix.lower()
    return next((fmt for fmt in FORMATS if suffix == f".{fmt}"), None)


def format_for(path: str | os.PathLike[str], fmt: Format | None) -> Format:
    """The format asked for, else the name's. Raises ValueError where there is neither."""
    chosen = fmt or format_of(path)
    if chosen is None:
        raise ValueError(f"give fmt, or a path that ends in one of {', '.join(FORMATS)}")
    return chosen


def write_atomically(path: str | os.PathLike[str], content: str) -> None:
    """Replace the file (a link's target) by the content: a reader sees the old one or the new one, whole.

    What is no regular file (a pipe, a device) is written as it is.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(content.encode())
        return
    # Beside the target: a rename does not cross file systems. Opened by name, so that the umask holds.
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with beside.open("xb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
