"""Everybody at once, judged by loadtest.limits: Locust ends with 1 where one does not hold.

    locust -f loadtest/locustfile.py --headless -u 100 -r 20 -t 60s -H https://service.example

``make loadtest`` starts it with a service of its own. LOAD_CLIENT_KEY and LOAD_OPERATOR_KEY are API keys.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started from anywhere

from locust import events

from loadtest.limits import broken_limits
from loadtest.options import add_options, endpoints_of, keep_outcome, limits_of
from loadtest.roles import (
    BOARD,
    Downloader,
    LongUploader,
    Operator,
    Poller,
    ShortUploader,
    UrlSubmitter,
    Watcher,
)

if TYPE_CHECKING:
    from locust.env import Environment

__all__ = [
    "Downloader",
    "LongUploader",
    "Operator",
    "Poller",
    "ShortUploader",
    "UrlSubmitter",
    "Watcher",
]

events.init_command_line_parser.add_listener(add_options)


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    broken = broken_limits(endpoints_of(environment), limits_of(environment.parsed_options))
    if environment.runner:
        broken += [f"a user died: {one['msg']}" for one in environment.runner.exceptions.values()]
    for line in broken:
        logging.getLogger(__name__).error("limit broken: %s", line)
    keep_outcome(environment, BOARD, broken=broken)
    environment.process_exit_code = 1 if broken else 0
