"""A service of its own for each test that wants one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    yield running
    running.end()
