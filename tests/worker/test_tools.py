"""What an attempt works with is what its child has made ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from worker.app import create_app
from worker.settings import Settings
from worker.tasks import tools_of

if TYPE_CHECKING:
    from worker.tools import Tools


def test_the_engine_that_a_child_loads_is_the_one_that_its_attempts_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise each child would hold its model twice."""
    used = []

    def attempt(tools: Tools, _task: object) -> NoReturn:
        used.append(tools.engine("simulated"))
        raise LookupError("enough")

    monkeypatch.setattr("worker.tasks.Attempt", attempt)
    app = create_app(Settings(engine="simulated"))
    tools_of(app).preload()
    loaded = tools_of(app).engine("simulated")
    task = app.tasks["transcribe"]
    task.push_request(id="a", attempt=1, retries=0)
    with pytest.raises(LookupError):
        task.run()
    assert used == [loaded]
    assert used[0] is loaded
