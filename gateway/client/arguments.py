"""The command line of ``transcribe``, and what its exit codes mean."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gateway.client.files import format_of
from gateway.client.requests import FORMATS, is_url
from gateway.client.wiring import checked_key, checked_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.client.requests import Format

API_KEY = "TRANSCRIPTION_API_KEY"
SERVER = "http://127.0.0.1:8000"


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    AWAY = 3
    NOT_WRITTEN = 4
    INTERRUPTED = 130


EPILOG = f"""\
environment:
  {API_KEY}    the service's API key, where it wants one

exit codes:
  0    the transcript is written
  1    the job failed, or the service refused it
  2    usage: an option is wrong, or the recording can't be read
  3    the service does not answer, is overloaded, or is no transcription service
  4    the transcript could not be written; the job is kept
  130  interrupted (Ctrl-C); says what has become of the job
"""


@dataclass(frozen=True)
class Order:
    """What the command is to do: transcribe ``source``, or go on with the job ``resume``."""

    source: str
    resume: str
    output: Path | None
    fmt: Format
    server: str
    api_key: str | None = field(repr=False)
    language: str | None
    keep: bool


def read_arguments(argv: Sequence[str], environment: Mapping[str, str]) -> Order:
    """Raises SystemExit (2) with a message for what can't be meant, before anything is sent."""
    parser = _parser()
    given = parser.parse_args(argv)
    output = Path(given.output) if given.output else None
    order = Order(
        source=given.source or "",
        resume=given.resume,
        output=output,
        fmt=cast("Format", given.fmt) or (output and format_of(output)) or "md",
        server=given.server,
        api_key=environment.get(API_KEY) or None,
        language=given.language,
        keep=given.keep,
    )
    try:
        _check(order)
    except (ValueError, OSError) as exc:
        parser.error(str(exc))
    return order


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "transcribe",
        description="Have a recording transcribed: upload it, wait, print the transcript.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="FILE|URL", nargs="?", help="the recording")
    parser.add_argument("-o", "--output", metavar="OUT", help="write to this file instead of stdout")
    parser.add_argument("--fmt", choices=FORMATS, help="default: by OUT's ending, else md")
    parser.add_argument("--server", metavar="URL", default=SERVER, help="default: %(default)s")
    parser.add_argument("--language", metavar="CODE", help="of the recording, such as en; default: heard")
    parser.add_argument("--keep", action="store_true", help="leave the job on the server afterwards")
    parser.add_argument("--resume", metavar="TASK_ID", default="", help="go on with a job instead of FILE")
    return parser


def _check(order: Order) -> None:
    """An hour's work should not end at a folder that is not there."""
    if bool(order.source) == bool(order.resume):
        raise ValueError("name one FILE or URL, or a job with --resume")
    checked_url(order.server)
    if order.api_key is not None:
        checked_key(order.api_key)
    # Without opening it: a pipe can be opened once only.
    if order.source and not is_url(order.source) and not _may(Path(order.source), os.R_OK):
        raise ValueError(f"can't read {order.source}: name one recording")
    target = (order.output or Path(os.devnull)).resolve()
    if target.is_dir() or not _may(target, os.W_OK):
        raise ValueError(f"can't write {target}: name a file in a folder that is there")


def _may(path: Path, mode: int) -> bool:
    """Whether a file may be read, or be written anew beside itself; a pipe or device as it is."""
    is_special = path.exists() and not path.is_file()
    place = path if mode == os.R_OK or is_special else path.parent
    return os.access(place, mode) and not (mode == os.R_OK and path.is_dir())
