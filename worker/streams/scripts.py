"""The Lua scripts: each is a file in ``lua/`` whose header lists its KEYS, ARGV and result."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

READ = ("read",)
ACK = ("ack",)
REQUEUE = ("move", "requeue")
SWEEP = ("move", "sweep")
PURGE = ("purge",)
STATS = ("stats",)
REPLAY = ("replay",)

_FOLDER = Path(__file__).with_name("lua")


@cache
def source(files: tuple[str, ...]) -> str:
    """The script made of these files, in this order, without its comments: EVAL sends it each time."""
    lines = [line for name in files for line in (_FOLDER / f"{name}.lua").read_text().splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))


def run(client: redis.Redis, files: tuple[str, ...], keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a script atomically on the server.

    EVAL, not EVALSHA: after a restart the server knows no hash, and the pipeline or the raw connection
    that sent it has no second try.
    """
    return client.eval(source(files), len(keys), *keys, *args)
