"""Every command and snippet of the pages is true: run here against a running stack, or by the test named.

What a page says that a command prints is compared by its shape: the status line, the names in a JSON
document, else its first line.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.elsewhere import COMMANDS, PAGES
from tests.docs.pages import ROOT, RUNNABLE, Block, Command, all_pages, blocks, commands
from tests.support.s3_server import S3Server
from worker.delivery.document import Document

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.conftest import Stack

WRITTEN_FOR = "http://127.0.0.1:8000"
LANGUAGES = {*RUNNABLE, "json", "lua", "text", "yaml"}
WITH_SNIPPETS = [
    page for page in all_pages() if page not in PAGES and any(b.language in RUNNABLE for b in blocks(page))
]
WAITS = ("POST /cancel", "not_finished")  # sections and outputs whose $TASK has not ended


@pytest.mark.parametrize("page", WITH_SNIPPETS)
def test_the_commands_of_a_page_do_what_it_says(
    page: str, stack: Stack, desk: Path, environment: dict[str, str]
) -> None:
    for block in blocks(page):
        if block.language not in {"sh", "console"}:
            continue
        for command in commands(block):
            if command.text not in COMMANDS:
                carry_out(command, stack, desk, environment)


def carry_out(command: Command, stack: Stack, desk: Path, environment: dict[str, str]) -> None:
    is_to_wait = WAITS[0] in command.block.section or WAITS[1] in command.output
    with stack.nobody_works() if is_to_wait else contextlib.nullcontext():
        task_id = ""
        if "$TASK" in command.text:
            task_id = stack.service.submit() if is_to_wait else stack.completed()
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.text.replace(WRITTEN_FOR, stack.url)],
            cwd=desk,
            env={**environment, "TASK": task_id},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    where = f"{command.block.place}: {command.text}\n{ran.stdout}{ran.stderr}"
    assert ran.returncode == 0, where
    problem = difference(command.output, ran.stdout)
    assert problem is None, f"{problem}\n{where}"


def difference(said: str, printed: str) -> str | None:
    """What the page says otherwise than the command; None where they are alike."""
    if not said:
        is_refusal = '"urn:transcription:error:' in printed
        return "the service refused it" if is_refusal else None
    status, said_body = parted(said)
    printed_status, body = parted(printed)
    if status != printed_status:
        return f"it answered {printed_status}, not {status}"
    if said_body.startswith("{"):
        return shape_difference(loosely(said_body), json.loads(body), "")
    first = said_body.partition("\n")[0]
    return None if body.startswith(first) else f"it does not begin with {first!r}"


def parted(text: str) -> tuple[str, str]:
    """The status of an HTTP answer that is shown with its head, and the body."""
    if not text.startswith("HTTP/"):
        return "", text
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    return head.split()[1], body


def loosely(text: str) -> Any:
    """JSON in which … may stand for what is left out."""
    return json.loads(re.sub(r",\s*…", "", text).replace("[…]", "[]"))


def shape_difference(said: Any, printed: Any, path: str) -> str | None:
    """Names that only the page has. It may leave some out, and null stands for anything."""
    if isinstance(said, dict) and isinstance(printed, dict):
        strange = sorted(set(said) - set(printed))
        if strange:
            return f"there is no {path}{strange[0]}"
        parts = [(said[name], printed[name], f"{path}{name}.") for name in said]
    elif isinstance(said, list) and isinstance(printed, list):
        parts = [(said[0], printed[0], path)] if said and printed else []
    else:
        kinds = {type(value) for value in (said, printed) if value is not None}
        is_alike = len(kinds) <= 1 or kinds == {int, float}
        return None if is_alike else f"{path} is no {type(said).__name__}"
    return next((found for part in parts if (found := shape_difference(*part))), None)


@pytest.mark.parametrize("page", [page for page in WITH_SNIPPETS if page != "docs/delivery.md"])
def test_the_python_of_a_page_runs(
    page: str, stack: Stack, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    namespace: dict[str, Any] = {}
    try:
        for block in blocks(page):
            if block.language == "python":
                with stack.nobody_works() if WAITS[0] in block.section else contextlib.nullcontext():
                    execute(block, namespace, WRITTEN_FOR, stack.url)
    finally:
        if "client" in namespace:
            namespace["client"].close()


def test_the_python_of_the_delivery_page_delivers(tmp_path: Path) -> None:
    server = S3Server(tmp_path).start()
    document = Document(task_id="x", engine="e", model="m", language="en", duration_s=1.0, segments=[])
    keys = {"key_id": "x", "secret": "x", "owner": "ann", "s3_path": "calls/1", "document": document}
    try:
        for block in blocks("docs/delivery.md"):
            if block.language == "python":
                execute(block, keys, "https://minio.example", server.url)
        assert server.keys() == ["team/ann/calls/1.json", "team/ann/calls/1.md"]
    finally:
        server.stop()


def execute(block: Block, namespace: dict[str, Any], written_for: str, url: str) -> None:
    code = compile(block.text.replace(written_for, url), block.place, "exec")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, namespace)  # noqa: S102  our own page's


def test_every_block_says_what_it_is() -> None:
    """A block without a language could be a command that nobody runs."""
    odd = [block.place for page in all_pages() for block in blocks(page) if block.language not in LANGUAGES]
    assert odd == []


def test_blocks_that_show_json_are_json() -> None:
    for page in all_pages():
        for block in blocks(page):
            if block.language == "json":
                json.loads(block.text)


def test_what_runs_elsewhere_is_on_a_page_and_is_run() -> None:
    shown = {
        command.text
        for page in all_pages()
        for block in blocks(page)
        if block.language in {"sh", "console"}
        for command in commands(block)
    }
    assert [command for command in COMMANDS if command not in shown] == []
    assert [witness for witness in {*COMMANDS.values(), *PAGES.values()} if not is_there(witness)] == []


def is_there(witness: str) -> bool:
    kind, _, rest = witness.partition(": ")
    if kind == "because":
        return bool(rest)
    if kind == ".ci/run":
        return rest in (ROOT / ".ci/run").read_text().splitlines()
    module, _, name = witness.partition("::")
    path = ROOT / module
    return path.exists() and (not name or f"def {name}(" in path.read_text())


def test_snippets_are_found() -> None:
    """A collector that finds nothing would let everything pass."""
    assert {"README.md", "docs/api.md", "docs/quickstart.md", "docs/operations.md"} <= set(WITH_SNIPPETS)
    api = blocks("docs/api.md")
    sections = {block.section for block in api if block.language == "python"}
    endpoints = {block.section for block in api if re.match(r"`(GET|POST|DELETE) /", block.section)}
    assert endpoints == {name for name in sections if name.startswith("`")}
