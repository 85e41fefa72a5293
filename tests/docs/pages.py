"""The pages as their parts: fenced blocks, commands in them, headings and links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*) *$")
HEADING = re.compile(r"^#{1,6} +(?P<title>.*?) *$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`[^`\n]+`")
RUNNABLE = ("sh", "console", "python")


@dataclass(frozen=True)
class Block:
    """``section``: the title of the heading it stands under."""

    page: str
    line: int
    section: str
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a shell block, and what the page says that it prints; empty where it says nothing."""

    block: Block
    text: str
    output: str


def all_pages() -> list[str]:
    """Every Markdown file that is ours."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("loadtest/**/*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def read(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    section, start, inside = "", 0, None
    lines = read(page).splitlines()
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if fence and inside is None:
            inside, start = fence["language"], number
        elif fence:
            text = textwrap.dedent("\n".join(lines[start : number - 1]))
            found.append(Block(page, start, section, inside or "", text))
            inside = None
        elif inside is None and (heading := HEADING.match(line)):
            section = heading["title"]
    assert inside is None, f"{page}:{start}: a block without an end"
    return found


def commands(block: Block) -> list[Command]:
    """Of a console block what stands behind ``$``, of a shell block each line; a backslash goes on."""
    text = block.text.replace("\\\n", "\\\0")
    if block.language == "console":
        parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        pairs = [part.partition("\n")[::2] for part in parts]
    else:
        pairs = [(line, "") for line in text.splitlines() if line and not line.startswith("#")]
    return [Command(block, command.replace("\0", "\n").strip(), output.strip()) for command, output in pairs]


def prose(page: str) -> Iterator[str]:
    """Its lines outside of fenced blocks."""
    is_inside = False
    for line in read(page).splitlines():
        if FENCE.match(line):
            is_inside = not is_inside
        elif not is_inside:
            yield line


def links(page: str) -> list[str]:
    return [found["target"] for line in prose(page) for found in LINK.finditer(CODE.sub("`x`", line))]


def anchors(page: str) -> set[str]:
    """What GitHub makes of the page's headings."""
    made: dict[str, int] = {}
    found = set()
    for line in prose(page):
        if heading := HEADING.match(line):
            title = LINK.sub(lambda link: link[0][1:].partition("]")[0], heading["title"])
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            again = made.get(slug, 0)
            made[slug] = again + 1
            found.add(f"{slug}-{again}" if again else slug)
    return found
