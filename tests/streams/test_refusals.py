"""Which of a server's refusals pass: a write that met one is tried again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from tests.support.redis_server import RedisServer
from worker.patience import is_away

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("by_pipeline", [False, True])
def test_a_server_that_cannot_save_is_waited_for(tmp_path: Path, *, by_pipeline: bool) -> None:
    server = RedisServer(tmp_path).start()
    try:
        with server.client() as client:
            client.set("warm", 1)  # a new connection's pipeline gets the refusal without redis-py's words
            ask = client.pipeline().set("a", 1).execute if by_pipeline else partial(client.set, "a", 1)
            with server.unable_to_save(), pytest.raises(ResponseError) as caught:
                ask()
            assert "MISCONF" in str(caught.value)
            assert is_away(caught.value)
            with pytest.raises(ResponseError) as other:
                client.pipeline().set("list", 1).lpush("list", "MISCONF ").execute()
            assert not is_away(other.value)
    finally:
        server.stop()
