"""Collected by ``make test-compose`` alone: it needs a container engine, and takes minutes."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TEST_COMPOSE") else ["test_*.py"]
