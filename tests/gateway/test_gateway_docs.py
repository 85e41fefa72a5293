"""What docs/errors.md and docs/api.md list is what the gateway has."""

from __future__ import annotations

import re

from gateway.app import create_app
from gateway.error_table import MEANINGS, PAGE, kinds, renewed
from tests.support.service import ROOT
from worker.settings import Settings


def test_the_errors_page_names_every_code_and_no_other() -> None:
    page = (ROOT / PAGE).read_text()
    assert page == renewed(page), "run `python -m gateway.error_table`"
    assert set(MEANINGS) == {kind.code for kind in kinds()}


def test_the_api_page_names_every_endpoint_and_no_other() -> None:
    documented = set(re.findall(r"^## `(\w+ /\S*)`", (ROOT / "docs/api.md").read_text(), re.MULTILINE))
    paths = create_app(Settings()).openapi()["paths"]
    assert documented == {f"{method.upper()} {path}" for path in paths for method in paths[path]}
